"""Atomic writes: a file or folder is written beside its place and then renamed, so that no reader sees half of it."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from seq2seq_distill.utils.constants import CACHE_VARIABLE
from seq2seq_distill.utils.errors import ConfigError


def cache_root() -> Path:
    """The folder of the environment variable SEQ2SEQ_DISTILL_CACHE, by default ~/.cache/seq2seq_distill."""
    root = os.environ.get(CACHE_VARIABLE)
    return Path(root).expanduser() if root else Path.home() / ".cache" / "seq2seq_distill"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path) -> bool:
    """Whether the file's hash is one of those written down in its folder."""
    known = {line.split()[0] for file in path.parent.glob("*.sha256") if (line := _first_line(file)).strip()}
    return file_sha256(path) in known


def hash_file(path: Path) -> Path:
    """Where a checkpoint's SHA-256 stands, in the form of the command sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def _first_line(path: Path) -> str:
    return path.read_text("utf-8", errors="replace").partition("\n")[0]


def writable_file(name: str, option: str) -> Path:
    """Path of a file that an option names, in a folder that is there.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = Path(name).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"`{option}` {name}: {error.strerror}; choose a file that can be written") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"`{option}` {name} cannot be written: choose a file, in a folder that can be written")
    return path


@contextmanager
def replace_atomically(path: Path, *, concurrent: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`: the file written there is synced to disk and takes the name of `path`.

    If the block raises, the temporary file is removed and `path` stays as it was.

    Args:
        path: the file to create or replace; its folder must exist.
        concurrent: whether several processes may write `path` at once; each then gets a temporary name of its own.
    """
    temporary = _unique_path(path) if concurrent else staging_path(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def open_atomically(path: Path, *, concurrent: bool = False) -> Iterator[BinaryIO]:
    """A binary file to write, which takes the name of `path` when the block ends; see `replace_atomically`."""
    with replace_atomically(path, concurrent=concurrent) as temporary, open(temporary, "wb") as file:
        yield file


def write_text(path: Path, text: str, *, concurrent: bool = False) -> None:
    """Write a text file in UTF-8, atomically."""
    with open_atomically(path, concurrent=concurrent) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any, *, concurrent: bool = False) -> None:
    """Write a value as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", concurrent=concurrent)


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON Lines, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Create or replace a folder, atomically: `fill` writes into one beside it; if that fails, the old one stays."""
    temporary, backup = staging_path(path), backup_path(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        if path.exists():
            shutil.rmtree(backup, ignore_errors=True)
            os.replace(path, backup)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(backup, ignore_errors=True)


def create_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Create a folder, atomically, where several processes may do so at once.

    Raises:
        OSError: the folder cannot be written, or holds something already: perhaps another process was faster.
    """
    temporary = _unique_path(path)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def staging_path(path: Path) -> Path:
    """Where a file or folder is written before it takes its name."""
    return path.with_name(f".{path.name}.new")


def backup_path(path: Path) -> Path:
    """Where a folder is kept until its successor has taken its name."""
    return path.with_name(f".{path.name}.old")


def _unique_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.new")
