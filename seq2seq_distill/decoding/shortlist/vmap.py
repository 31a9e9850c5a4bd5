"""CTranslate2's file of a shortlist, and the settings of generation that it cannot be used with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import language_tokens
from seq2seq_distill.decoding.shortlist.candidates import CandidateRanks, Shortlist
from seq2seq_distill.models import forward
from seq2seq_distill.shrink.token_ids import named_ids
from seq2seq_distill.utils.errors import ConfigError, format_value
from seq2seq_distill.utils.files import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VMAP = "vmap.txt"
"""Name of the file, which CTranslate2 finds by it."""
_OFF = {"no_repeat_ngram_size": 0, "repetition_penalty": 1.0, "suppress_tokens": None, "bad_words_ids": None}


def first_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the tokens that decoding asks for by name: starts and ends, the unknown token, languages.

    They must have the first rows of a vocabulary with a shortlist, and be candidates always. CTranslate2 (4.8.5) keeps
    the places that tokens had among the candidates of earlier batches; only for these they are still right then.
    """
    roles = [getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "unk", "pad")]
    vocabulary = tokenizer.get_vocab()
    languages = [vocabulary[token] for token in language_tokens(tokenizer)]
    found = {*named_ids(model), *languages, *(token for token in roles if token is not None)}
    size = len(forward.output_head(model).weight)
    return sorted(token for token in found if token < size)


def write_vmap(
    folder: Path, ranks: CandidateRanks, shortlist: Shortlist, vocabularies: tuple[Sequence[str], Sequence[str]]
) -> None:
    """Write the candidates of each source piece, and under the empty key those of every source.

    A line is `piece<TAB>candidate candidate ...`; a space or a tab in a piece would be read as the end of it.

    Args:
        folder: of the converted model.
        ranks, shortlist: from which the candidates follow.
        vocabularies: the tokens of sources and of targets, by id, as the model names them. CTranslate2 would take a
            candidate that is not among them for the unknown token, without a word.
    """
    sources, targets = vocabularies
    lines = [("", ranks.always(shortlist.frequent))]
    lines += [(sources[source], candidates) for source, candidates in ranks.lines(shortlist.frequent, shortlist.best)]
    text = "".join(f"{key}\t{' '.join(targets[target] for target in candidates)}\n" for key, candidates in lines)
    write_text(folder / VMAP, text)


def check_settings(generation: GenerationConfig, shortlist: str, remedy: str) -> None:
    """Raise ConfigError for settings of generation that CTranslate2 gets wrong with a shortlist.

    They look tokens up by their places among the candidates, and CTranslate2 (4.8.5) never forgets the places that
    tokens had in earlier batches. Those of the first tokens of the vocabulary alone do not change.

    Args:
        generation: the settings.
        shortlist: what they cannot be used with, in the message.
        remedy: ends the message.
    """
    found: dict[str, Any] = {}
    if generation.no_repeat_ngram_size:
        found["no_repeat_ngram_size"] = generation.no_repeat_ngram_size
    if generation.repetition_penalty not in (None, 1.0):
        found["repetition_penalty"] = generation.repetition_penalty
    if generation.suppress_tokens:
        found["suppress_tokens"] = generation.suppress_tokens
    if bad_words := [ids for ids in generation.bad_words_ids or () if ids != [generation.pad_token_id]]:
        found["bad_words_ids"] = bad_words
    if found:
        off = json.dumps({name: _OFF[name] for name in found})
        settings = ", ".join(f"{name} {format_value(value, 40)}" for name, value in found.items())
        raise ConfigError(
            f"`generate`: {settings} cannot be used with {shortlist}: set `generate` '{off}', or {remedy}"
        )
