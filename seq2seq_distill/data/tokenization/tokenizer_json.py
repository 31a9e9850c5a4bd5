"""tokenizer.json for tokenizers of SentencePiece that have none: Marian's and M2M100's."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, processors
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.languages import TARGET_TOKEN, special_tokens, target_tokens
from seq2seq_distill.data.tokenization.sentencepiece_rules import SPACE, SentencePieceRules
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.utils.errors import ModelError, format_value

logger = logging.getLogger(__name__)

BATCH = 2000
"""Texts that are compared at once: the encodings of `tokenizers` take much memory."""
FLOAT32_ROUNDING = 2.0**-24
"""The largest relative error of one addition in single precision."""


@dataclass(frozen=True)
class TokenizerJson:
    """How a tokenizer.json was compared with the tokenizer that it stands for."""

    texts: int
    """Different texts that were compared."""
    ties: int
    """Of them, those that are cut otherwise, into pieces of the same total score; see `write_tokenizer_json`."""
    with_special_tokens: int
    """Different texts that were left out, because they name special tokens."""


def write_tokenizer_json(
    folder: Path, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], wanted_by: str
) -> TokenizerJson | None:
    """Write a tokenizer.json, after it was compared on texts; None where the tokenizer is saved with one anyway.

    All texts must be encoded alike, but for ties: SentencePiece adds scores up in single precision from the start of a
    text, and where two ways to cut it have equal scores ("00" + "0" and "0" + "00"), what stands before decides by its
    rounding. `tokenizers` adds up in double precision, where the longest last piece wins.

    Texts that name special tokens are left out: programs in other languages read these as tokens.

    Args:
        folder: in which the tokenizer is saved.
        tokenizer: its languages are set.
        texts: sources; not read where the tokenizer is saved with one anyway.
        wanted_by: opens a message.

    Raises:
        ModelError: there is no way to make one, or a text is encoded otherwise.
    """
    if tokenizer.is_fast:
        return None
    made, rules = _tokenizer(tokenizer, wanted_by)
    compared = 0
    ties: list[str] = []
    others: list[str] = []
    distinct = list(dict.fromkeys(texts))
    for batch in _without_special_tokens(distinct, tokenizer):
        compared += len(batch)
        rows = zip(batch, TextEncoder(tokenizer).encode(batch).ids, made.encode_batch_fast(batch), strict=True)
        unequal = [(text, ids, encoding.ids) for text, ids, encoding in rows if ids != encoding.ids]
        for text, ids, made_ids in unequal:
            (ties if _is_tie(ids, made_ids, made, rules) else others).append(text)
    if others:
        raise ModelError(
            f"{wanted_by}: tokenizer.json, which programs in other languages read, would encode {len(others)} of "
            f"{compared} texts otherwise than {type(tokenizer).__name__}, such as {format_value(others[0])}: choose "
            "`format` ctranslate2"
        )
    if ties:
        logger.warning(
            "tokenizer.json cuts %d of %d texts otherwise than %s, at equal scores, such as %s",
            *(len(ties), compared, type(tokenizer).__name__, format_value(ties[0])),
        )
    made.save(str(folder / "tokenizer.json"))
    return TokenizerJson(compared, len(ties), len(distinct) - compared)


def _without_special_tokens(texts: Sequence[str], tokenizer: Any) -> Iterator[list[str]]:
    """Batches of texts without special tokens and target tokens, but for a known target token that opens a text."""
    patterns = [*map(re.escape, special_tokens(tokenizer)), TARGET_TOKEN.pattern]
    if hasattr(tokenizer, "remove_language_code"):
        patterns.append(r"\A>>[\s\S]*<<")  # Marian's class takes any such opening for a target token
    special = re.compile("|".join(patterns))
    targets = [re.escape(token) for token in target_tokens(tokenizer, "marian").values()]
    opening = re.compile(rf"\A(?:{'|'.join(targets) or '(?!)'})")
    for start in range(0, len(texts), BATCH):
        yield [t for t in texts[start : start + BATCH] if not special.search(opening.sub("", t))]


def _is_tie(ids: Sequence[int], others: Sequence[int], made: Tokenizer, rules: SentencePieceRules) -> bool:
    """Whether two ways to cut a text have scores that single precision cannot tell apart, wherever they part."""
    if not rules.is_unigram:
        return False
    cuts = [[str(made.id_to_token(token)) for token in row] for row in (ids, others)]
    for before, *parts in _unlike_parts(*cuts):
        if "".join(parts[0]) != "".join(parts[1]):
            return False
        first, second, reached = (sum(map(rules.score, part)) for part in (*parts, before))
        rounding = FLOAT32_ROUNDING * sum(map(len, parts)) * abs(reached + min(first, second))
        if abs(first - second) > rounding:
            return False
    return True


def _unlike_parts(first: list[str], second: list[str]) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The shortest parts in which two ways to cut a text differ, each after what stands before it in the first."""
    at = other = 0
    while at < len(first) and other < len(second):
        end, other_end = at + 1, other + 1
        length, other_length = len(first[at]), len(second[other])
        while length != other_length and max(end - len(first), other_end - len(second)) < 0:
            if length < other_length:
                length, end = length + len(first[end]), end + 1
            else:
                other_length, other_end = other_length + len(second[other_end]), other_end + 1
        if first[at:end] != second[other:other_end]:
            yield first[:at], first[at:end], second[other:other_end]
        at, other = end, other_end
    if first[at:] != second[other:]:
        yield first[:at], first[at:], second[other:]


def _tokenizer(tokenizer: Any, wanted_by: str) -> tuple[Tokenizer, SentencePieceRules]:
    name = type(tokenizer).__name__
    if name == "MarianTokenizer":
        if tokenizer.separate_vocabs:
            raise ModelError(
                f"{wanted_by} cannot hold a tokenizer with a vocabulary for each side: choose `format` ctranslate2"
            )
        model, head = tokenizer.spm_source, []
    elif name == "M2M100Tokenizer":
        model, head = tokenizer.sp_model, [tokenizer.get_lang_token(tokenizer.src_lang)]
    else:
        raise ModelError(f"{wanted_by} cannot hold a {name}, which has no tokenizer.json: choose `format` ctranslate2")
    specials = [*special_tokens(tokenizer), *target_tokens(tokenizer, "marian").values()]
    rules = SentencePieceRules(model, tokenizer.encoder, str(tokenizer.unk_token), specials)
    made = Tokenizer(rules.model())
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in _in_order(specials, tokenizer)]
    )
    made.normalizer = rules.normalizer()
    made.pre_tokenizer = rules.pre_tokenizer()
    made.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    ends = [tokenizer.eos_token]
    made.post_processor = processors.TemplateProcessing(
        single=[*head, "$A", *ends], special_tokens=[(t, tokenizer.convert_tokens_to_ids(t)) for t in [*head, *ends]]
    )
    return made, rules


def _in_order(tokens: Sequence[str], tokenizer: Any) -> list[str]:
    """By id: tokens behind the vocabulary get their ids in the order in which they are added."""
    return sorted(tokens, key=tokenizer.convert_tokens_to_ids)
