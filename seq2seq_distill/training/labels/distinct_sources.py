"""Which rows of a data set have equal sources: each source is labelled once.

Sources are compared by 128-bit hashes (XXH3), which are sorted; at 10^9 sources, two different ones with equal hashes
have a probability of about 10^-21.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from seq2seq_distill.utils.files import replace_atomically

BATCH_ROWS = 10_000
_HASH = np.dtype([("high", ">u8"), ("low", ">u8")])

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class DistinctSources:
    """The distinct sources of a data set, numbered in the order in which they first occur."""

    first_rows: Numbers
    """The first row of each distinct source, ascending."""
    order: Numbers
    """All rows, those of a source together, in order."""
    ends: Numbers
    """Where in `order` the rows of each distinct source end."""

    @property
    def duplicates(self) -> int:
        """Rows whose source an earlier row has."""
        return len(self.order) - len(self.first_rows)

    def rows_of(self, sources: range) -> Numbers:
        """All rows that have one of these sources, those of a source together."""
        start = self.ends[sources.start - 1] if sources.start else 0
        return self.order[start : self.ends[sources.stop - 1]]

    def save(self, path: Path) -> None:
        """Write the numbers, from which `load` maps them."""
        with replace_atomically(path, concurrent=True) as temporary, temporary.open("wb") as file:
            for numbers in (self.first_rows, self.order, self.ends):
                np.save(file, numbers)

    @classmethod
    def load(cls, path: Path) -> "DistinctSources":
        """What `save` wrote, memory-mapped."""
        arrays = []
        with path.open("rb") as file:
            for _ in range(3):
                version = np.lib.format.read_magic(file)
                assert version == (1, 0)
                shape, _, kind = np.lib.format.read_array_header_1_0(file)
                arrays.append(np.memmap(path, kind, "r", file.tell(), shape))
                file.seek(arrays[-1].nbytes, 1)
        return cls(*arrays)


def find_distinct(dataset: Dataset) -> DistinctSources:
    """Compare the sources of a data set."""
    hashes = _hashes(dataset)
    by_hash = np.lexsort((hashes["low"], hashes["high"]))  # stable: rows with equal sources stay in order
    in_order = hashes[by_hash]
    is_new = np.ones(len(by_hash), dtype=bool)
    is_new[1:] = in_order[1:] != in_order[:-1]
    starts = np.flatnonzero(is_new)
    sizes = np.diff(np.append(starts, len(by_hash)))
    first_rows = by_hash[starts]
    by_first = np.argsort(first_rows)
    ends = np.cumsum(sizes[by_first])
    # Of each place in the new order, the place in the order of the hashes.
    places = np.repeat(starts[by_first] - (ends - sizes[by_first]), sizes[by_first]) + np.arange(len(by_hash))
    return DistinctSources(first_rows[by_first], by_hash[places], ends)


def _hashes(dataset: Dataset) -> NDArray[np.void]:
    parts = [
        b"".join(xxhash.xxh3_128_digest(text.encode()) for text in batch["source"])
        for batch in dataset.select_columns("source").iter(BATCH_ROWS)
    ]
    return np.frombuffer(b"".join(parts), dtype=_HASH)
