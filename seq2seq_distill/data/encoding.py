"""Tokenise a data set once into a memory-mapped cache, and collate its rows into batches."""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import transformers
from datasets import Dataset
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.arrow_files import is_intact, not_written, open_arrow, write_arrow
from seq2seq_distill.data.languages import base_language, target_prefix, target_tokens
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.data.text_encoder import TextEncoder
from seq2seq_distill.data.tokenizers import tokenizer_fingerprint
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ModelError, format_value
from seq2seq_distill.utils.files import cache_root

logger = logging.getLogger(__name__)

EMPTY_ROW = -1
BATCH_ROWS = 5000
LOG_SECONDS = 30
"""Between two lines that tell how far encoding is."""
_FORMAT = 2  # raised when the files' meaning changes, so that older ones are not read
_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("source_truncated", pa.bool_()),
        ("target_truncated", pa.bool_()),
        ("source_unknown", pa.int32()),
        ("target_unknown", pa.int32()),
        ("source_lost", pa.string()),
        ("target_lost", pa.string()),
    ]
)


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

    Returns:
        Row by row in the order of `dataset`: `input_ids` and `labels` (lists of ints without padding),
        `source_truncated` and `target_truncated` (bool), `source_unknown` and `target_unknown` (numbers of unknown
        tokens), `source_lost` and `target_lost` (the characters without a token, each once).

    Raises:
        DataError: the cache cannot be written.
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
    }
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    path = (cache_dir or default_cache_dir()) / f"{key}.arrow"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one encodes, and the others wait
            if not is_intact(path, _SCHEMA):
                source_encoder = TextEncoder(tokenizer, "text", max_source_length, prefix)
                target_encoder = TextEncoder(tokenizer, "text_target", max_target_length)
                write_arrow(path, _SCHEMA, _encode(dataset, (source_encoder, target_encoder)))
    except OSError as error:
        raise not_written(path.parent, error) from None
    return open_arrow(path)


def default_cache_dir() -> Path:
    """`encoded` in $SEQ2SEQ_DISTILL_CACHE, or else in ~/.cache/seq2seq_distill."""
    return cache_root() / "encoded"


def truncation_shares(encoded: Dataset) -> tuple[float, float]:
    """Shares (0 to 1) of the sources and of the targets that were truncated."""
    rows = max(len(encoded), 1)
    return sum(encoded["source_truncated"][:]) / rows, sum(encoded["target_truncated"][:]) / rows


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


def default_prefix(
    model_config: PreTrainedConfig,
    task: str,
    explicit: str | None,
    languages: tuple[str | None, str | None] = (None, None),
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> str:
    """The prefix of each source.

    `explicit` if it is not None, else what the model's config says for the task (for translation: for the two
    languages), else the config's general prefix, else the token of the target language, where the model writes several
    (`tokenizer` knows them), else nothing.

    Raises:
        ConfigError: the model writes several languages, and the target language is none of them.
    """
    if explicit is not None:
        return explicit
    specific = task_params(model_config, task, languages)
    prefix = specific.get("prefix") or getattr(model_config, "prefix", None) or ""
    if not isinstance(prefix, str):
        raise ModelError(
            f"{_place(model_config)}: the prefix {format_value(prefix)} is not text: correct it, or set "
            "the prefix explicitly"
        )
    tokens = target_tokens(tokenizer, model_config.model_type) if tokenizer is not None and not prefix else {}
    if tokens and languages[1] is not None:
        return target_prefix(tokens, languages[1])
    if tokens:
        _warn_of_target_tokens(tuple(sorted(tokens.values())))
    return prefix


@cache  # each model of a run asks for its prefix
def _warn_of_target_tokens(tokens: tuple[str, ...]) -> None:
    logger.warning(
        "the model writes several languages, and reads the one that is wanted at the start of each source: set "
        "`tgt_lang` or the prefix, unless sources open with one of %s",
        ", ".join(tokens[:6]) + (", ..." if len(tokens) > 6 else ""),
    )


def task_params(
    model_config: PreTrainedConfig, task: str, languages: tuple[str | None, str | None] = (None, None)
) -> dict[str, Any]:
    """The task-specific options in a model's config (for translation, of the language pair): prefix, beams, ..."""
    name = task
    if task == "translation" and all(languages):
        name = "translation_{}_to_{}".format(*(base_language(language or "") for language in languages))
    params = getattr(model_config, "task_specific_params", None) or {}
    options = params.get(name) or {} if isinstance(params, dict) else params
    if not isinstance(options, dict):
        raise ModelError(
            f"{_place(model_config)}: task_specific_params {format_value(params)} does not map {name} to "
            "a set of options: correct it"
        )
    return options


def _place(model_config: PreTrainedConfig) -> str:
    return f"config.json of {getattr(model_config, 'name_or_path', '') or 'the model'}"


class Collator:
    """Pad rows of one batch into tensors.

    Args:
        pad_token_id: fills `input_ids`; labels are filled with -100.
        extras: further inputs of the family; "global_attention_mask" (LED) is 1 on the first token alone.
        pad_to_multiple_of: round both widths up to a multiple of it.

    A call takes dicts with `input_ids`, `row` and, where there are targets, `labels`. It gives int64 tensors
    `input_ids`, `attention_mask` [B,S], `labels` [B,T], `row` [B] and the extras [B,S]. An empty list gives
    one row that counts nowhere: a single pad token that is attended to (attention over nothing is NaN),
    labels -100 and row -1.
    """

    def __init__(self, pad_token_id: int, extras: tuple[str, ...] = (), pad_to_multiple_of: int | None = None) -> None:
        unknown = set(extras) - {"global_attention_mask"}
        if unknown:
            raise ValueError(f"unknown extra inputs: {', '.join(sorted(unknown))}")
        self.pad_token_id = pad_token_id
        self.extras = extras
        self.multiple = pad_to_multiple_of or 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        rows = rows or [{"input_ids": [self.pad_token_id], "labels": [], "row": EMPTY_ROW}]
        sources = [row["input_ids"] for row in rows]
        batch = {
            "input_ids": self._pad(sources, self.pad_token_id),
            "attention_mask": self._mask([len(ids) for ids in sources]),
        }
        if "labels" in rows[0]:
            batch["labels"] = self._pad([row["labels"] for row in rows], IGNORE_INDEX)
        batch["row"] = torch.tensor([row["row"] for row in rows], dtype=torch.int64)
        if "global_attention_mask" in self.extras:
            batch["global_attention_mask"] = torch.zeros_like(batch["input_ids"])
            batch["global_attention_mask"][:, 0] = 1
        return batch

    def _width(self, longest: int) -> int:
        width = max(1, longest)
        return width + -width % self.multiple

    def _pad(self, rows: Sequence[Sequence[int] | NDArray[np.integer]], value: int) -> Tensor:
        padded = np.full((len(rows), self._width(max(map(len, rows)))), value, dtype=np.int64)
        for index, row in enumerate(rows):
            padded[index, : len(row)] = row
        return torch.from_numpy(padded)

    def _mask(self, lengths: Sequence[int]) -> Tensor:
        places = np.arange(self._width(max(lengths)))
        return torch.from_numpy((places < np.array(lengths)[:, None]).astype(np.int64))


def _encode(dataset: Dataset, encoders: tuple[TextEncoder, TextEncoder]) -> Iterator[pa.RecordBatch]:
    literal: dict[str, list[int]] = {"source": [], "target": []}
    begin = logged = time.monotonic()
    for start in range(0, len(dataset), BATCH_ROWS):
        if time.monotonic() - logged > LOG_SECONDS:
            logged = time.monotonic()
            rate = start / (logged - begin)
            line = "encoded %d of %d rows, %d a second, %.0f minutes left"
            logger.info(line, start, len(dataset), rate, (len(dataset) - start) / rate / 60)
        texts = dataset[start : start + BATCH_ROWS]
        source, target = (
            encoder.encode(texts[side]) for side, encoder in zip(("source", "target"), encoders, strict=True)
        )
        for side, encoded in (("source", source), ("target", target)):
            literal[side] += [start + row for row in encoded.literal_specials]
        columns = [getattr(side, name) for name in ("ids", "truncated", "unknown", "lost") for side in (source, target)]
        yield pa.record_batch(columns, schema=_SCHEMA)
    for side, rows in literal.items():
        if rows:
            logger.warning(
                "%d %ss contain the names of special tokens, which this tokenizer reads as the tokens themselves: "
                "rows %s; rewrite them",
                len(rows),
                side,
                ", ".join(str(row + 1) for row in rows[:10]) + (", ..." if len(rows) > 10 else ""),
            )
