"""Lengths of rows, and batches of rows of like length for decoding, where no plan is needed."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from seq2seq_distill.data.token_columns import list_column

Row = TypeVar("Row")
Result = TypeVar("Result")
Rows = NDArray[np.int32]
"""Numbers of rows, or lengths; a data set has fewer than 2**31 rows."""


def lengths(dataset: Dataset, column: str) -> Rows:
    """Tokens of each row of a column of lists, [rows]; from Arrow's offsets, so that no token is read."""
    return np.asarray(pc.list_value_length(list_column(dataset, column)), dtype=np.int32)


def batches_by_length(
    lengths: Sequence[int], *, size: int | None = None, max_tokens: int | None = None
) -> list[list[int]]:
    """Indices of batches of like length, the longest first.

    Args:
        lengths: of each row, in tokens.
        size: rows of a batch; or
        max_tokens: most tokens of a batch, padding counted. A longer row stands alone.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        last = batches[-1] if batches else []
        is_full = len(last) == size
        if max_tokens is not None and last:
            is_full = (len(last) + 1) * lengths[last[0]] > max_tokens
        if not last or is_full:
            batches.append([])
        batches[-1].append(index)
    return batches


def map_by_length(
    function: Callable[[list[Row]], Sequence[Result]],
    rows: Sequence[Row],
    lengths: Sequence[int],
    *,
    size: int | None = None,
    max_tokens: int | None = None,
) -> list[Result]:
    """What a function of a batch gives for each row, in the order of the rows; batches as of `batches_by_length`."""
    results: dict[int, Result] = {}
    for batch in batches_by_length(lengths, size=size, max_tokens=max_tokens):
        results.update(zip(batch, function([rows[index] for index in batch]), strict=True))
    return [results[index] for index in range(len(rows))]
