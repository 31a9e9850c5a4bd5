"""Parquet files, those of `distill label` included."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.lines import BATCH_ROWS
from seq2seq_distill.utils.errors import DataError, one_line

SOURCE_HASH = "source_sha256"
"""Column of a data set made by `distill label`: the hash of the source that the target of the same row was made for."""


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


def _check_hashes(cells: pa.Table, before: int, where: str) -> None:
    pairs = zip(cells["source"].to_pylist(), cells[SOURCE_HASH].to_pylist(), strict=True)
    for row, (text, expected) in enumerate(pairs, before + 1):
        if text is None or text_hash(text) != expected:
            raise DataError(f"{where}: row {row}: the source has changed since it was labelled: label it again")


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
