"""Lines of text files, compressed ones too."""

import gzip
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from seq2seq_distill.utils.errors import DataError

BLOCK_BYTES = 1 << 22
BATCH_ROWS = 10_000
"""Rows of a table that are read together."""
COMPRESSED = (".gz", ".xz", ".zst")
"""Suffixes of compressed files, of every format but Parquet, which compresses within itself."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def format_of(file: Path) -> str:
    """The suffix that tells a file's format: ".jsonl" for train.jsonl and for train.jsonl.gz."""
    return file.with_suffix("").suffix if file.suffix in COMPRESSED else file.suffix


@contextmanager
def open_bytes(file: Path, where: str) -> Iterator[BinaryIO]:
    """The content of a file, decompressed.

    Raises:
        DataError: the compressed content is damaged; the line opens with `where`.
        OSError: the file cannot be read; it names the file.
    """
    try:
        with _opened(file) as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, lzma.LZMAError, pa.ArrowInvalid) as error:
        raise _damaged(where, file, error) from None
    except OSError as error:
        if error.errno is None and file.suffix in COMPRESSED:  # Arrow's word for damage
            raise _damaged(where, file, error) from None
        raise OSError(error.errno, error.strerror, str(file)) from None


def _opened(file: Path) -> BinaryIO:
    if file.suffix == ".gz":
        return cast(BinaryIO, gzip.open(file, "rb"))
    if file.suffix == ".xz":
        return cast(BinaryIO, lzma.open(file, "rb"))
    if file.suffix == ".zst":
        return cast(BinaryIO, pa.CompressedInputStream(file.open("rb"), "zstd"))
    return file.open("rb")


def _damaged(where: str, file: Path, error: Exception) -> DataError:
    return DataError(f"{where}: the {file.suffix} file is damaged or incomplete ({error}): compress or copy it again")


def read_lines(where: str, file: Path) -> Iterator[pa.StringArray]:
    """Lines of a UTF-8 file without their ends, which are LF or CR LF, some thousands at a time.

    Whatever else `str.splitlines` breaks at (a lone CR, U+2028, form feeds) is text. A byte order mark is left out.

    Raises:
        DataError: a line is not UTF-8; it opens with `where`, a file or an option and its value.
    """
    number = 0
    for block in _blocks(where, file):
        lines = _split(block)
        try:
            yield lines.cast(pa.string())
        except pa.ArrowInvalid:
            raise _not_utf8(where, lines, number) from None
        number += len(lines)


def _blocks(where: str, file: Path) -> Iterator[bytes]:
    """Whole lines of a file."""
    with open_bytes(file, where) as stream:
        rest: list[bytes] = []
        first = True
        while block := stream.read(BLOCK_BYTES):
            if first:
                block, first = block.removeprefix(BYTE_ORDER_MARK), False
            end = block.rfind(b"\n") + 1
            if end:
                yield b"".join([*rest, block[:end]])
                rest = []
            rest.append(block[end:])
        if last := b"".join(rest):
            yield last


def _split(block: bytes) -> pa.BinaryArray:
    block = block.removesuffix(b"\n")
    if b"\r" in block[-1:] or b"\r\n" in block:
        block = block.removesuffix(b"\r").replace(b"\r\n", b"\n")
    return pc.split_pattern(pa.array([block], pa.binary()), b"\n").values


def _not_utf8(where: str, lines: pa.BinaryArray, before: int) -> DataError:
    for number, line in enumerate(lines.to_pylist(), before + 1):
        try:
            decode_line(line, f"{where}:{number}")
        except DataError as error:
            return error
    raise AssertionError("all lines are UTF-8")


def decode_line(line: bytes, place: str) -> str:
    """The text of a line. DataError, which opens with `place`: it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: byte {error.start + 1} of the line is not UTF-8: "
            "convert the file, for example with iconv -t UTF-8"
        ) from None


def lines_with_ends(where: str, file: Path) -> Iterator[str]:
    """Lines one by one with their ends, LF or CR LF, as the csv module takes them; otherwise as `read_lines`."""
    lines = (line for block in _blocks(where, file) for line in io.BytesIO(block))
    return (decode_line(line, f"{where}:{number}") for number, line in enumerate(lines, 1))
