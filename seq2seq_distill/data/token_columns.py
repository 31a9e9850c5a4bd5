"""Token ids of encoded rows as numpy views of the memory-mapped cache: no Python object for a token."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value, concatenate_datasets
from numpy.typing import NDArray

Ids = NDArray[np.integer]


def list_column(dataset: Dataset, name: str) -> pa.ChunkedArray:
    """A column of lists as Arrow has it, memory-mapped where the data set is."""
    if not len(dataset):
        return pa.chunked_array([], pa.list_(pa.int32()))
    return dataset.with_format("arrow")[:][name]


def concat_encoded(parts: Sequence[Dataset]) -> Dataset:
    """Encoded rows one after the other; where vocabularies differ in size, in the widest type of their ids."""
    if any(part.features != parts[0].features for part in parts):
        widest = np.result_type(*(column.type.value_type.to_pandas_dtype() for column in _id_columns(parts)))
        ids = List(Value(widest.name))
        parts = [part.cast(Features({**part.features, "input_ids": ids, "labels": ids})) for part in parts]
    return concatenate_datasets(list(parts))


def _id_columns(parts: Sequence[Dataset]) -> list[pa.ChunkedArray]:
    return [part.data.column(name) for part in parts for name in ("input_ids", "labels")]


class TokenColumn:
    """A column of lists of token ids; `column[row]` is a view of the row's ids, [tokens].

    Args:
        dataset: encoded rows.
        name: of the column.
    """

    def __init__(self, dataset: Dataset, name: str) -> None:
        chunks = list_column(dataset, name).chunks
        self._parts = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in chunks]
        self._starts = [0, *accumulate(map(len, chunks))]

    def __getitem__(self, row: int) -> Ids:
        part = bisect_right(self._starts, row) - 1
        offsets, values = self._parts[part]
        start = row - self._starts[part]
        return values[offsets[start] : offsets[start + 1]]
