"""Read text files, JSONL, CSV and Parquet as columns of checked text.

Every problem in a file is reported in one line that names the file and the line (or row).
"""

import hashlib
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from datasets import Dataset

from seq2seq_distill.data.columns import Columns, format_names
from seq2seq_distill.utils.errors import DataError, format_value

BATCH_ROWS = 10_000
SOURCE_HASH = "source_sha256"
"""Column of a data set made by `distill label`: the hash of the source that the target of the same row was made for."""


def read_files(source: str, files: list[Path], columns: Columns) -> Dataset:
    if files[0].suffix == ".source":
        pair = [_check_texts(_read_text(source, file), _line_of(source, file)) for file in files]
        if len(pair[0]) != len(pair[1]):
            raise DataError(
                f"`data` {source}: {files[0]} has {len(pair[0])} lines and {files[1]} has {len(pair[1])}: "
                "make line n of one file correspond to line n of the other"
            )
        tables = [pair]
    else:
        readers = {".parquet": _read_parquet, ".csv": _read_csv, ".tsv": _read_csv}
        tables = []
        for file in files:
            locate = (_line_of if file.suffix == ".jsonl" else _row_of)(source, file)
            pair = readers.get(file.suffix, _read_json)(source, file, columns)
            tables.append([_check_texts(texts, locate) for texts in pair])
    table = pa.table(
        {
            name: pa.chunked_array([chunk for pair in tables for chunk in pair[side].chunks], pa.string())
            for side, name in enumerate(("source", "target"))
        }
    )
    if not table.num_rows:
        raise DataError(f"`data` {source}: {files[0]} is empty: add at least one example")
    # A fingerprint of its own spares `datasets` from pickling the whole table to make one.
    return Dataset(table, fingerprint=uuid.uuid4().hex[:16])


def _line_of(source: str, file: Path) -> Callable[[int], str]:
    return lambda index: f"`data` {source}: {file}:{index + 1}"


def _row_of(source: str, file: Path) -> Callable[[int], str]:
    return lambda index: f"`data` {source}: {file}: row {index + 1}"


def _check_texts(texts: pa.ChunkedArray, locate: Callable[[int], str]) -> pa.ChunkedArray:
    """`texts` as strings. Raises DataError at the first cell that is null, blank, not text, or contains a NUL."""
    if not len(texts):
        return pa.chunked_array([], pa.string())
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    if pa.types.is_null(texts.type):
        texts = texts.cast(pa.string())
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise DataError(f"{locate(0)}: the column has type {texts.type} instead of text: convert it to strings")
    _check_unicode(texts, locate)
    blank = pc.index(is_blank(texts), True).as_py()
    if blank >= 0:
        raise DataError(f"{locate(blank)}: blank text: fill it in, or remove the example on both sides")
    nul = pc.index(pc.match_substring(texts, "\0"), True).as_py()
    if nul >= 0:
        raise DataError(f"{locate(nul)}: contains a NUL character: remove it, or convert the file if it is UTF-16")
    return texts.cast(pa.string())


def _check_unicode(texts: pa.ChunkedArray, locate: Callable[[int], str]) -> None:
    """Arrow trusts a Parquet file's claim that its texts are UTF-8."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        for index, cell in enumerate(texts):
            try:
                cell.as_py()
            except UnicodeDecodeError:
                raise DataError(f"{locate(index)}: not UTF-8: convert the text, or remove the example") from None
        raise


def is_blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)


def _lines(source: str, file: Path) -> Iterator[str]:
    """Lines of a UTF-8 file without their ends, which are LF or CR LF.

    Text may hold U+2028, form feeds and the like, at which `str.splitlines` would break it.
    """
    number = 0
    with _named(file), file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            try:
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"`data` {source}: {file}:{number}: byte {error.start + 1} of the line is not UTF-8: "
                    "convert the file, for example with iconv -t UTF-8"
                ) from None
    if not number:
        raise DataError(f"`data` {source}: {file} is empty: add at least one example")


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file in errors of reading, as errors of opening do."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None


def _read_text(source: str, file: Path) -> pa.ChunkedArray:
    return _chunked((line,) for line in _lines(source, file))[0]


def _chunked(rows: Iterable[tuple[str, ...]], width: int = 1) -> list[pa.ChunkedArray]:
    """Columns of `rows` as Arrow strings, built in batches so that Python never holds all rows."""
    chunks: list[list[pa.Array]] = [[] for _ in range(width)]
    rows = iter(rows)
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        for column, texts in zip(chunks, zip(*batch, strict=True), strict=True):
            column.append(pa.array(texts, pa.string()))
    return [pa.chunked_array(column, pa.string()) for column in chunks]


def _read_json(source: str, file: Path, columns: Columns) -> list[pa.ChunkedArray]:
    """JSON lines, or (.json only) one array of objects."""
    return _chunked(_json_texts(_json_rows(source, file), f"`data` {source}: {file}", columns), width=2)


def _json_texts(rows: Iterable[tuple[str, Any]], where: str, columns: Columns) -> Iterator[tuple[str, str]]:
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
        yield _json_cell(row, paths[0], names, place), _json_cell(row, paths[1], names, place)


def _json_cell(row: dict[str, Any], path: list[str], names: list[str], place: str) -> str:
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


def _json_rows(source: str, file: Path) -> Iterator[tuple[str, Any]]:
    where = f"`data` {source}: {file}"
    lines = _lines(source, file)
    first = next(lines)
    if file.suffix == ".json" and first.lstrip().startswith("["):
        rows = _json(where, 1, "\n".join([first, *lines]))
        yield from ((f"{where}: row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(itertools.chain([first], lines), 1):
        if not line.strip():
            raise DataError(f"{where}:{number}: blank line: remove it")
        yield f"{where}:{number}", _json(where, number, line)


def _json(where: str, first_line: int, text: str) -> Any:
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


def _read_csv(source: str, file: Path, columns: Columns) -> list[pa.ChunkedArray]:
    where = f"`data` {source}: {file}"
    for _ in _lines(source, file):  # Arrow tells that bytes are not UTF-8, but not where
        pass
    parse = pyarrow.csv.ParseOptions(
        delimiter="\t" if file.suffix == ".tsv" else ",", newlines_in_values=True, ignore_empty_lines=False
    )
    serial = pyarrow.csv.ReadOptions(use_threads=False)  # with threads its messages know no row
    try:
        with pyarrow.csv.open_csv(file, read_options=serial, parse_options=parse) as reader:
            names = reader.schema.names
        chosen = columns.choose(names, where)
        # Texts stay texts: neither "12" becomes a number nor "NA" a null.
        convert = pyarrow.csv.ConvertOptions(
            include_columns=list(chosen),
            column_types=dict.fromkeys(chosen, pa.string()),
            strings_can_be_null=False,
        )
        table = pyarrow.csv.read_csv(file, read_options=serial, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: {one_line(error)}: correct the file; cells with commas or line breaks must be quoted"
        ) from None
    return [table[name] for name in chosen]


def _read_parquet(source: str, file: Path, columns: Columns) -> list[pa.ChunkedArray]:
    where = f"`data` {source}: {file}"
    try:
        schema = pyarrow.parquet.read_schema(file)
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
        table = pyarrow.parquet.read_table(file, columns=list(dict.fromkeys(needed))).flatten()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not a Parquet file: {one_line(error)}: write the file again") from None
    if labelled:
        hashes = pyarrow.parquet.read_table(file, columns=[SOURCE_HASH])[SOURCE_HASH]
        for row, (text, expected) in enumerate(zip(table["source"].to_pylist(), hashes.to_pylist(), strict=True), 1):
            if text is None or text_hash(text) != expected:
                raise DataError(f"{where}: row {row}: the source has changed since it was labelled: label it again")
    return [table[name] for name in chosen]


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def one_line(error: Exception) -> str:
    return format_value(" ".join(str(error).split()).rstrip(".") or type(error).__name__, 300)
