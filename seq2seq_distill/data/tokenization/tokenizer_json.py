"""tokenizer.json for tokenizers of SentencePiece that have none: Marian's and M2M100's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.languages import special_tokens, target_tokens
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.utils.errors import ModelError, format_value

logger = logging.getLogger(__name__)

SPACE = "▁"
"""SentencePiece's mark of a space."""
UNUSED, UNUSED_LETTER = -1e9, -1e6
"""Scores of pieces that the source's model does not have; single letters come out of it as they are."""


TOLERATED = 0.001
"""Share of texts that may be encoded otherwise: where two ways to cut a text have equal scores, libraries part ways."""


@dataclass(frozen=True)
class TokenizerJson:
    """How a tokenizer.json compares with the tokenizer that it stands for."""

    texts: int
    """Different texts that were compared."""
    unequal: int
    """Of them, those that are encoded otherwise."""


def write_tokenizer_json(
    folder: Path, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], wanted_by: str
) -> TokenizerJson | None:
    """Write a tokenizer.json, after it was compared on texts; None where the tokenizer is saved with one anyway.

    Texts that name special tokens are left out: programs in other languages read these as tokens.

    Args:
        folder: in which the tokenizer is saved.
        tokenizer: its languages are set.
        texts: sources.
        wanted_by: opens a message.

    Raises:
        ModelError: there is no way to make one, or too many texts are encoded otherwise.
    """
    if tokenizer.is_fast:
        return None
    made, specials = _tokenizer(tokenizer, wanted_by), special_tokens(tokenizer)
    texts = [text for text in dict.fromkeys(texts) if not any(token in text for token in specials)]
    rows = zip(texts, TextEncoder(tokenizer).encode(texts).ids, made.encode_batch(texts), strict=True)
    unequal = [text for text, ids, encoding in rows if ids != encoding.ids]
    if unequal:
        logger.warning("tokenizer.json encodes %d of %d texts otherwise: %s", len(unequal), len(texts), unequal[0])
    if len(unequal) > TOLERATED * len(texts):
        raise ModelError(
            f"{wanted_by}: tokenizer.json, which programs in other languages read, would encode "
            f"{format_value(unequal[0])} otherwise than {type(tokenizer).__name__}: choose `format` ctranslate2"
        )
    made.save(str(folder / "tokenizer.json"))
    return TokenizerJson(len(texts), len(unequal))


def _tokenizer(tokenizer: Any, wanted_by: str) -> Tokenizer:
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
    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model.serialized_model_proto())
    specials = [*special_tokens(tokenizer), *target_tokens(tokenizer, "marian").values()]
    made = Tokenizer(_unigram(tokenizer.encoder, {piece.piece: piece.score for piece in proto.pieces}, tokenizer))
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in _in_order(specials, tokenizer)]
    )
    made.normalizer = _normalizer(proto.normalizer_spec)
    made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    made.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    ends = [tokenizer.eos_token]
    made.post_processor = processors.TemplateProcessing(
        single=[*head, "$A", *ends], special_tokens=[(t, tokenizer.convert_tokens_to_ids(t)) for t in [*head, *ends]]
    )
    return made


def _in_order(tokens: Sequence[str], tokenizer: Any) -> list[str]:
    """By id: tokens behind the vocabulary get their ids in the order in which they are added."""
    return sorted(tokens, key=tokenizer.convert_tokens_to_ids)


def _unigram(ids: Mapping[str, int], scores: Mapping[str, float], tokenizer: Any) -> models.Unigram:
    ranked = sorted(ids, key=ids.__getitem__)
    vocabulary = [(token, scores.get(token, UNUSED_LETTER if len(token) == 1 else UNUSED)) for token in ranked]
    return models.Unigram(vocabulary, unk_id=ids[tokenizer.unk_token], byte_fallback=False)


def _normalizer(spec: Any) -> normalizers.Normalizer:
    parts: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        parts.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        parts += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    return normalizers.Sequence(parts)
