"""Parquet files, those of `distill label` included."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.lines import BATCH_ROWS
from seq2seq_distill.utils.errors import DataError, one_line

SOURCE_HASH = "source_sha256"
"""Column of a data set made by `distill label`: the hash of the source that the target of the same row was made for."""
TEACHER_TARGET = "teacher_target"
"""Column of its splits val and test: what the model wrote, where the target may be a reference."""
TOKEN_COLUMNS = ("token_logprobs", "token_ends")
"""Columns of such a data set, null where unknown: the log-probability of each token of the target under the model that
wrote it, and the token's end in UTF-8 bytes of the target. The end of the sequence ends one byte behind the target."""


def read_parquet(where: str, file: Path, columns: Columns) -> Iterator[tuple[pa.Array, ...]]:
    """The chosen columns, source and target, whatever their type.

    Raises:
        DataError: the file is damaged, or a source has changed since it was labelled.
    """
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            schema = table.schema_arrow
            labelled = SOURCE_HASH in schema.names  # whatever other sources call their columns
            columns = Columns("source", "target") if labelled else columns
            chosen = columns.choose(schema.empty_table().flatten().column_names, where)
            needed = [name if name in schema.names else name.split(".", 1)[0] for name in chosen]
            for name in needed:
                kind = (schema.field(name).metadata or {}).get(b"ARROW:extension:name")
                if kind is not None:  # Arrow reads a type that it does not know as what it is stored as
                    raise DataError(
                        f"{where}: column {name!r} has the extension type {kind.decode()!r}: convert it to strings"
                    )
            needed = list(dict.fromkeys([*needed, *[SOURCE_HASH] * labelled]))
            for batch in table.iter_batches(BATCH_ROWS, columns=needed):
                cells = pa.Table.from_batches([batch]).flatten().combine_chunks()
                if labelled:
                    _check_hashes(cells, row, where)
                row += len(cells)
                yield tuple(cells[name].combine_chunks() for name in chosen)
            if row != table.metadata.num_rows:
                raise DataError(f"{where}: {row} of {table.metadata.num_rows} rows can be read: write the file again")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not a Parquet file: {one_line(error)}: write the file again") from None


def read_teacher_targets(file: Path) -> list[str] | None:
    """What the model that labelled a table wrote, row by row; None where the table does not say so."""
    if file.suffix != ".parquet" or not {SOURCE_HASH, TEACHER_TARGET} <= set(pyarrow.parquet.read_schema(file).names):
        return None
    found: list[str] = pyarrow.parquet.read_table(file, columns=[TEACHER_TARGET])[TEACHER_TARGET].to_pylist()
    return found


def has_token_logprobs(file: Path) -> bool:
    """Whether a table of `distill label` has the columns `TOKEN_COLUMNS`."""
    return {SOURCE_HASH, *TOKEN_COLUMNS} <= set(pyarrow.parquet.read_schema(file).names)


def read_token_logprobs(where: str, file: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]] | None]:
    """Of each row the log-probabilities and the ends of its tokens; None where they are unknown.

    Raises:
        DataError: a cell is no list of numbers, the lists of a row differ in length, log-probabilities are not finite
            or above 0, or ends go back or beyond the target.
    """
    row = 0
    with pyarrow.parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(BATCH_ROWS, columns=["target", *TOKEN_COLUMNS]):
            try:
                kinds = (pa.float32(), pa.int32())
                lists = [batch[name].cast(pa.list_(kind)) for name, kind in zip(TOKEN_COLUMNS, kinds, strict=True)]
            except pa.ArrowException as error:
                raise DataError(f"{where}: {' and '.join(TOKEN_COLUMNS)}: {one_line(error)}: label it again") from None
            parts = [(column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)) for column in lists]
            sizes = pc.binary_length(batch["target"]).to_pylist()
            known = pc.and_(lists[0].is_valid(), lists[1].is_valid()).to_numpy(zero_copy_only=False)
            for number in range(len(batch)):
                row += 1
                if not known[number]:
                    yield None
                    continue
                logprobs, ends = (values[offsets[number] : offsets[number + 1]] for offsets, values in parts)
                if fault := _fault(logprobs, ends, sizes[number] or 0):
                    raise DataError(f"{where}: row {row}: {fault}: label it again, or set the cells to null")
                yield logprobs, ends


def _fault(logprobs: NDArray[np.float32], ends: NDArray[np.int32], size: int) -> str:
    if len(logprobs) != len(ends):
        return f"token_logprobs has {len(logprobs)} entries, token_ends {len(ends)}"
    if not (np.isfinite(logprobs).all() and (logprobs <= 0).all()):
        return "token_logprobs is not a list of finite numbers of at most 0"
    if not (np.isfinite(ends).all() and (np.diff(ends, prepend=0) >= 0).all()):
        return "token_ends is not a list of ascending numbers of at least 0"
    if len(ends) and ends[-1] > size + 1:
        return f"token_ends goes to {ends[-1]}, and the target has {size} bytes"
    return ""


def _check_hashes(cells: pa.Table, before: int, where: str) -> None:
    pairs = zip(cells["source"].to_pylist(), cells[SOURCE_HASH].to_pylist(), strict=True)
    for row, (text, expected) in enumerate(pairs, before + 1):
        if text is None or text_hash(text) != expected:
            raise DataError(f"{where}: row {row}: the source has changed since it was labelled: label it again")


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
