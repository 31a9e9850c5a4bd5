"""Encode the rows of a split: in parts, which worker processes share, and which survive a kill."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.arrow_files import is_intact, read_arrow, write_arrow
from seq2seq_distill.data.noise.subwords import SubwordSampler
from seq2seq_distill.data.noise.variants import Variant
from seq2seq_distill.data.tokenization.text_encoder import EncodedTexts, TextEncoder
from seq2seq_distill.utils.forked import map_forked
from seq2seq_distill.utils.progress import Progress

BATCH_ROWS = 5000
PART_ROWS = 25_000
"""Rows that a kill costs, at most, of each worker."""
THREADS_VARIABLE = "TOKENIZERS_PARALLELISM"


@dataclass(frozen=True)
class Encoders:
    """What encodes sources and targets."""

    source: TextEncoder
    target: TextEncoder
    sampler: SubwordSampler | None = None
    """Of the source's subwords, where these are sampled."""

    def noisy(
        self, variant: Variant, first: int, sources: list[str], targets: list[str]
    ) -> tuple[list[EncodedTexts], list[bool]]:
        """The rows from `first` on in a noisy form, both sides, and whether each has the tokens of its own target.

        A row whose noisy form has unknown tokens where its own text has none stays as it is.
        """
        forms = variant.texts(first, sources, targets)
        changed = [row for row, target in enumerate(forms[1]) if target != targets[row]]
        known, lost = [True] * len(targets), set()
        for encoder, clean, other in zip((self.source, self.target), (sources, targets), forms, strict=True):
            before, after = (encoder.encode([texts[row] for row in changed]) for texts in (clean, other))
            pairs = zip(changed, before.unknown, after.unknown, before.ids, after.ids, strict=True)
            for row, was, now, ids, others in pairs:
                if now > was:
                    lost.add(row)
                if encoder is self.target:
                    known[row] = ids == others
        for row in lost:
            forms[0][row], forms[1][row], known[row] = sources[row], targets[row], True
        sampler = self.sampler
        resample = None if sampler is None else lambda row, ids: sampler.sample(ids, variant.rng(first + row))
        return [self.source.encode(forms[0], resample), self.target.encode(forms[1])], known


@dataclass(frozen=True)
class EncodingJob:
    """The rows of a split and how to encode them.

    Args:
        dataset: with the columns "source" and "target".
        tokenizer: its languages are set.
        prefix: put before each source.
        max_source_length, max_target_length: in tokens.
        workers: number of processes that encode; where all rows fit in a part, number of threads.
        variant: the noisy form of the rows to encode in place of their own texts.
    """

    dataset: Dataset
    tokenizer: PreTrainedTokenizerBase
    prefix: str
    max_source_length: int
    max_target_length: int
    workers: int
    variant: Variant | None = None

    @cached_property  # each part asks for it, and a vocabulary of 250,000 pieces takes a while to list
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
                *(() if self.variant is None else (("distilled", pa.bool_()),)),
            ]
        )

    def write(self, path: Path) -> None:
        """Encode all rows into a file; an interrupted call goes on from its last whole parts."""
        parts = path.with_suffix(".parts")
        with Progress("encoding", len(self.dataset)) as progress:
            if len(self.dataset) <= PART_ROWS:
                batches = self._batches(range(len(self.dataset)), self._encoders(self.workers))
                write_arrow(path, self.schema, progress.counted(batches))
                return
            parts.mkdir(exist_ok=True)
            end = len(self.dataset)
            rows_of_parts = [range(start, min(start + PART_ROWS, end)) for start in range(0, end, PART_ROWS)]
            files = {rows: parts / f"{rows.start:012d}.part" for rows in rows_of_parts}
            missing = [rows for rows, file in files.items() if not is_intact(file, self.schema)]
            progress.skip(end - sum(map(len, missing)))
            encoders = self._encoders(threads=1)

            def encode_part(rows: range) -> None:
                write_arrow(files[rows], self.schema, self._batches(rows, encoders))

            with _one_thread_each():
                for rows in map_forked(encode_part, missing, self.workers):
                    progress.advance(len(rows))
        write_arrow(path, self.schema, itertools.chain.from_iterable(map(read_arrow, files.values())))
        rmtree(parts)

    def _encoders(self, threads: int) -> Encoders:
        source = TextEncoder(self.tokenizer, "text", self.max_source_length, self.prefix, threads=threads)
        target = TextEncoder(self.tokenizer, "text_target", self.max_target_length, threads=threads)
        strength = 0.0 if self.variant is None else self.variant.noise.subword_sampling
        return Encoders(source, target, SubwordSampler(self.tokenizer, strength) if strength else None)

    def _batches(self, rows: range, encoders: Encoders) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        for start in range(rows.start, rows.stop, BATCH_ROWS):
            texts = self.dataset[start : min(start + BATCH_ROWS, rows.stop)]
            sources, targets = texts["source"], texts["target"]
            if self.variant is None:
                sides = [encoders.source.encode(sources), encoders.target.encode(targets)]
                extra = []
            else:
                sides, distilled = encoders.noisy(self.variant, start, sources, targets)
                extra = [distilled]
            names = ("truncated", "unknown", "lost", "literal")
            ids = [side.rows.to_arrow(schema.field("labels").type) for side in sides]
            columns = [*ids, *(getattr(side, name) for name in names for side in sides), *extra]
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
