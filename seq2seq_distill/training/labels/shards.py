"""The folder of a labelled data set.

    label.json                           what was asked for, of which data and model, and the engine that was chosen
    answers/00000.json ...               of a language model: what the answers took, and what was taken off them
    raw/00000.parquet ...                all candidates of `shard_rows` rows each, as the model wrote them
    backward-0123abcd/00000.parquet ...  a score for each of them, by the backward model of that fingerprint
    ctranslate2/                         the converted model
    train-00000-of-00007.parquet ...     the data set: what `keep` and the filters leave
    report.json                          what each filter removed

A shard of these two is written whole or not at all, by one process, and depends on its rows alone. Each row
of them names the text that it was made for by its hash, which is checked whenever it is read.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from seq2seq_distill.data.readers.parquet import SOURCE_HASH, text_hash
from seq2seq_distill.data.sources import LABEL_RECORD
from seq2seq_distill.training.labels.choice import Candidate
from seq2seq_distill.training.output_folder import refuse_url
from seq2seq_distill.utils.constants import SPLITS
from seq2seq_distill.utils.errors import ConfigError, DataError
from seq2seq_distill.utils.files import open_atomically, write_json

RAW = pa.schema(
    [
        ("row", pa.int64()),
        (SOURCE_HASH, pa.string()),
        ("rank", pa.int32()),
        ("target", pa.string()),
        ("score", pa.float64()),
        ("gain", pa.float64()),
        ("source_cut", pa.bool_()),
        ("target_cut", pa.bool_()),
        ("token_logprobs", pa.list_(pa.float32())),
        ("token_ends", pa.list_(pa.int32())),
    ]
)
BACKWARD = pa.schema([("row", pa.int64()), ("target_sha256", pa.string()), ("score", pa.float64())])
PASSED = ".passed"
"""Folder of what passes the filters of a shard, until all shards have been seen."""
DIGITS = 6
"""Of a score: the last bits depend on how many threads added it up."""


class LabelFolder:
    """Paths of the folder, and the shards in it.

    Args:
        path: of the folder.
        split: that is labelled.
        rows: number of rows that are labelled.
        shard_rows: rows of a shard.
        backward: fingerprint of the backward model, if there is one.
    """

    def __init__(self, path: Path, split: str, rows: int, shard_rows: int, backward: str = "") -> None:
        self.path = path
        self.record = path / LABEL_RECORD
        self.report = path / "report.json"
        self.converted = path / "ctranslate2"
        self._split = split
        self._backwards = path / f"backward-{backward[:8]}"
        self._size, self._shard_rows = rows, shard_rows

    @property
    def shards(self) -> range:
        """Numbers of the shards."""
        return range(-(-self._size // self._shard_rows))

    def rows(self, shard: int) -> range:
        """The rows of a shard."""
        first = shard * self._shard_rows
        return range(first, min(first + self._shard_rows, self._size))

    def final(self, shard: int) -> Path:
        """File of the data set with what is left of a shard."""
        return self.path / f"{self._split}-{shard:05d}-of-{len(self.shards):05d}.parquet"

    def held_out(self, split: str) -> Path:
        """File of a split that is taken from the rows."""
        return self.path / f"{split}-00000-of-00001.parquet"

    def has_raw(self, shard: int) -> bool:
        """Whether a shard's candidates are there, whole."""
        return _is_whole(self._raw(shard))

    def has_backward(self, shard: int) -> bool:
        """Whether a shard's backward scores are there, whole."""
        return _is_whole(self._backward(shard))

    def write_raw(self, shard: int, sources: Sequence[str], candidates: Sequence[Sequence[Candidate]]) -> None:
        """Candidates of each of the shard's sources."""
        records = [
            (
                *(row, text_hash(source), rank, candidate.text, _rounded(candidate.score), _rounded(candidate.gain)),
                *(candidate.source_cut, candidate.target_cut, candidate.token_logprobs, candidate.token_ends),
            )
            for row, source, own in zip(self.rows(shard), sources, candidates, strict=True)
            for rank, candidate in enumerate(own)
        ]
        _write(self._raw(shard), records, RAW)

    def read_raw(self, shard: int, sources: Sequence[str]) -> pa.Table:
        """Candidates of each of the shard's sources, row by row, the likeliest first: a table of the schema `RAW`.

        Raises:
            DataError: a row of the file was made for another source, or for none of these.
        """
        path = self._raw(shard)
        table = pyarrow.parquet.read_table(path, schema=RAW).combine_chunks()
        rows, place = table["row"].to_numpy(), table["row"].to_numpy() - self.rows(shard).start
        known = (place >= 0) & (place < len(sources))
        counts = np.bincount(place[known], minlength=len(sources))
        # Row after row, each row's candidates numbered from 0.
        expected = np.repeat(np.arange(len(sources)), counts)
        ranks = np.arange(len(expected)) - np.repeat(np.cumsum(counts) - counts, counts)
        wrong = ~known
        if known.all():
            hashes = pa.array(map(text_hash, sources), pa.string()).take(pa.array(place))
            wrong = (place != expected) | (table["rank"].to_numpy() != ranks)
            wrong |= ~pc.fill_null(pc.equal(table[SOURCE_HASH], hashes), False).to_numpy()
        if wrong.any():
            row = rows[wrong.argmax()]
            raise DataError(f"{path}: a target of row {row} is of another source: remove the file, and run again")
        if not counts.all():
            raise DataError(f"{path}: there are rows without a target: remove the file, and run again")
        return table

    def write_backward(self, shard: int, candidates: pa.Table, scores: Sequence[float]) -> None:
        """Scores of all candidates of a shard, as `read_raw` gives them."""
        hashes = map(text_hash, candidates["target"].to_pylist())
        records = list(zip(candidates["row"].to_pylist(), hashes, map(_rounded, scores), strict=True))
        _write(self._backward(shard), records, BACKWARD)

    def read_backward(self, shard: int, candidates: pa.Table) -> pa.ChunkedArray:
        """The score of each candidate of a shard.

        Raises:
            DataError: a score is of another target.
        """
        path = self._backward(shard)
        table = pyarrow.parquet.read_table(path, schema=BACKWARD).slice(0, len(candidates))
        scored = candidates.slice(0, len(table))
        hashes = pa.array(map(text_hash, scored["target"].to_pylist()), pa.string())
        same = pc.and_(pc.equal(table["row"], scored["row"]), pc.equal(table["target_sha256"], hashes))
        wrong = np.append(~pc.fill_null(same, False).to_numpy(), len(table) < len(candidates))
        if wrong.any():
            row = candidates["row"][int(wrong.argmax())]
            raise DataError(f"{path}: a score of row {row} is of another target: remove the file, and run again")
        return table["score"]

    def clear(self) -> None:
        """Remove the data set, its report, and what processes that were killed have left: the folder is as labelling
        left it."""
        finals = [path for split in SPLITS for path in self.path.glob(f"{split}-*-of-*.parquet")]
        for path in [*finals, *self.path.glob("*/.*.new"), self.report]:
            path.unlink(missing_ok=True)
        shutil.rmtree(self.path / PASSED, ignore_errors=True)

    @contextmanager
    def passed(self) -> Iterator[Callable[[int], Path]]:
        """Files for what is left of each shard until all have been seen; they are gone when the block ends."""
        try:
            yield lambda shard: self.path / PASSED / f"{shard:05d}.parquet"
        finally:
            shutil.rmtree(self.path / PASSED, ignore_errors=True)

    @contextmanager
    def numbers(self, name: str) -> Iterator["NumberFile"]:
        """One number for each row of the data set, in a file that is gone when the block ends."""
        path = self.path / f"{PASSED}-{name}"
        try:
            with path.open("wb") as file:
                yield NumberFile(file)
        finally:
            path.unlink(missing_ok=True)

    def load_or_create_manifest(
        self, wanted: Mapping[str, Any], flags: Mapping[str, str], find: Callable[[], dict[str, Any]]
    ) -> Any:
        """What was found when the folder was new; of several processes one finds it, the others wait.

        Args:
            wanted: what the labels depend on.
            flags: the options to name in a message, where they are not `--` and the name.
            find: chooses what need not be told, but must stay.

        Raises:
            ConfigError: the folder is of something else, or cannot be written.
        """
        refuse_url(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / ".lock"):
                return self._load_or_create_manifest(wanted, flags, find)
        except OSError as error:
            raise ConfigError(
                f"`output_dir` {self.path}: {error.strerror}; choose a folder that can be written"
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this command; the system frees it when the process ends, however that comes.

        Raises:
            ConfigError: another command holds it.
        """
        try:
            with FileLock(self.path / ".held", blocking=False):
                yield
        except Timeout:
            raise ConfigError(
                f"`output_dir` {self.path} is in use by another `distill label`: wait for its end, or choose another "
                "folder"
            ) from None

    def _load_or_create_manifest(
        self, wanted: Mapping[str, Any], flags: Mapping[str, str], find: Callable[[], dict[str, Any]]
    ) -> Any:
        if not self.record.exists():
            own = (self.converted.name, ".")
            if any(not path.name.startswith(own) for path in self.path.iterdir()):
                raise ConfigError(f"`output_dir` {self.path} holds other files: choose a new folder")
            return self._write_manifest(wanted, find)
        try:
            record = json.loads(self.record.read_text("utf-8"))
            settings, found = record["settings"], record["found"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"`output_dir` {self.path}: {self.record} is damaged: choose another folder") from None
        differs = next((name for name, value in wanted.items() if settings.get(name) != value), None)
        if differs is None:
            return found
        if settings.get("server") and not self._has_answers():
            with self.held():  # a command that waits for its first answer keeps its settings
                return self._write_manifest(wanted, find)
        raise ConfigError(
            f"`output_dir` {self.path} was made with {flags.get(differs, f'`{differs}`')} {settings.get(differs)}, and "
            f"this command has {wanted[differs]}: choose another folder, or the same value"
        )

    def _write_manifest(self, wanted: Mapping[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        found = find()
        write_json(self.record, {"settings": dict(wanted), "found": found})
        return found

    def _has_answers(self) -> bool:
        """Whether a server has answered: its first error, such as of a mistyped model, leaves empty files alone."""
        files = [path for folder in ("answers", "raw") for path in (self.path / folder).glob("*")]
        return any(path.stat().st_size for path in files)

    def _raw(self, shard: int) -> Path:
        return self.path / "raw" / f"{shard:05d}.parquet"

    def _backward(self, shard: int) -> Path:
        return self._backwards / f"{shard:05d}.parquet"


class NumberFile:
    """Floats that are appended, and mapped from the file when all are there: ten million rows need no memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def append(self, values: NDArray[np.float64]) -> None:
        """Add some at the end."""
        self._file.write(values.astype(np.float64).tobytes())

    def map(self) -> NDArray[np.float64]:
        """All that were added."""
        self._file.flush()
        if not self._file.tell():
            return np.zeros(0)
        return np.memmap(self._file.name, np.float64, "r+")


def recorded_setting(path: Path, name: str) -> Any:
    """What label.json of a folder says of a setting; None where it says nothing, or there is none."""
    try:
        return json.loads((path / LABEL_RECORD).read_text("utf-8"))["settings"][name]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    with open_atomically(path, concurrent=True) as file:
        pyarrow.parquet.write_table(table, file)


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, DIGITS)


def _write(path: Path, records: Sequence[tuple[Any, ...]], schema: pa.Schema) -> None:
    columns = zip(*records, strict=True) if records else [[]] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    write_table(path, pa.Table.from_arrays(arrays, schema=schema))


def _is_whole(path: Path) -> bool:
    try:
        pyarrow.parquet.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True
