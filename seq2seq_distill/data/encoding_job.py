"""Encode the rows of a split: in parts, which worker processes share, and which survive a kill."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.arrow_files import is_intact, read_arrow, write_arrow
from seq2seq_distill.data.text_encoder import TextEncoder
from seq2seq_distill.utils.forked import map_forked
from seq2seq_distill.utils.progress import progress

BATCH_ROWS = 5000
PART_ROWS = 25_000
"""Rows that a kill costs, at most, of each worker."""
THREADS_VARIABLE = "TOKENIZERS_PARALLELISM"


@dataclass(frozen=True)
class EncodingJob:
    """The rows of a split and how to encode them.

    Args:
        dataset: with the columns "source" and "target".
        tokenizer: its languages are set.
        prefix: put before each source.
        max_source_length, max_target_length: in tokens.
        workers: number of processes that encode; where all rows fit in a part, number of threads.
    """

    dataset: Dataset
    tokenizer: PreTrainedTokenizerBase
    prefix: str
    max_source_length: int
    max_target_length: int
    workers: int

    @property
    def schema(self) -> pa.Schema:
        """Of the encoded rows: ids as the narrowest integers that hold the vocabulary."""
        largest = max(len(self.tokenizer) - 1, *self.tokenizer.get_vocab().values())
        ids = pa.list_(pa.from_numpy_dtype(np.min_scalar_type(largest)))
        return pa.schema(
            [
                *(("input_ids", ids), ("labels", ids)),
                *(("source_truncated", pa.bool_()), ("target_truncated", pa.bool_())),
                *(("source_unknown", pa.int32()), ("target_unknown", pa.int32())),
                *(("source_lost", pa.string()), ("target_lost", pa.string())),
                *(("source_literal", pa.bool_()), ("target_literal", pa.bool_())),
            ]
        )

    def write(self, path: Path) -> None:
        """Encode all rows into a file; an interrupted call goes on from its last whole parts."""
        parts = path.with_suffix(".parts")
        with progress("encoded", len(self.dataset)) as advance:
            if len(self.dataset) <= PART_ROWS:
                write_arrow(path, self.schema, self._batches(range(len(self.dataset)), self._encoders(self.workers)))
                return
            parts.mkdir(exist_ok=True)
            starts = range(0, len(self.dataset), PART_ROWS)
            files = [parts / f"{start:012d}.part" for start in starts]
            missing = [start for start, file in zip(starts, files, strict=True) if not is_intact(file, self.schema)]
            advance((len(starts) - len(missing)) * PART_ROWS)
            encoders = self._encoders(threads=1)

            def encode_part(start: int) -> None:
                rows = range(start, min(start + PART_ROWS, len(self.dataset)))
                write_arrow(parts / f"{start:012d}.part", self.schema, self._batches(rows, encoders))

            with _one_thread_each():
                for _ in map_forked(encode_part, missing, self.workers):
                    advance(PART_ROWS)
        write_arrow(path, self.schema, itertools.chain.from_iterable(map(read_arrow, files)))
        rmtree(parts)

    def _encoders(self, threads: int) -> tuple[TextEncoder, TextEncoder]:
        return (
            TextEncoder(self.tokenizer, "text", self.max_source_length, self.prefix, threads=threads),
            TextEncoder(self.tokenizer, "text_target", self.max_target_length, threads=threads),
        )

    def _batches(self, rows: range, encoders: tuple[TextEncoder, TextEncoder]) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        for start in range(rows.start, rows.stop, BATCH_ROWS):
            texts = self.dataset[start : min(start + BATCH_ROWS, rows.stop)]
            sides = [encoder.encode(texts[side]) for side, encoder in zip(("source", "target"), encoders, strict=True)]
            names = ("truncated", "unknown", "lost", "literal")
            ids = [side.rows.to_arrow(schema.field("labels").type) for side in sides]
            columns = [*ids, *(getattr(side, name) for name in names for side in sides)]
            yield pa.record_batch(columns, schema=schema)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep the Rust library from starting threads in processes that share the cores already."""
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = "false"
    try:
        yield
    finally:
        del os.environ[THREADS_VARIABLE]
        if before is not None:
            os.environ[THREADS_VARIABLE] = before
