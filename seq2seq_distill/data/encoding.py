"""Tokenise a data set once into a memory-mapped cache, and say what was cut or lost on the way."""

import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.compute as pc
import transformers
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.arrow_files import is_intact, not_written, open_arrow
from seq2seq_distill.data.encoding_job import EncodingJob
from seq2seq_distill.data.noise.variants import Variant
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_fingerprint
from seq2seq_distill.utils.distributed import num_local_cores
from seq2seq_distill.utils.files import cache_root
from seq2seq_distill.utils.locks import locked

logger = logging.getLogger(__name__)

_FORMAT = 3  # raised when the files' meaning changes, so that older ones are not read


def encode_split(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prefix: str = "",
    max_source_length: int,
    max_target_length: int,
    cache_dir: Path | None,
    languages: tuple[str | None, str | None] = (None, None),
    key: str | None = None,
    workers: int | None = None,
    variant: Variant | None = None,
) -> Dataset:
    """Tokenise the columns "source" and "target" into an Arrow file, which is memory-mapped.

    Args:
        dataset: texts, as `load_split` gives them.
        tokenizer: its languages are set already; targets are read by its target side.
        prefix: put before each source ("summarize: ").
        max_source_length, max_target_length: in tokens, special tokens included; longer texts lose their end,
            not the special tokens.
        cache_dir: folder of the cache files; by default `default_cache_dir()`.
        languages: source and target language.
        key: stands for the texts; by default their hash.
        workers: number of processes that encode; by default one for each core of this process.
        variant: a noisy form of the texts, to be encoded in place of their own.

    Returns:
        Row by row in the order of `dataset`: `input_ids` and `labels` (lists of ints without padding, in the narrowest
        type that holds the vocabulary), `source_truncated` and `target_truncated` (bool), `source_unknown` and
        `target_unknown` (numbers of unknown tokens), `source_lost` and `target_lost` (the characters without a token,
        each once), `source_literal` and `target_literal` (whether a special token's name was read as that token). Of
        a noisy form also `distilled` (whether the target is that of the data, as the teacher knows it).

    Raises:
        DataError: the cache cannot be written.
        RunError: a process that encodes was killed.
    """
    options = {
        "format": _FORMAT,
        "transformers": transformers.__version__,
        "data": key or fingerprint(dataset),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "prefix": prefix,
        "max_source_length": max_source_length,
        "max_target_length": max_target_length,
        "languages": languages,
        **({} if variant is None else {"variant": variant.key}),
    }
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    path = (cache_dir or default_cache_dir()) / f"{key}.arrow"
    lengths = max_source_length, max_target_length
    job = EncodingJob(dataset, tokenizer, prefix, *lengths, workers or num_local_cores(), variant)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), "encoding these texts"):
            is_new = not is_intact(path, job.schema)
            if is_new:
                job.write(path)
    except OSError as error:
        raise not_written(path.parent, error) from None
    encoded = open_arrow(path)
    if is_new and variant is None:
        _warn_of_literal_specials(encoded)
    return encoded


def default_cache_dir() -> Path:
    """`encoded` in $SEQ2SEQ_DISTILL_CACHE, or else in ~/.cache/seq2seq_distill."""
    return cache_root() / "encoded"


def truncation_shares(encoded: Dataset) -> tuple[float, float]:
    """Shares (0 to 1) of the sources and of the targets that were truncated."""
    source, target = (pc.mean(encoded.data.column(f"{side}_truncated")).as_py() for side in ("source", "target"))
    return source or 0.0, target or 0.0


@dataclass(frozen=True)
class UnknownTokens:
    """What the tokenizer does not know of one side of a split."""

    share: float
    """Of all tokens, 0 to 1."""
    characters: tuple[str, ...]
    """Those without a token, of the most rows first; at most ten."""


def unknown_tokens(encoded: Dataset, side: Literal["source", "target"]) -> UnknownTokens:
    """What the tokenizer does not know of the sources or targets of a split."""
    table = encoded.data.table
    ids = table["input_ids" if side == "source" else "labels"]
    tokens = pc.sum(pc.list_value_length(ids)).as_py() or 1
    lost = table[f"{side}_lost"]
    rows = Counter("".join(lost.filter(pc.not_equal(lost, "")).to_pylist()))
    return UnknownTokens(
        (pc.sum(table[f"{side}_unknown"]).as_py() or 0) / tokens,
        tuple(character for character, _ in rows.most_common(10)),
    )


def _warn_of_literal_specials(encoded: Dataset) -> None:
    for side in ("source", "target"):
        rows = np.flatnonzero(encoded.data.column(f"{side}_literal").to_numpy())
        if len(rows):
            logger.warning(
                "%d %ss contain the names of special tokens, which this tokenizer reads as the tokens themselves: "
                "rows %s; rewrite them",
                len(rows),
                side,
                ", ".join(str(row + 1) for row in rows[:10]) + (", ..." if len(rows) > 10 else ""),
            )
