"""Lines of text or JSON, in and out: read as they come, a bounded number at a time."""

from __future__ import annotations

import json
import re
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from seq2seq_distill.commands.generate.options import GenerateConfig
from seq2seq_distill.data.readers.lines import BYTE_ORDER_MARK, COMPRESSED, decode_line, open_bytes
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.utils.errors import ConfigError, DataError, UserError, format_value

CHUNK_LINES, CHUNK_BYTES = 2048, 1 << 24
"""Most lines, and bytes, that are in memory at once, but for a line that is longer by itself."""
PATIENCE = 0.1
"""Seconds that a chunk waits for further lines of a pipe, before what there is is decoded."""


@dataclass(frozen=True)
class Record:
    """A line of the input."""

    text: str
    fields: dict[str, Any] | None
    """Of a line of JSON, all that it holds."""


def check_input(config: GenerateConfig) -> None:
    """Raise DataError if the input is a file that cannot be read."""
    if config.input is not None:
        with _opened(config, f"`input` {config.input}"):
            pass


def chunks(config: GenerateConfig) -> Iterator[list[Record]]:
    """The input, some lines at a time.

    Raises:
        DataError: a line is wrong; the lines before it came out before.
    """
    where = f"`input` {config.input}" if config.input else "standard input"
    number = 0
    with _opened(config, where) as (stream, is_ready):
        for lines in _line_chunks(stream, is_ready):
            records: list[Record] = []
            try:
                for line in lines:
                    number += 1
                    records.append(_record(line, config, f"{where}:{number}"))
            except UserError:
                yield records
                raise
            yield records


@contextmanager
def _opened(config: GenerateConfig, where: str) -> Iterator[tuple[BinaryIO, Callable[[], bool]]]:
    """The input, and whether the next line would come at once."""
    if config.input is None:
        # Without a buffer of Python's, the system knows whether there is more.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
            yield stream, lambda: bool(select.select([stream], [], [], PATIENCE)[0])
        return
    try:
        with open_bytes(Path(config.input).expanduser(), where) as stream:
            yield stream, lambda: True
    except OSError as error:
        raise DataError(f"{where}: {error.strerror}: give a file that can be read") from None


def _line_chunks(stream: BinaryIO, is_ready: Callable[[], bool]) -> Iterator[list[bytes]]:
    """Lines without their ends, LF or CR LF; a byte order mark is left out."""
    lines: list[bytes] = []
    pieces: list[bytes] = []
    size, is_first = 0, True
    while block := stream.read(1 << 16):
        if is_first:
            block, is_first = block.removeprefix(BYTE_ORDER_MARK), False
        head, newline, tail = block.rpartition(b"\n")
        if not newline:
            pieces.append(block)
            continue
        whole = b"".join([*pieces, head])
        pieces = [tail]
        lines += whole.split(b"\n")
        size += len(whole)
        while len(lines) >= CHUNK_LINES:
            yield lines[:CHUNK_LINES]
            lines, size = lines[CHUNK_LINES:], 0
        if lines and (size >= CHUNK_BYTES or not is_ready()):
            yield lines
            lines, size = [], 0
    if rest := b"".join(pieces):
        lines.append(rest)
    if lines:
        yield lines


def _record(line: bytes, config: GenerateConfig, place: str) -> Record:
    text = decode_line(line.removesuffix(b"\r"), place)
    if config.format == "text":
        return Record(text, None)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{place}: not JSON: give one object per line, or choose `format` text") from None
    source = fields.get(config.source_column) if isinstance(fields, dict) else None
    if not isinstance(source, str):
        raise DataError(
            f"{place}: no text in the field {format_value(config.source_column)}: name another `source_column`"
        )
    if "\\u" in text and re.search("[\ud800-\udfff]", json.dumps(fields, ensure_ascii=False)):
        raise DataError(f"{place}: half of a surrogate pair, which is not a character: remove it")
    return Record(source, fields)


def count_lines(config: GenerateConfig) -> int | None:
    """Lines of the input, where that is an uncompressed file; None where nobody can know."""
    name: Any = sys.stdin.fileno() if config.input is None else Path(config.input).expanduser()
    if config.input is not None and name.suffix in COMPRESSED:
        return None
    with suppress(OSError), open(name, "rb", buffering=0, closefd=config.input is not None) as file:
        if not Path(f"/proc/self/fd/{file.fileno()}").is_file():
            return None
        start = file.tell()
        count = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        file.seek(start)
        return count
    return None


@contextmanager
def opened_output(config: GenerateConfig) -> Iterator[BinaryIO]:
    """Where outputs are written.

    Raises:
        ConfigError: the file cannot be written.
    """
    if config.output is None:
        yield sys.stdout.buffer
        return
    try:
        file = open(Path(config.output).expanduser(), "wb")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"`output` {config.output}: {error.strerror}: choose a file that can be written") from None
    with file:
        yield file


def line_of(record: Record, outputs: Sequence[Hypothesis], config: GenerateConfig) -> str:
    """A line of the output, with its end."""
    if record.fields is None:
        return re.sub(r"[\r\n]+", " ", outputs[0].text) + "\n"
    texts, scores = [best.text for best in outputs], [best.score for best in outputs]
    added: dict[str, Any] = {config.output_column: texts, "score": scores}
    if config.n_best == 1:
        added = {name: values[0] for name, values in added.items()}
    return json.dumps({**record.fields, **added}, ensure_ascii=False) + "\n"
