"""The texts of a split, memory-mapped: read from its files once, and again only when these have changed."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from datasets import Dataset

from seq2seq_distill.data.arrow_files import file_hash, is_intact, not_written, open_arrow, write_arrow
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.files import SIDES, read_batches
from seq2seq_distill.data.readers.lines import format_of
from seq2seq_distill.utils.errors import DataError
from seq2seq_distill.utils.files import cache_root, write_json
from seq2seq_distill.utils.locks import locked

logger = logging.getLogger(__name__)

SCHEMA = pa.schema([(name, pa.string()) for name in SIDES])
"""Of texts; those without targets have the first column alone."""
FORMAT = 1
"""Raised when the readers find other rows in the same bytes."""
JUST_NOW = 2 * 10**9
"""Nanoseconds within which a file could change again and keep its time of change."""
LARGE = 1 << 28
"""Bytes of texts from which on a start does not check them by their hash, unless it is told to."""


def cached_texts(
    source: str, files: Sequence[Path], columns: Columns, *, verify: bool = False, cache_dir: Path | None = None
) -> tuple[Dataset, str]:
    """The texts of a split, memory-mapped, and a hash that stands for them: of the files' bytes, and of the columns.

    A file whose path, size, time of change and inode are those of before is not read again.

    Args:
        source: what `data` names.
        files: of the split.
        columns: which columns of a table to read.
        verify: whether to read files that seem untouched, and large texts of the cache.
        cache_dir: by default `texts` in the cache folder.

    Raises:
        DataError: as `read_batches`; or the cache cannot be written.
    """
    place = cache_dir or cache_root() / "texts"
    schemas = [SCHEMA, SCHEMA.remove(1)] if columns.optional_target else [SCHEMA]
    try:
        place.mkdir(parents=True, exist_ok=True)
        record = place / f"{_name(files, columns)}.json"
        with locked(record.with_suffix(".lock"), f"reading `data` {source}"):
            states = _states(files)
            key, is_new = _key(record, files, columns, verify, states)
            path = place / f"{key}.texts"
            check = verify or is_new or (path.is_file() and path.stat().st_size < LARGE)
            is_read = not (is_intact(path, *schemas) if check else path.is_file())
            if is_read:
                batches = read_batches(source, list(files), columns)
                first = next(batches)  # tells whether there are targets
                write_arrow(path, first.schema, chain([first], batches))
            if _states(files) != states:
                path.unlink()  # it may hold other texts than those whose hash it is named by
                raise DataError(f"`data` {source}: changed while it was read: repeat the command when it is complete")
            write_json(record, {"key": key, "written": time.time_ns(), "files": states})
    except OSError as error:
        if error.filename and Path(error.filename) in files:
            raise
        raise not_written(place, error) from None
    dataset = open_arrow(path)
    if not is_read:
        logger.info("`data` %s: %d rows of %s, cached", source, len(dataset), ", ".join(f.name for f in files[:4]))
    return dataset, key


def _name(files: Sequence[Path], columns: Columns) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps([[str(file.resolve()) for file in files], astuple(columns)]).encode())


def _states(files: Sequence[Path]) -> list[list[int]]:
    stats = [file.stat() for file in files]
    return [[stat.st_size, stat.st_mtime_ns, stat.st_ino] for stat in stats]


def _key(
    record: Path, files: Sequence[Path], columns: Columns, verify: bool, states: list[list[int]]
) -> tuple[str, bool]:
    """The hash of the files, from the record where they are untouched; and whether they were read for it."""
    try:
        known: dict[str, Any] = json.loads(record.read_text("utf-8"))
        is_old = all(changed < known["written"] - JUST_NOW for _, changed, _ in states)
        if known["files"] == states and is_old and not verify:
            return str(known["key"]), False
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or it is damaged
    contents = [file_hash(file).hex() for file in files]
    formats = [format_of(file) for file in files]
    return xxhash.xxh3_128_hexdigest(json.dumps([FORMAT, contents, formats, astuple(columns)]).encode()), True
