"""Chunks of targets with the likelihoods that their writer gave them, aligned once into a memory-mapped cache."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.arrow_files import is_intact, not_written, open_arrow, write_arrow
from seq2seq_distill.data.chunks.alignment import align
from seq2seq_distill.data.length_batches import lengths
from seq2seq_distill.data.readers.parquet import has_token_logprobs, read_token_logprobs
from seq2seq_distill.data.sources import files_of_split
from seq2seq_distill.data.token_columns import TokenColumn
from seq2seq_distill.data.tokenization.offsets import TargetOffsets
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_fingerprint
from seq2seq_distill.utils.files import cache_root
from seq2seq_distill.utils.locks import locked

logger = logging.getLogger(__name__)

CHUNK_SPLITS = ("train", "val")
"""Splits that losses are computed on."""
BATCH_ROWS = 5000
FORMAT = 1
"""Raised when the same label set and tokenizer give other chunks."""
CHUNK_FIELDS = ("chunk", "chunk_logprobs")
"""Columns of the cache, and fields of a batch."""
_TYPES = (pa.list_(pa.int32()), pa.list_(pa.float32()))
SCHEMA = pa.schema(list(zip(CHUNK_FIELDS, _TYPES, strict=True)))

_NONE = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
Tokens = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Log-probabilities and ends of a target's tokens."""


def encode_chunks(
    texts: Dataset,
    encoded: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[tuple[str, int]],
    split: str,
    *,
    key: str,
    cache_dir: Path | None = None,
) -> Dataset | None:
    """Align the tokens of targets with those of the model that wrote them.

    Args:
        texts: of the split, as they were read.
        encoded: the same rows, as the student's tokenizer encodes them.
        tokenizer: the student's.
        sources: of the split, with the number of rows of each, in order; at least as many rows as there are texts.
        split: train, val or test.
        key: stands for the texts and for what their sources hold besides.
        cache_dir: folder of the cache file; by default that of encoded rows.

    Returns:
        Row by row `chunk` (for each label the number of its chunk in the row, or -1) and `chunk_logprobs`, both as
        `align` gives them; empty lists for a row without log-probabilities. None where no source has any.

    Raises:
        DataError: a label set is damaged, or the cache cannot be written.
        ModelError: the tokenizer tells no offsets.
    """
    files = [(source, rows, files_of_split(source, split) or []) for source, rows in sources]
    if not any(map(_has_logprobs, chain.from_iterable(found for _, _, found in files))):
        return None
    options = {
        "format": FORMAT,
        "transformers": transformers.__version__,
        "data": key,
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "lengths": hashlib.sha256(lengths(encoded, "labels").tobytes()).hexdigest(),  # where targets were cut
    }
    name = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()
    path = (cache_dir or cache_root() / "encoded") / f"{name}.chunks"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), "aligning log-probabilities of labels"):
            if not is_intact(path, SCHEMA):
                teacher = chain.from_iterable(_teacher_tokens(*part) for part in files)
                write_arrow(path, SCHEMA, _aligned(texts, encoded, TargetOffsets(tokenizer), teacher))
    except OSError as error:
        raise not_written(path.parent, error) from None
    return open_arrow(path)


def without_chunks(rows: int) -> Dataset:
    """So many rows without chunks."""
    return Dataset(pa.table([pa.array([[]] * rows, field.type) for field in SCHEMA], schema=SCHEMA))


def chunk_columns(chunks: Dataset) -> tuple[TokenColumn, TokenColumn]:
    """The columns of `encode_chunks`, to be read row by row."""
    return TokenColumn(chunks, "chunk"), TokenColumn(chunks, "chunk_logprobs")


def collate_chunks(
    columns: tuple[TokenColumn, TokenColumn], rows: Sequence[int], shape: tuple[int, int]
) -> dict[str, Tensor]:
    """The chunks of a batch: `chunk` [B, T], for each label the number of its chunk in the batch, or -1, int64; and
    `chunk_logprobs` [C], the log-probability of each chunk, float32."""
    numbers = np.full(shape, -1, dtype=np.int64)
    logprobs: list[NDArray[Any]] = [np.zeros(0, dtype=np.float32)]
    before = 0
    for index, row in enumerate(rows):
        own = columns[0][row]
        numbers[index, : len(own)] = np.where(own < 0, -1, own + before)
        logprobs.append(columns[1][row])
        before += len(logprobs[-1])
    return {"chunk": torch.from_numpy(numbers), "chunk_logprobs": torch.from_numpy(np.concatenate(logprobs))}


def _has_logprobs(file: Path) -> bool:
    return file.suffix == ".parquet" and has_token_logprobs(file)


def _teacher_tokens(source: str, rows: int, files: Sequence[Path]) -> Iterator[Tokens | None]:
    """Of each row of a source."""
    if not any(map(_has_logprobs, files)):
        yield from repeat(None, rows)
        return
    for file in files:
        where = f"`data` {source}: {file}"
        if _has_logprobs(file):
            yield from read_token_logprobs(where, file)
        else:
            yield from repeat(None, pyarrow.parquet.read_metadata(file).num_rows)


def _aligned(
    texts: Dataset, encoded: Dataset, offsets: TargetOffsets, teacher: Iterator[Tokens | None]
) -> Iterator[pa.RecordBatch]:
    labels = TokenColumn(encoded, "labels")
    counts = dict.fromkeys(("rows", "other", "chunks", "tokens"), 0)
    for start in range(0, len(texts), BATCH_ROWS):
        targets = texts[start : start + BATCH_ROWS]["target"]
        known = list(islice(teacher, len(targets)))
        rows = [number for number, tokens in enumerate(known) if tokens is not None]
        ends = offsets.ends([targets[row] for row in rows], (labels[start + row] for row in rows))
        found: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = [_NONE] * len(targets)
        for row, own in zip(rows, ends, strict=True):
            tokens = known[row]
            assert tokens is not None
            if own is None:
                counts["other"] += 1
                continue
            found[row] = align(targets[row], tokens[1], tokens[0], own)
            counts["rows"] += bool(len(found[row][1]))
            counts["chunks"] += len(found[row][1])
            counts["tokens"] += len(own)
        columns = [pa.array([row[side] for row in found], field.type) for side, field in enumerate(SCHEMA)]
        yield pa.record_batch(columns, schema=SCHEMA)
    logger.info(
        "log-probabilities of labels: %d of %d rows have chunks, of %.1f tokens each",
        counts["rows"],
        len(texts),
        counts["tokens"] / max(1, counts["chunks"]),
    )
    if counts["other"]:
        logger.warning("%d targets read otherwise than their tokens, and have no chunks", counts["other"])
