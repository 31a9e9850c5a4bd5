"""The texts of a run: all splits of all its sources, joined."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xxhash
from datasets import Dataset, concatenate_datasets

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.parquet import read_teacher_targets
from seq2seq_distill.data.sources import (
    ANY_COLUMNS,
    files_of_split,
    fingerprint,
    first_rows,
    has_split,
    is_file,
    map_split,
)
from seq2seq_distill.utils.constants import SPLITS
from seq2seq_distill.utils.errors import DataError

KEYED = "xxh3:"
"""Opens a fingerprint that is made of the keys of the splits."""


@dataclass(frozen=True)
class Texts:
    """Source and target texts of the splits, in the order in which they were read."""

    splits: dict[str, Dataset]
    """train, val and test, each with the columns "source" and "target"."""
    sizes: tuple[int, ...]
    """Number of training rows of each source, in order."""
    keys: Mapping[str, str]
    """Stand for the texts of each split."""
    sources: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    """Of each split the sources in order, and how many rows were read of each; a split may have fewer."""

    @property
    def fingerprint(self) -> str:
        """Stands for all texts."""
        return KEYED + "-".join(self.keys[split][:16] for split in SPLITS)

    def teacher_targets(self, split: str) -> list[str] | None:
        """What the teachers of label sets wrote for the rows of a split; None where a row is of other data."""
        found: list[str] = []
        for source, rows in self.sources.get(split, ()):
            parts = [read_teacher_targets(file) for file in files_of_split(source, split) or ()]
            texts = [text for part in parts if part is not None for text in part]
            if len(texts) != rows:
                return None
            found += texts
        return found[: len(self.splits[split])] or None

    def are_those_of(self, before: str) -> bool:
        """Whether a fingerprint is that of these texts; runs of before version 0.2 had a hash over the texts."""
        if before.startswith(KEYED):
            return before == self.fingerprint
        return before == "-".join(fingerprint(self.splits[split])[:16] for split in SPLITS)


def join_keys(keys: Sequence[str], limit: int | None = None) -> str:
    """The key of texts that are joined, and of which there are `limit` rows at most."""
    return xxhash.xxh3_128_hexdigest(json.dumps([*keys, limit]).encode())


def load_texts(config: RunConfig, sources: Sequence[str]) -> Texts:
    """Read and check all splits of all sources.

    Every source must have a training split, except those of weight 0, whose training split is not read. Validation
    and test splits are taken from the sources that have them; at least one must.

    Raises:
        DataError: a source or split is missing or wrong; the line names the first such place.
    """
    weights = config.data_weights or [1.0] * len(sources)
    used = {split: [source for source in sources if has_split(source, split)] for split in ("val", "test")}
    used["train"] = [source for source, weight in zip(sources, weights, strict=True) if weight]
    columns = Columns(config.encode.source_column, config.encode.target_column, config.src_lang, config.tgt_lang)
    parts = {
        # Where no source has the split, the error about the first source says what is missing.
        split: [map_split(source, split, columns, verify=config.encode.verify) for source in used[split] or sources]
        for split in SPLITS
    }
    limits = {"train": config.encode.n_train, "val": config.eval.n_val, "test": config.eval.n_test}
    datasets = {split: [dataset for dataset, _ in parts[split]] for split in SPLITS}
    splits = {split: first_rows(concatenate_datasets(datasets[split]), limits[split]) for split in SPLITS}
    training_parts = iter(datasets["train"])
    counts = [len(next(training_parts)) if weight else 0 for weight in weights]
    ends = np.minimum(np.cumsum([0, *counts]), len(splits["train"]))
    keys = {split: join_keys([key for _, key in parts[split]], limits[split]) for split in SPLITS}
    rows = {
        split: [(source, len(part)) for source, part in zip(used[split], datasets[split], strict=True)]
        for split in SPLITS
    }
    return Texts(splits, tuple(np.diff(ends).tolist()), keys, rows)


def map_rows(sources: Sequence[str], split: str, columns: Columns = ANY_COLUMNS) -> tuple[Dataset, str]:
    """The columns source and target of a split, of all sources that have it, in order, memory-mapped; the column source
    alone, where `columns` allows it and a source has no targets. And a hash that stands for the texts.

    Files without a folder or hub data set among them have no splits: their rows are the data, whatever the split.

    Raises:
        DataError: a source cannot be read, none has the split, or it has no rows.
    """
    places = [demo.data_source(name) for name in sources]
    split = "train" if all(map(is_file, places)) else split
    having = [place for place in places if has_split(place, split)]
    # Where no source has the split, the error about the first source says what is missing.
    parts, keys = zip(*(map_split(place, split, columns) for place in having or places[:1]), strict=True)
    sides = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    rows = concatenate_datasets([part.select_columns(sides) for part in parts])
    if not len(rows):
        raise DataError(f"`data` {' '.join(sources)}: the {split} split has no examples: give another source")
    return rows, join_keys([*keys, *sides])
