"""JSON lines, and arrays of JSON objects."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from seq2seq_distill.data.columns import Columns, format_names
from seq2seq_distill.data.readers.lines import BATCH_ROWS, format_of, read_lines
from seq2seq_distill.utils.errors import DataError, format_value


def read_json(where: str, file: Path, columns: Columns) -> Iterator[tuple[pa.Array, ...]]:
    """The chosen columns, source and target, of JSON lines or, in a .json file, of one array of objects.

    Raises:
        DataError: a line is no JSON object, or lacks a column, or the cell is not text.
    """
    rows = _texts(_rows(where, file), where, columns)
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        yield tuple(pa.array(column, pa.string()) for column in zip(*batch, strict=True))


def _texts(rows: Iterable[tuple[str, Any]], where: str, columns: Columns) -> Iterator[tuple[str, ...]]:
    paths: list[list[str]] = []
    for place, row in rows:
        if not isinstance(row, dict):
            raise DataError(
                f'{place}: expected a JSON object, found {type(row).__name__}: write {{"source": ..., "target": ...}}'
            )
        names = [f"{key}.{sub}" for key, value in row.items() if isinstance(value, dict) for sub in value]
        names += [key for key, value in row.items() if not isinstance(value, dict)]
        if not paths:
            paths = [[name] if name in row else name.split(".", 1) for name in columns.choose(names, where)]
        yield tuple(_cell(row, path, names, place) for path in paths)


def _cell(row: dict[str, Any], path: list[str], names: list[str], place: str) -> str:
    name, cell = ".".join(path), row
    for key in path:
        if not isinstance(cell, dict) or key not in cell:
            raise DataError(
                f"{place}: no column {name!r}; available columns: {format_names(names)}; add it, or remove the example"
            )
        cell = cell[key]
    if not isinstance(cell, str):
        value = format_value(json.dumps(cell), 40)
        raise DataError(f"{place}: {name!r} is {value}, not text: correct or remove the example")
    if cell.isascii() or not re.search("[\ud800-\udfff]", cell):
        return cell
    raise DataError(f"{place}: {name!r} contains half of a surrogate pair, which is not a character: remove it")


def _rows(where: str, file: Path) -> Iterator[tuple[str, Any]]:
    """Each row with its place."""
    lines = itertools.chain.from_iterable(batch.to_pylist() for batch in read_lines(where, file))
    first = next(lines, None)
    if first is None:
        return
    if format_of(file) == ".json" and first.lstrip().startswith("["):
        rows = _parsed(where, 1, "\n".join([first, *lines]))
        yield from ((f"{where}: row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(itertools.chain([first], lines), 1):
        if not line.strip():
            raise DataError(f"{where}:{number}: blank line: remove it")
        yield f"{where}:{number}", _parsed(where, number, line)


def _parsed(where: str, first_line: int, text: str) -> Any:
    line, column = first_line, 1
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line, column, reason = first_line + error.lineno - 1, error.colno, error.msg
    except ValueError:  # Python reads no number of more than 4,300 digits
        reason = "a number with thousands of digits"
    except RecursionError:
        reason = "brackets nested too deeply"
    raise DataError(f"{where}:{line}: invalid JSON: {reason} (column {column}): correct it, or remove the example")
