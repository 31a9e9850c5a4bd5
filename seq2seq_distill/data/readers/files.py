"""Files of a split as batches of checked text, whatever their format.

Every problem in a file is reported in one line that names the file and the line (or row).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.delimited import read_csv, read_tsv
from seq2seq_distill.data.readers.json_rows import read_json
from seq2seq_distill.data.readers.lines import format_of, read_lines
from seq2seq_distill.data.readers.parquet import read_parquet
from seq2seq_distill.utils.errors import DataError
from seq2seq_distill.utils.progress import Progress

logger = logging.getLogger(__name__)

SIDES = ["source", "target"]
TABLES = {".jsonl": read_json, ".json": read_json, ".csv": read_csv, ".tsv": read_tsv, ".parquet": read_parquet}
"""Reader of each format of table."""
_BY_LINE = (".jsonl", ".source", ".target")

Place = Callable[[int], str]
"""Names a row, counted from 0, as its file does."""


def read_batches(source: str, files: list[Path], columns: Columns) -> Iterator[pa.RecordBatch]:
    """The rows of a split, in order, as record batches of the strings "source" and, where there is one, "target".

    Args:
        source: what `data` names, for messages.
        files: text files of sources and of targets with a line for each row, or of sources alone, or tables.
        columns: of tables.

    Raises:
        DataError: a file is damaged, or a cell is missing, blank or no text; there are no rows, or unequal numbers of
            lines.
    """
    read = _tables(source, files, columns) if format_of(files[0]) in TABLES else _text_files(source, files)
    with Progress("reading", None) as progress:
        yield from progress.counted(read)
    rows = progress.done
    if not rows:
        raise DataError(f"`data` {source}: {files[0]} is empty: add at least one example")
    logger.info("`data` %s: %d rows of %s", source, rows, ", ".join(file.name for file in files[:4]))


def _tables(source: str, files: list[Path], columns: Columns) -> Iterator[pa.RecordBatch]:
    for file in files:
        where, rows = f"`data` {source}: {file}", 0
        locate = _place(where, format_of(file))
        for texts in TABLES[format_of(file)](where, file, columns):
            yield _batch(texts, [locate] * len(texts), rows)
            rows += len(texts[0])


def _text_files(source: str, files: list[Path]) -> Iterator[pa.RecordBatch]:
    places = [f"`data` {source}: {file}" for file in files]
    locate = [_place(place, ".source") for place in places]
    streams = [read_lines(place, file) for place, file in zip(places, files, strict=True)]
    waiting = [pa.array([], pa.string()) for _ in files]
    rows = 0
    while True:
        for side, stream in enumerate(streams):
            if not len(waiting[side]):
                waiting[side] = next(stream, waiting[side])
        size = min(map(len, waiting))
        if not size:
            break
        yield _batch(tuple(lines[:size] for lines in waiting), locate, rows)
        waiting = [lines[size:] for lines in waiting]
        rows += size
    counts = [rows + len(lines) + sum(map(len, stream)) for lines, stream in zip(waiting, streams, strict=True)]
    for file, count in zip(files, counts, strict=True):
        if not count:
            raise DataError(f"`data` {source}: {file} is empty: add at least one example")
    if counts[0] != counts[-1]:
        raise DataError(
            f"`data` {source}: {files[0]} has {counts[0]} lines and {files[1]} has {counts[1]}: "
            "make line n of one file correspond to line n of the other"
        )


def _place(where: str, suffix: str) -> Place:
    if suffix in _BY_LINE:
        return lambda row: f"{where}:{row + 1}"
    if suffix == ".tsv":
        return lambda row: f"{where}:{row + 2}"
    return lambda row: f"{where}: row {row + 1}"


def _batch(columns: tuple[pa.Array, ...], places: Sequence[Place], before: int) -> pa.RecordBatch:
    checked = [_checked(texts, _behind(place, before)) for texts, place in zip(columns, places, strict=True)]
    return pa.record_batch(checked, names=SIDES[: len(checked)])


def _behind(place: Place, before: int) -> Place:
    return lambda row: place(before + row)


def _checked(texts: pa.Array, locate: Place) -> pa.Array:
    """`texts` as strings. Raises DataError at the first cell that is null, blank, not text, or contains a NUL."""
    if not len(texts):
        return pa.array([], pa.string())
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


def _check_unicode(texts: pa.Array, locate: Place) -> None:
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


def is_blank(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Whether each text is null or white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)
