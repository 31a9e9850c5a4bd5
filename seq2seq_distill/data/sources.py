"""Read parallel text from folders, files and the Hub as a `datasets.Dataset` of "source" and "target".

Every problem in a file is reported in one line that names the file and the line (or row).
"""

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from datasets import Dataset, Features, Value, get_dataset_split_names, load_dataset

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.files import SIDES, TABLES, is_blank, read_batches
from seq2seq_distill.data.readers.lines import BATCH_ROWS, COMPRESSED, format_of
from seq2seq_distill.data.text_cache import cached_texts
from seq2seq_distill.utils.constants import SPLITS
from seq2seq_distill.utils.errors import DataError, format_value, one_line

logger = logging.getLogger(__name__)

ANY_COLUMNS = Columns()
LABEL_RECORD = "label.json"
"""Settings of a label set, in its folder."""
SPLIT_ALIASES = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}

_HUB_ID = re.compile(r"(?P<id>[\w][\w.-]*(/[\w][\w.-]*)?)(:(?P<config>\w[\w.+-]*))?", re.ASCII)


def load_split(source: str, split: str, columns: Columns = ANY_COLUMNS, *, limit: int | None = None) -> Dataset:
    """Read one split as a data set with exactly the text columns "source" and "target", in file order; with "source"
    alone, where `columns` says that there need not be targets and there are none.

    Args:
        source: a folder with {train,val,test}.{source,target} (one example a line); a folder with one JSONL,
            JSON, CSV, TSV or Parquet file (or its numbered shards) per split; one such file, which is the
            train split; or the id of a data set on the hub with an optional ":config". All but Parquet may be
            compressed (.gz, .xz, .zst).
        split: "train", "val" or "test".
        columns: which columns of a table, or languages of a nested one, are the source and the target.
        limit: keep only the first so many examples. The whole split is checked all the same.

    Raises:
        DataError: a missing folder, split or column, unequal line counts, an empty file, bytes that are not
            UTF-8, a blank or non-text cell. Examples of a hub data set with a blank side are left out with a
            warning instead, since its user cannot mend it.
    """
    with _readable(source):
        files = files_of_split(source, split, columns.optional_target)
        if files is not None:
            table = pa.Table.from_batches(read_batches(source, files, columns))
            # A fingerprint of its own spares `datasets` from pickling the whole table to make one.
            dataset = Dataset(table, fingerprint=uuid.uuid4().hex[:16])
        else:
            dataset = _from_hub(*_hub_id(source), source=source, split=split, columns=columns)
    return first_rows(dataset, limit)


def map_split(source: str, split: str, columns: Columns = ANY_COLUMNS, *, verify: bool = False) -> tuple[Dataset, str]:
    """`load_split`, memory-mapped, and a hash that stands for the texts; untouched files are not read again.

    `verify` reads them all the same.
    """
    with _readable(source):
        files = files_of_split(source, split, columns.optional_target)
        if files is not None:
            return cached_texts(source, files, columns, verify=verify)
        dataset = _from_hub(*_hub_id(source), source=source, split=split, columns=columns)
    return dataset, _texts_hash(dataset)


def files_of_split(source: str, split: str, optional_target: bool = False) -> list[Path] | None:
    """The files of a split, all there; None for a data set of the hub.

    With `optional_target`, a file that is no table is text, with a source a line.
    """
    path = _path(source)
    return _split_files(source, path, split, optional_target) if path.is_dir() or path.is_file() else None


def first_rows(dataset: Dataset, limit: int | None) -> Dataset:
    """The first `limit` rows, or all where there are fewer or `limit` is None."""
    return dataset if limit is None or limit >= len(dataset) else dataset.select(range(limit))


def has_split(source: str, split: str) -> bool:
    """Whether `source` has `split`, without reading it. Raises DataError if there is no such source."""
    with _readable(source):
        path = _path(source)
        if path.is_dir():
            return bool(_find_files(path, split))
        if path.is_file():
            return split == "train"
        return any(name in SPLIT_ALIASES[split] for name in _hub_splits(*_hub_id(source), source=source))


def is_label_set(source: str) -> bool:
    """Whether a data source is a folder that `distill label` has written."""
    return (_path(source) / LABEL_RECORD).is_file()


def is_file(source: str) -> bool:
    """Whether `source` is a single file. Raises DataError if the path cannot be accessed."""
    with _readable(source):
        return _path(source).is_file()


@contextmanager
def _readable(source: str) -> Iterator[None]:
    """Turn errors of the operating system into a `DataError`."""
    try:
        yield
    except OSError as error:
        reason = f"{format_value(str(error.filename or source))}: {error.strerror or one_line(error)}"
        raise DataError(f"`data` {format_value(source)}: {reason}: choose a readable folder or file") from None


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise DataError(
            f"`data` {format_value(source)}: the home folder of that user is unknown: write out the full path"
        ) from None


def _texts_hash(dataset: Dataset) -> str:
    """XXH3 (hex) of the texts in order, from Arrow's buffers."""
    digest = xxhash.xxh3_128(json.dumps(dataset.column_names).encode())
    for batch in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for name in batch.column_names:
            texts = batch[name].combine_chunks().cast(pa.large_binary())
            digest.update(pc.binary_length(texts).to_numpy().tobytes())
            ends = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
            digest.update(memoryview(texts.buffers()[2])[ends[0] : ends[-1]])
    return digest.hexdigest()


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 (hex) of the texts in order, wherever they were read from; what runs of before version 0.2 recorded."""
    digest = hashlib.sha256()
    for batch in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for name in batch.column_names:
            texts = batch[name].to_pylist()
            digest.update(np.fromiter(map(len, texts), dtype="<i8", count=len(texts)).tobytes())
            digest.update("".join(texts).encode())
    return digest.hexdigest()


# ---- which files ----


def _find_files(folder: Path, split: str) -> list[Path]:
    """The files of a split: [x.source, x.target] (one may be missing), or a table, or its shards in order."""
    names = "|".join(SPLIT_ALIASES[split])
    for alias in SPLIT_ALIASES[split]:
        pair = [_plain_or_compressed(folder / f"{alias}.{side}") for side in ("source", "target")]
        if any(file.is_file() for file in pair):
            return pair
    suffixes, compressed = ("|".join(suffix[1:] for suffix in group) for group in (TABLES, COMPRESSED))
    pattern = re.compile(rf"({names})(-\d+-of-\d+(-[0-9a-f]+)?)?\.({suffixes})(\.({compressed}))?")
    for place in (folder, folder / "data"):  # a clone of a hub data set keeps its shards in data/
        if place.is_dir():
            files = sorted(file for file in place.iterdir() if pattern.fullmatch(file.name))
            if files:
                return files
    return []


def _plain_or_compressed(file: Path) -> Path:
    """The file, or the only one of its compressed forms."""
    there = [path for suffix in ("", *COMPRESSED) if (path := file.with_name(file.name + suffix)).is_file()]
    if len(there) > 1:
        raise DataError(f"`data` {file.parent}: {there[0].name}, {there[1].name} are the same file: keep one of them")
    return there[0] if there else file


def _split_files(source: str, path: Path, split: str, optional_target: bool = False) -> list[Path]:
    if path.is_file():
        if split != "train":
            raise DataError(
                f"`data` {source}: a single file holds only the train split: for {split}, "
                "choose a folder with one file per split"
            )
        if format_of(path) not in TABLES and not optional_target:
            raise DataError(f"`data` {source}: unsupported file type: choose a {', '.join(TABLES)} file, or a folder")
        return [path]
    files = _find_files(path, split)
    if not files:
        available = [name for name in SPLITS if _find_files(path, name)]
        remedy = f"add {path / split}.source and .target, or one .jsonl"
        if split != "train" and is_label_set(source):
            remedy = "repeat its `distill label` with --n_val and --n_test, which generates nothing again"
        raise DataError(
            f"`data` {source}: no {split} split: {remedy}, or name a source that has this split too; "
            f"splits found: {', '.join(available) or 'none'}"
        )
    if optional_target and format_of(files[0]) == ".source" and not os.path.lexists(files[1]):
        del files[1]
    for file in files:
        if file.is_dir() or file.is_symlink() and not file.exists():
            what = "a folder" if file.is_dir() else "a broken link"
            raise DataError(
                f"`data` {source}: {file} is {what}, not a file: "
                f"replace it with a file of the {split} split, or remove it"
            )
        if not file.is_file():
            raise DataError(f"`data` {source}: {file} is missing: add it; .source and .target files come in pairs")
    _check_shards(source, files)
    return files


def _check_shards(source: str, files: list[Path]) -> None:
    if format_of(files[0]) == ".source":
        return
    counts = {int(match[1]) for file in files if (match := re.search(r"-of-(\d+)", file.name))}
    if counts and counts != {len(files)}:
        raise DataError(
            f"`data` {source}: found {len(files)} shards, but the name {files[0].name} says {max(counts)}: "
            "download the missing ones, or remove those of another data set"
        )
    if not counts and len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"`data` {source}: {names} belong to the same split: keep one of them")


# ---- the hub ----


def _hub_id(source: str) -> tuple[str, str | None]:
    if Path(source).is_symlink():
        raise DataError(f"`data` {source}: broken link: fix it, or choose another path")
    match = _HUB_ID.fullmatch(source)
    if match is None or format_of(Path(source)) in TABLES:
        raise DataError(f"`data` {source}: no such folder or file, and not the id of a Hub data set: check the path")
    return match["id"], match["config"]


def _hub_error(source: str, error: Exception) -> DataError:
    return DataError(
        f"`data` {source}: no such folder, and no Hub data set of that name can be loaded: {one_line(error)}: "
        "check the name and the network, or choose a folder"
    )


def _hub_splits(name: str, config: str | None, *, source: str) -> list[str]:
    try:
        return get_dataset_split_names(name, config)
    except Exception as error:  # dozens of types, each a matter of name, network or format
        raise _hub_error(source, error) from None


def _from_hub(name: str, config: str | None, *, source: str, split: str, columns: Columns) -> Dataset:
    splits = _hub_splits(name, config, source=source)
    wanted = next((alias for alias in SPLIT_ALIASES[split] if alias in splits), None)
    if wanted is None:
        raise DataError(
            f"`data` {source}: no {split} split, only {', '.join(splits)}: "
            "save the data in a folder that has this split"
        )
    try:
        dataset = load_dataset(name, config, split=wanted).flatten()
    except Exception as error:  # as above
        raise _hub_error(source, error) from None
    where = f"`data` {source}: split {wanted}"
    chosen = columns.choose(dataset.column_names, where)
    names = dict(zip(chosen, SIDES, strict=False))
    dataset = dataset.select_columns(list(chosen)).rename_columns(names)
    blank = pa.chunked_array([pa.array([False] * len(dataset))])
    for column in names.values():
        texts = dataset.data.column(column)
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
            raise DataError(f"{where}: column {column!r} has type {texts.type} instead of text: choose another column")
        blank = pc.or_(blank, is_blank(texts))
    left_out = pc.sum(blank).as_py() or 0
    if left_out == len(dataset):
        raise DataError(f"{where}: no example has both a source and a target: choose other columns or another data set")
    if left_out:
        logger.warning("%s: skipping %d of %d rows, whose source or target is blank", where, left_out, len(dataset))
        dataset = dataset.select(np.flatnonzero(~blank.to_numpy()))
    features = Features({name: Value("string") for name in names.values()})
    return dataset if dataset.features == features else dataset.cast(features)
