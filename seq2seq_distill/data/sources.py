"""Read parallel text from folders, files and the hub as a `datasets.Dataset` of "source" and "target".

Whatever is wrong with a file is told in one line that names the file and the line (or the row).
"""

import hashlib
import itertools
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from babel.core import get_global
from datasets import Dataset, Features, Value, get_dataset_split_names, load_dataset

from seq2seq_distill.errors import DataError

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SPLIT_ALIASES = {"train": ("train",), "val": ("val", "validation", "valid", "dev"), "test": ("test",)}
WELL_KNOWN_COLUMNS = (
    ("source", "target"),
    ("document", "summary"),
    ("article", "highlights"),
    ("dialogue", "summary"),
    ("text", "summary"),
    ("article", "summary"),
)
TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
BATCH_ROWS = 10_000
_HUB_ID = re.compile(r"(?P<id>[\w][\w.-]*(/[\w][\w.-]*)?)(:(?P<config>[\w.+-]+))?", re.ASCII)


@dataclass(frozen=True)
class _Columns:
    """What the user said about the columns; chooses the pair among the names that a table has."""

    source: str | None
    target: str | None
    src_lang: str | None
    tgt_lang: str | None

    def choose(self, names: Sequence[str], where: str) -> tuple[str, str]:
        there_are = f"there are: {', '.join(names)}"
        for side, wanted in (("source", self.source), ("target", self.target)):
            if wanted is not None and wanted not in names:
                raise DataError(f"{where}: no column {wanted!r} (--encode.{side}_column); {there_are}")
        if self.source is not None and self.target is not None:
            return self.source, self.target
        for source, target in (*WELL_KNOWN_COLUMNS, *self._language_columns(names)):
            source, target = self.source or source, self.target or target
            if source in names and target in names and source != target:
                return source, target
        remedy = "name them with --encode.source_column and --encode.target_column"
        if any(name.startswith("translation.") for name in names):
            remedy = f"choose two with --src_lang (now {self.src_lang}) and --tgt_lang (now {self.tgt_lang})"
        raise DataError(f"{where}: the source and target columns are not known: {remedy}; {there_are}")

    def _language_columns(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        if self.src_lang is None or self.tgt_lang is None:
            return
        for parent in ("translation.", ""):
            keys = [name.removeprefix(parent) for name in names if name.startswith(parent)]
            source, target = _match_language(self.src_lang, keys), _match_language(self.tgt_lang, keys)
            if source is not None and target is not None:
                yield parent + source, parent + target


def base_language(code: str) -> str:
    """The two-letter language (ISO 639) of a code such as "en_XX", "eng_Latn" or "pt-BR".

    A code that is not known keeps what stands before its first "_" or "-".
    """
    head = re.split(r"[_-]", code.strip("_"))[0].lower()
    return get_global("language_aliases").get(head, head)


def _match_language(code: str, keys: Sequence[str]) -> str | None:
    """The key of a language: the code itself, or else the only key with the same two-letter language."""
    if code in keys:
        return code
    alike = [key for key in keys if base_language(key) == base_language(code)]
    return alike[0] if len(alike) == 1 else None


def load_split(
    source: str,
    split: str,
    *,
    source_column: str | None = None,
    target_column: str | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    limit: int | None = None,
) -> Dataset:
    """Read one split as a data set with exactly the text columns "source" and "target", in file order.

    Args:
        source: a folder with {train,val,test}.{source,target} (one example a line); a folder with one JSONL,
            JSON, CSV, TSV or Parquet file (or its numbered shards) per split; one such file, which is the
            train split; or the id of a data set on the hub with an optional ":config".
        split: "train", "val" or "test".
        source_column, target_column: names of the columns ("translation.en" is inside a nested one). By
            default the columns of well-known sets, and the languages' columns.
        src_lang, tgt_lang: languages of a nested `translation` column; "en_XX" or "eng_Latn" find "en" too.
        limit: keep only the first so many examples. The whole split is checked all the same.

    Raises:
        DataError: a missing folder, split or column, unequal line counts, an empty file, bytes that are not
            UTF-8, a blank or non-text cell. Examples of a hub data set with a blank side are left out with a
            warning instead, since its user cannot mend it.
    """
    columns = _Columns(source_column, target_column, src_lang, tgt_lang)
    path = Path(source).expanduser()
    if path.is_dir() or path.is_file():
        dataset = _from_files(source, _split_files(source, path, split), columns)
    else:
        dataset = _from_hub(*_hub_id(source), source=source, split=split, columns=columns)
    return dataset if limit is None or limit >= len(dataset) else dataset.select(range(limit))


def has_split(source: str, split: str) -> bool:
    """Whether `source` has `split`, without reading it. Raises DataError if there is no such source."""
    path = Path(source).expanduser()
    if path.is_dir():
        return bool(_find_files(path, split))
    if path.is_file():
        return split == "train"
    return any(name in SPLIT_ALIASES[split] for name in _hub_splits(*_hub_id(source), source=source))


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 (hex) of the texts in order, wherever they were read from."""
    digest = hashlib.sha256()
    for batch in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for name in ("source", "target"):
            texts = batch[name].to_pylist()
            digest.update(np.fromiter(map(len, texts), dtype="<i8", count=len(texts)).tobytes())
            digest.update("".join(texts).encode())
    return digest.hexdigest()


# ---- which files ----


def _find_files(folder: Path, split: str) -> list[Path]:
    """The files of a split: [x.source, x.target] (one may be missing), or a table, or its shards in order."""
    names = "|".join(SPLIT_ALIASES[split])
    for alias in SPLIT_ALIASES[split]:
        pair = [folder / f"{alias}.source", folder / f"{alias}.target"]
        if any(file.is_file() for file in pair):
            return pair
    suffixes = "|".join(suffix[1:] for suffix in TABLE_SUFFIXES)
    pattern = re.compile(rf"({names})(-\d+-of-\d+(-[0-9a-f]+)?)?\.({suffixes})")
    for place in (folder, folder / "data"):  # a clone of a hub data set keeps its shards in data/
        if place.is_dir():
            files = sorted(file for file in place.iterdir() if pattern.fullmatch(file.name))
            if files:
                return files
    return []


def _split_files(source: str, path: Path, split: str) -> list[Path]:
    if path.is_file():
        if split != "train":
            raise DataError(
                f"--data {source}: a single file is the train split: for {split} give a folder with one file per split"
            )
        if path.suffix not in TABLE_SUFFIXES:
            raise DataError(f"--data {source}: no {', '.join(TABLE_SUFFIXES)} file: give one, or a folder")
        return [path]
    files = _find_files(path, split)
    if not files:
        found = [name for name in SPLITS if _find_files(path, name)]
        raise DataError(
            f"--data {source}: no {split} split: add {path / split}.source and .target, or one .jsonl; "
            f"splits found: {', '.join(found) or 'none'}"
        )
    for file in files:
        if not file.is_file():
            raise DataError(f"--data {source}: {file} is missing: source and target come in pairs")
    _check_shards(source, files)
    return files


def _check_shards(source: str, files: list[Path]) -> None:
    if files[0].suffix == ".source":
        return
    counts = {int(match[1]) for file in files if (match := re.search(r"-of-(\d+)", file.name))}
    if counts and counts != {len(files)}:
        raise DataError(
            f"--data {source}: {len(files)} shards beside {files[0].name}, but its name says {max(counts)}: "
            "fetch the missing ones or remove those of another set"
        )
    if not counts and len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"--data {source}: {names} are the same split: keep one of them")


# ---- reading files ----


def _from_files(source: str, files: list[Path], columns: _Columns) -> Dataset:
    if files[0].suffix == ".source":
        pair = [_check_texts(_read_text(source, file), _line_of(source, file)) for file in files]
        if len(pair[0]) != len(pair[1]):
            raise DataError(
                f"--data {source}: {files[0]} has {len(pair[0])} lines and {files[1]} has {len(pair[1])}: "
                "line n of one must belong to line n of the other"
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
        raise DataError(f"--data {source}: {files[0]} is empty: give it at least one example")
    # A fingerprint of its own spares `datasets` from pickling the whole table to make one.
    return Dataset(table, fingerprint=uuid.uuid4().hex[:16])


def _line_of(source: str, file: Path) -> Callable[[int], str]:
    return lambda index: f"--data {source}: {file}:{index + 1}"


def _row_of(source: str, file: Path) -> Callable[[int], str]:
    return lambda index: f"--data {source}: {file}: row {index + 1}"


def _check_texts(texts: pa.ChunkedArray, locate: Callable[[int], str]) -> pa.ChunkedArray:
    """`texts` as strings. Raises DataError at the first cell that is null, blank or no text."""
    if not len(texts):
        return pa.chunked_array([], pa.string())
    if pa.types.is_dictionary(texts.type):
        texts = texts.cast(texts.type.value_type)
    if pa.types.is_null(texts.type):
        texts = texts.cast(pa.string())
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise DataError(f"{locate(0)}: a cell of type {texts.type} where a text must be: make it a string")
    blank = pc.index(_is_blank(texts), True).as_py()
    if blank >= 0:
        raise DataError(f"{locate(blank)}: blank: give it a text, or remove the example on both sides")
    return texts.cast(pa.string())


def _is_blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)


def _lines(source: str, file: Path) -> Iterator[str]:
    """Lines of a UTF-8 file without their ends, which are LF or CR LF.

    Text may hold U+2028, form feeds and the like, at which `str.splitlines` would break it.
    """
    number = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            try:
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"--data {source}: {file}:{number}: byte {error.start + 1} of the line is not UTF-8: "
                    "convert the file, for example with iconv -t UTF-8"
                ) from None
    if not number:
        raise DataError(f"--data {source}: {file} is empty: give it at least one example")


def _read_text(source: str, file: Path) -> pa.ChunkedArray:
    return _chunked((line,) for line in _lines(source, file))[0]


def _chunked(rows: Iterable[tuple[str, ...]], width: int = 1) -> list[pa.ChunkedArray]:
    """Columns of `rows` as Arrow strings, batch by batch, so that Python never holds them all."""
    chunks: list[list[pa.Array]] = [[] for _ in range(width)]
    rows = iter(rows)
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        for column, texts in zip(chunks, zip(*batch, strict=True), strict=True):
            column.append(pa.array(texts, pa.string()))
    return [pa.chunked_array(column, pa.string()) for column in chunks]


def _read_json(source: str, file: Path, columns: _Columns) -> list[pa.ChunkedArray]:
    """JSON lines, or (.json only) one array of objects."""
    return _chunked(_json_texts(_json_rows(source, file), f"--data {source}: {file}", columns), width=2)


def _json_texts(rows: Iterable[tuple[str, Any]], where: str, columns: _Columns) -> Iterator[tuple[str, str]]:
    paths: list[list[str]] = []
    for place, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{place}: a JSON object must be here, not {type(row).__name__}")
        names = [f"{key}.{sub}" for key, value in row.items() if isinstance(value, dict) for sub in value]
        names += [key for key, value in row.items() if not isinstance(value, dict)]
        if not paths:
            paths = [[name] if name in row else name.split(".", 1) for name in columns.choose(names, where)]
        yield _json_cell(row, paths[0], names, place), _json_cell(row, paths[1], names, place)


def _json_cell(row: dict[str, Any], path: list[str], names: list[str], place: str) -> str:
    name, cell = ".".join(path), row
    for key in path:
        if not isinstance(cell, dict) or key not in cell:
            raise DataError(f"{place}: no column {name!r}; there are: {', '.join(names)}")
        cell = cell[key]
    if not isinstance(cell, str):
        raise DataError(f"{place}: {name!r} is {json.dumps(cell)[:40]}, not a text: mend or remove the example")
    if cell.isascii() or not re.search("[\ud800-\udfff]", cell):
        return cell
    raise DataError(f"{place}: {name!r} holds half a surrogate pair, which is no character: remove it")


def _json_rows(source: str, file: Path) -> Iterator[tuple[str, Any]]:
    where = f"--data {source}: {file}"
    lines = _lines(source, file)
    first = next(lines)
    if file.suffix == ".json" and first.lstrip().startswith("["):
        try:
            rows = json.loads("\n".join([first, *lines]))
        except json.JSONDecodeError as error:
            raise DataError(f"{where}:{error.lineno}: not JSON: {error.msg}") from None
        yield from ((f"{where}: row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(itertools.chain([first], lines), 1):
        if not line.strip():
            raise DataError(f"{where}:{number}: blank line: remove it")
        try:
            yield f"{where}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}:{number}: not JSON: {error.msg} (column {error.colno})") from None


def _read_csv(source: str, file: Path, columns: _Columns) -> list[pa.ChunkedArray]:
    where = f"--data {source}: {file}"
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
    except pa.ArrowInvalid as error:
        raise DataError(f"{where}: {_one_line(error)}") from None
    return [table[name] for name in chosen]


def _read_parquet(source: str, file: Path, columns: _Columns) -> list[pa.ChunkedArray]:
    where = f"--data {source}: {file}"
    try:
        schema = pyarrow.parquet.read_schema(file)
        chosen = columns.choose(schema.empty_table().flatten().column_names, where)
        needed = [name if name in schema.names else name.split(".", 1)[0] for name in chosen]
        table = pyarrow.parquet.read_table(file, columns=list(dict.fromkeys(needed))).flatten()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{where}: not a Parquet file: {_one_line(error)}") from None
    return [table[name] for name in chosen]


# ---- the hub ----


def _hub_id(source: str) -> tuple[str, str | None]:
    match = _HUB_ID.fullmatch(source)
    if match is None or Path(source).suffix in TABLE_SUFFIXES:
        raise DataError(f"--data {source}: no such folder or file, nor the id of a hub data set: check the path")
    return match["id"], match["config"]


def _hub_error(source: str, error: Exception) -> DataError:
    return DataError(
        f"--data {source}: no such folder, and no hub data set that can be loaded: {_one_line(error)}: "
        "check the name and the network, or give a folder"
    )


def _hub_splits(name: str, config: str | None, *, source: str) -> list[str]:
    try:
        return get_dataset_split_names(name, config)
    except Exception as error:  # dozens of types, each a matter of name, network or format
        raise _hub_error(source, error) from None


def _from_hub(name: str, config: str | None, *, source: str, split: str, columns: _Columns) -> Dataset:
    splits = _hub_splits(name, config, source=source)
    wanted = next((alias for alias in SPLIT_ALIASES[split] if alias in splits), None)
    if wanted is None:
        raise DataError(f"--data {source}: no {split} split, only {', '.join(splits)}: save one in a folder")
    try:
        dataset = load_dataset(name, config, split=wanted).flatten()
    except Exception as error:  # as above
        raise _hub_error(source, error) from None
    where = f"--data {source}: split {wanted}"
    chosen = columns.choose(dataset.column_names, where)
    names = dict(zip(chosen, ("source", "target"), strict=True))
    dataset = dataset.select_columns(list(chosen)).rename_columns(names)
    blank = pa.chunked_array([pa.array([False] * len(dataset))])
    for column in ("source", "target"):
        texts = dataset.data.column(column)
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
            raise DataError(f"{where}: column {column!r} has the type {texts.type}, not text: choose another")
        blank = pc.or_(blank, _is_blank(texts))
    left_out = pc.sum(blank).as_py() or 0
    if left_out == len(dataset):
        raise DataError(f"{where}: no example with both a source and a target")
    if left_out:
        logger.warning("%s: %d of %d rows have a blank side and are left out", where, left_out, len(dataset))
        dataset = dataset.select(np.flatnonzero(~blank.to_numpy()))
    features = Features({"source": Value("string"), "target": Value("string")})
    return dataset if dataset.features == features else dataset.cast(features)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
