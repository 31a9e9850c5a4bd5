"""CSV and TSV, which are two formats: quotation marks enclose cells in the one, and are characters in the other."""

import csv
import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.lines import BATCH_ROWS, lines_with_ends, read_lines
from seq2seq_distill.utils.errors import DataError

logger = logging.getLogger(__name__)

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Of a CSV file, in the order in which they are tried on its header."""
LARGEST_CELL = 1 << 27
"""Characters; a quotation mark that never closes must not fill the memory."""
_LOOKS_QUOTED = r'(?:^|\t)"[^\t]*""[^\t]*"(?:\t|$)'


def read_tsv(where: str, file: Path, columns: Columns) -> Iterator[tuple[pa.Array, ...]]:
    """The chosen columns of lines whose cells are separated by tabs; a quotation mark is a character.

    Cells that a writer of CSV seems to have quoted are logged as a warning at the end.

    Raises:
        DataError: a line has more or fewer cells than the header.
    """
    names: list[str] = []
    indices: list[int] = []
    number = quoted = first_quoted = 0
    for lines in read_lines(where, file):
        if not names:
            names = lines[0].as_py().split("\t")
            indices = [names.index(name) for name in _chosen_of_tsv(names, columns, where)]
            lines = lines[1:]
            number = 1
        cells = pc.split_pattern(lines, "\t")
        wrong = pc.index(pc.not_equal(pc.list_value_length(cells), len(names)), True).as_py()
        if wrong >= 0:
            raise DataError(
                f"{where}:{number + wrong + 1}: {len(cells[wrong])} cells, and the header has {len(names)}: correct "
                "the line; a cell of a .tsv file has neither tabs nor line breaks (those of .csv and .jsonl may)"
            )
        matches = pc.match_substring_regex(lines, _LOOKS_QUOTED)
        if found := pc.sum(matches).as_py():
            first_quoted = first_quoted or number + pc.index(matches, True).as_py() + 1
            quoted += found
        number += len(lines)
        yield tuple(pc.list_element(cells, index) for index in indices)
    if quoted:
        logger.warning(
            "%s:%d: cells that look quoted by a writer of CSV, in %d of %d rows; in a .tsv file quotation marks are "
            "characters of the text: if they are not meant so, write the file without quoting, or name it .csv",
            where,
            first_quoted,
            quoted,
            number - 1,
        )


def _chosen_of_tsv(names: list[str], columns: Columns, where: str) -> tuple[str, ...]:
    if all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
        raise DataError(
            f"{where}:1: the header is in quotation marks, which are characters in a .tsv file: write the file "
            "without quoting, or name it .csv"
        )
    return columns.choose(names, where)


def read_csv(where: str, file: Path, columns: Columns) -> Iterator[tuple[pa.Array, ...]]:
    """The chosen columns of a CSV file (RFC 4180), which may be separated by other characters than commas.

    Raises:
        DataError: a row has more or fewer cells than the header, or a quotation mark does not close.
    """
    separator = _separator(where, file, columns)
    csv.field_size_limit(LARGEST_CELL)
    rows = _Rows(where, file, separator)
    names = next(rows, None)
    if names is None:
        return
    indices = [names.index(name) for name in columns.choose(names, where)]
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        yield tuple(pa.array([row[index] for row in batch], pa.string()) for index in indices)
    if rows.on_several_lines:
        logger.info("%s: %d rows have line breaks within quotation marks", where, rows.on_several_lines)


class _Rows(Iterator[list[str]]):
    """The rows of a CSV file as lists of cells, the header first; each has as many cells as the header.

    Raises:
        DataError: as `read_csv`.
    """

    def __init__(self, where: str, file: Path, separator: str) -> None:
        self._where, self._separator = where, separator
        self._reader = csv.reader(lines_with_ends(where, file), delimiter=separator, strict=True)
        self._number = -1
        self._width = 0
        self.on_several_lines = 0
        """Rows that have taken more than one line of the file, so far."""

    def __next__(self) -> list[str]:
        self._number += 1
        before = self._reader.line_num
        place = f"{self._where}: row {self._number}" if self._number else f"{self._where}: header"
        try:
            row = next(self._reader)
        except csv.Error as error:
            raise DataError(
                f"{place}, which begins on line {before + 1}: {_reason(error)}: correct it; a cell that has quotation "
                f"marks, line breaks or {SEPARATORS[self._separator]} is put between quotation marks, and its own are "
                "doubled"
            ) from None
        self.on_several_lines += self._reader.line_num - before > 1
        self._width = self._width or len(row)
        if len(row) != self._width:
            raise DataError(
                f"{place}: {len(row)} cells, and the header has {self._width}: correct the row; cells with "
                f"{SEPARATORS[self._separator]} or line breaks must be quoted"
            )
        return row


def _reason(error: csv.Error) -> str:
    """What is wrong, for people: Python's messages speak of its reader."""
    text = str(error)
    if "unexpected end" in text or "field larger" in text:
        return "a quotation mark opens a cell and does not close"
    if "expected after" in text:
        return "a quotation mark closes a cell, and text follows it"
    if "new-line character" in text:
        return "a carriage return within a cell that is not quoted"
    return text


def _separator(where: str, file: Path, columns: Columns) -> str:
    """The first separator by which the header has both columns or, where there need not be targets and none has, that
    of sources; a comma where none has them."""
    header = next(lines_with_ends(where, file), "")
    both = replace(columns, optional_target=False)
    for wanted, separator in itertools.product((both, columns), SEPARATORS):
        try:
            [names] = csv.reader([header], delimiter=separator)
            wanted.choose(names, where)
        except (csv.Error, ValueError, DataError):
            continue
        if separator != ",":
            logger.info("%s: cells are separated by %s", where, SEPARATORS[separator])
        return separator
    return ","
