"""The rows of a label set: which are labelled, which only get the target of another, and which are held out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from seq2seq_distill.training.labels.distinct_sources import DistinctSources, Numbers, sources_file


@dataclass(frozen=True)
class LabelRows:
    """The rows of a label set."""

    dataset: Dataset
    """All of them, with the columns "source" and, where there are references, "target"."""
    key: str
    """Stands for the texts."""
    distinct: DistinctSources | None = None
    """Where rows with equal sources are labelled once; None where each row is labelled by itself."""
    held_out: Mapping[str, Numbers] = field(default_factory=dict)
    """Of the splits val and test that are taken from the rows, the numbers of their sources, ascending."""
    can_hold_out: bool = False
    """Whether `n_val` and `n_test` apply: the data has no split but train."""

    @property
    def settings(self) -> dict[str, int | None]:
        """What raw candidates depend on: how many sources are labelled, where these are fewer than rows."""
        return {"distinct": len(self.labelled) if len(self.labelled) < len(self.dataset) else None}

    @cached_property
    def labelled(self) -> Dataset:
        """The rows that are labelled."""
        if self.distinct is None or not self.distinct.duplicates:
            return self.dataset
        path = sources_file(self.key, "indices")  # numbers of rows that would lie in memory otherwise
        path.parent.mkdir(parents=True, exist_ok=True)
        return self.dataset.select(self.distinct.first_rows, indices_cache_file_name=str(path))

    def rows_of(self, labelled: range, *, first_alone: bool = False) -> tuple[Numbers, Numbers]:
        """The rows that some of the labelled ones stand for, ascending, and the number of the labelled one of each.

        `first_alone` leaves out rows whose source an earlier row has.
        """
        if self.distinct is None or not self.distinct.duplicates:
            return np.arange(labelled.start, labelled.stop), np.arange(labelled.start, labelled.stop)
        if first_alone:
            return self.distinct.first_rows[labelled.start : labelled.stop], np.arange(labelled.start, labelled.stop)
        return self.distinct.rows_of(labelled)

    def are_in(self, split: str, labelled: Numbers) -> NDArray[np.bool_]:
        """Whether each of some labelled rows, by number, is in a split that is held out."""
        return np.isin(labelled, self.held_out[split])


def hold_out(distinct: DistinctSources, sizes: Mapping[str, int]) -> dict[str, Numbers]:
    """So many sources for each split, chosen by the hashes of their texts: the same whatever else the data holds in
    front of them, and never a source that is in another split."""
    ends = np.cumsum(list(sizes.values()))
    parts = np.split(distinct.by_hash[: ends[-1]], ends[:-1])
    return {split: np.sort(part) for split, part in zip(sizes, parts, strict=True)}
