"""Arrow files of the cache: memory-mapped, written whole or not at all, and checked by their hash."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import xxhash
from datasets import Dataset

from seq2seq_distill.utils.constants import CACHE_VARIABLE
from seq2seq_distill.utils.errors import DataError
from seq2seq_distill.utils.files import replace_atomically

logger = logging.getLogger(__name__)

DIGEST_BYTES = xxhash.xxh3_128().digest_size
_BLOCK = 1 << 22


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """An Arrow stream with its hash (XXH3, 128 bits) behind it. Several processes may write the same file at once."""
    with replace_atomically(path, concurrent=True) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        digest = file_hash(temporary)
        with temporary.open("ab") as stream:
            stream.write(digest)


def not_written(folder: Path, error: OSError) -> DataError:
    """The error of a cache folder that cannot be written."""
    return DataError(
        f"{folder}: the cache of the data cannot be written ({error.strerror or error}): "
        f"set {CACHE_VARIABLE} to a writable folder"
    )


def file_hash(path: Path, size: int | None = None) -> bytes:
    """XXH3 of the file's first `size` bytes, by default all."""
    digest = xxhash.xxh3_128()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as stream:
        while left > 0 and (block := stream.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
    return digest.digest()


def is_intact(path: Path, *schemas: pa.Schema) -> bool:
    """Whether the file is there as `write_arrow` left it, with one of these schemas; damage is logged."""
    if not path.is_file():
        return False
    size = path.stat().st_size - DIGEST_BYTES
    with path.open("rb") as stream:
        stream.seek(max(0, size))
        intact = file_hash(path, size) == stream.read() and _has_schema(path, schemas)
    if not intact:
        logger.warning("%s is damaged: making it again", path)
    return intact


def _has_schema(path: Path, schemas: Sequence[pa.Schema]) -> bool:
    """Whether the file has one of these schemas: the hash reveals damage, but any file could come with a valid hash."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            return any(reader.schema.equals(schema, check_metadata=True) for schema in schemas)
    except (pa.ArrowException, OSError):  # which of the two hangs on the first bytes
        return False


def read_arrow(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a file, memory-mapped, one by one."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader


def open_arrow(path: Path) -> Dataset:
    """The rows of a file, memory-mapped."""
    return Dataset.from_file(str(path))
