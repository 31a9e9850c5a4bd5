"""Which rows of a data set have equal sources: each source is labelled once.

Sources are compared by 128-bit hashes (XXH3), which are sorted; at 10^9 sources, two different ones with equal hashes
have a probability of about 10^-21. Arrays are kept in files and mapped from them: 10 million rows need no memory that
counts.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from seq2seq_distill.utils.files import cache_root, replace_atomically

BATCH_ROWS = 10_000
_HASH = np.dtype([("high", ">u8"), ("low", ">u8")])

Numbers = NDArray[np.integer]


@dataclass(frozen=True)
class DistinctSources:
    """The distinct sources of a data set, numbered in the order in which they first occur."""

    first_rows: Numbers
    """The first row of each distinct source, ascending."""
    order: Numbers
    """All rows, those of a source together, in order."""
    ends: Numbers
    """Where in `order` the rows of each distinct source end."""
    by_hash: Numbers
    """The numbers of the distinct sources in the order of their hashes: as good as random, but for ever the same."""

    @property
    def duplicates(self) -> int:
        """Rows whose source an earlier row has."""
        return len(self.order) - len(self.first_rows)

    def rows_of(self, sources: range) -> tuple[Numbers, Numbers]:
        """All rows that have one of these sources, ascending, and the number of the source of each."""
        start = self.ends[sources.start - 1] if sources.start else 0
        ends = self.ends[sources.start : sources.stop]
        rows = self.order[start : ends[-1]]
        numbers = np.repeat(np.arange(sources.start, sources.stop), np.diff(ends, prepend=start))
        ascending = np.argsort(rows, kind="stable")
        return rows[ascending], numbers[ascending]

    def save(self, path: Path) -> None:
        """Write the arrays, from which `load` maps them."""
        with replace_atomically(path, concurrent=True) as temporary, temporary.open("wb") as file:
            for numbers in (self.first_rows, self.order, self.ends, self.by_hash):
                np.save(file, numbers)

    @classmethod
    def load(cls, path: Path) -> "DistinctSources":
        """What `save` wrote, memory-mapped."""
        arrays = []
        with path.open("rb") as file:
            for _ in range(4):
                np.lib.format.read_magic(file)
                shape, _, kind = np.lib.format.read_array_header_1_0(file)
                arrays.append(np.memmap(path, kind, "r", file.tell(), shape))
                file.seek(arrays[-1].nbytes, 1)
        return cls(*arrays)


def distinct_sources(dataset: Dataset, key: str) -> DistinctSources:
    """The distinct sources of a data set for which a key stands, memory-mapped from the user's cache."""
    path = sources_file(key, "npy")
    try:
        return DistinctSources.load(path)
    except (OSError, ValueError):  # there is none, or it is damaged
        path.parent.mkdir(parents=True, exist_ok=True)
    find_distinct(dataset).save(path)
    return DistinctSources.load(path)


def sources_file(key: str, suffix: str) -> Path:
    """A file of the user's cache about the sources for which a key stands."""
    return cache_root() / "sources" / f"{key.replace(':', '-')}.{suffix}"


def find_distinct(dataset: Dataset) -> DistinctSources:
    """Compare the sources of a data set."""
    with TemporaryDirectory() as folder:
        scratch = _Scratch(Path(folder), np.int32 if len(dataset) < 2**31 else np.int64)
        high, low = _hashes(dataset, Path(folder))
        by_hash = scratch.map(np.argsort(high, kind="stable"))  # stable: rows with equal sources stay in order
        is_new = _differs_from_previous(high, by_hash)
        is_other = _differs_from_previous(low, by_hash)
        if (is_other & ~is_new).any():  # equal in half of the hash
            by_hash = scratch.map(np.lexsort((low, high)))
            is_new = _differs_from_previous(high, by_hash) | _differs_from_previous(low, by_hash)
        if is_new.all():
            rows = scratch.map(np.arange(len(by_hash)))
            return DistinctSources(rows, rows, scratch.map(rows + 1), by_hash)
        starts = scratch.map(np.flatnonzero(is_new))
        first_rows = scratch.map(by_hash[starts])
        by_first = scratch.map(np.argsort(first_rows))
        sizes = scratch.map(np.diff(starts, append=len(by_hash))[by_first])
        ends = scratch.map(np.cumsum(sizes))
        # Of each place in the new order, the place in the order of the hashes.
        places = np.repeat(starts[by_first] - (ends - sizes), sizes)
        places += np.arange(len(by_hash), dtype=places.dtype)
        order = scratch.map(by_hash[places])
        del places
        numbers = np.empty_like(by_first)
        numbers[by_first] = np.arange(len(by_first), dtype=by_first.dtype)
        return DistinctSources(scratch.map(first_rows[by_first]), order, ends, numbers)


@dataclass
class _Scratch:
    """Arrays in files, which are gone when nothing refers to them."""

    folder: Path
    kind: type[np.integer]

    def map(self, values: NDArray[Any]) -> Numbers:
        """The same numbers, mapped from a file."""
        path = self.folder / uuid.uuid4().hex
        values.astype(self.kind).tofile(path)
        return np.memmap(path, self.kind, "r")


def _differs_from_previous(values: NDArray[np.uint64], order: Numbers) -> NDArray[np.bool_]:
    differs = np.ones(len(order), dtype=bool)
    ordered = values[order]
    differs[1:] = ordered[1:] != ordered[:-1]
    return differs


def _hashes(dataset: Dataset, folder: Path) -> list[NDArray[np.uint64]]:
    """Both halves of the hash of each source, mapped from files in the folder."""
    paths = [folder / name for name in _HASH.names or ()]
    with paths[0].open("wb") as high, paths[1].open("wb") as low:
        for batch in dataset.select_columns("source").iter(BATCH_ROWS):
            digests = b"".join(xxhash.xxh3_128_digest(text.encode()) for text in batch["source"])
            hashes = np.frombuffer(digests, dtype=_HASH)
            for name, file in (("high", high), ("low", low)):
                file.write(hashes[name].astype(np.uint64).tobytes())
    return [np.memmap(path, np.uint64, "r") for path in paths]
