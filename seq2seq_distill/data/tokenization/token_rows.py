"""Token ids of many rows in one array: what is done to all rows is done without a Python object for a token."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ids = NDArray[np.integer]


@dataclass(frozen=True)
class TokenRows:
    """Rows of token ids."""

    values: Ids
    """Ids of all rows, one row after the other, [tokens]."""
    lengths: Ids
    """Tokens of each row, [rows]."""

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> "TokenRows":
        """Rows that are lists."""
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        return cls(np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64, count=lengths.sum()), lengths)

    def to_lists(self) -> list[list[int]]:
        """A list for each row."""
        values, ends = self.values.tolist(), self.ends.tolist()
        return [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def to_arrow(self, kind: pa.ListType) -> pa.ListArray:
        """An Arrow array of lists; ids that the type does not hold are an error."""
        offsets = np.concatenate([[0], self.ends]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(self.values).cast(kind.value_type))

    @property
    def ends(self) -> Ids:
        """The token behind each row's last one, [rows]."""
        return np.cumsum(self.lengths)

    def between(self, head: Sequence[int], tail: Sequence[int]) -> "TokenRows":
        """Each row between the same tokens."""
        lengths = self.lengths + len(head) + len(tail)
        ends = np.cumsum(lengths)[:, None]
        places = (ends - lengths[:, None] + np.arange(len(head)), ends - len(tail) + np.arange(len(tail)))
        values = np.empty(lengths.sum(), dtype=self.values.dtype)
        is_body = np.ones(len(values), dtype=bool)
        for place, tokens in zip(places, (head, tail), strict=True):
            values[place], is_body[place] = tokens, False
        values[is_body] = self.values
        return TokenRows(values, lengths)

    def cut(self, first: int, last: int) -> "TokenRows":
        """Rows of more than `first + last` tokens without what is between their first and last ones."""
        if not len(self.values) or self.lengths.max() <= first + last:
            return self
        starts = np.repeat(self.ends - self.lengths, self.lengths)
        position = np.arange(len(self.values)) - starts
        stays = (position < first) | (position >= np.repeat(self.lengths, self.lengths) - last)
        return TokenRows(self.values[stays], np.minimum(self.lengths, first + last))

    def every(self, step: int) -> "TokenRows":
        """Every `step`-th row, from the first on."""
        stays = np.arange(len(self.lengths)) % step == 0
        return TokenRows(self.values[np.repeat(stays, self.lengths)], self.lengths[stays])

    def without(self, tokens: Ids) -> "TokenRows":
        """The rows without some tokens."""
        stays = ~np.isin(self.values, tokens)
        rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return TokenRows(self.values[stays], np.bincount(rows[stays], minlength=len(self.lengths)))

    def count(self, token: int) -> Ids:
        """How often each row has a token, [rows]."""
        found = np.flatnonzero(self.values == token)
        return np.bincount(np.searchsorted(self.ends, found, "right"), minlength=len(self.lengths))

    def replaced(self, rows: Mapping[int, Sequence[int]]) -> "TokenRows":
        """The same with other rows in the places of some."""
        if not rows:
            return self
        lists = self.to_lists()
        for number, row in rows.items():
            lists[number] = list(row)
        return TokenRows.from_lists(lists)
