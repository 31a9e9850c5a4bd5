"""Mistakes in data: folders of text and of tables, and single files."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.mistakes.config_files import ENDLESS
from tests.mistakes.kinds import Bad, Kind, command, words

FOLDER = Path("bad")
SPLITS = ("train", "val", "test")
SIDES = ("source", "target")
TABLES = ("jsonl", "json", "csv", "tsv", "parquet")
TYPED = ("jsonl", "json", "parquet")
"""Forms whose cells need not be text."""
MARK = "MARK"
NOT_UTF8 = (b"\xff\xfe..", b"a\xc3..", b"\xed\xa0\x80.", b"\x80\x80\x80\x80")
"""As long as the mark that they stand for, since a Parquet file counts bytes."""
Row = dict[str, Any]


def rows_of(split: str, count: int) -> list[Row]:
    return [{"source": f"a {split} dog {n}", "target": f"ein {split} hund {n}"} for n in range(count)]


def content(form: str, rows: Sequence[Row]) -> bytes:
    """A table as a file of this form."""
    if form == "parquet":
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(list(rows))
        pq.write_table(table, sink, compression="NONE", use_dictionary=False, write_statistics=False)
        return sink.getvalue().to_pybytes()
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form == "json":
        return json.dumps(list(rows), indent=0).encode()
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    if form == "tsv":
        return "".join("\t".join(map(str, line)) + "\n" for line in lines).encode()
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines).encode()


def empty_folder() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()


def fill(form: str) -> None:
    """Three good splits: tables of this form, or text."""
    empty_folder()
    for split in SPLITS:
        rows = rows_of(split, 3)
        if form == "text":
            for side in SIDES:
                (FOLDER / f"{split}.{side}").write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
        else:
            (FOLDER / f"{split}.{form}").write_bytes(content(form, rows))


def bad(named: str | Path, *arguments: str) -> Bad:
    return Bad(command("--data", str(FOLDER), *arguments), str(named))


def table(form: str, split: str, spoilt: bytes, *arguments: str) -> Bad:
    """A folder with a bad table among good ones."""
    fill(form)
    path = FOLDER / f"{split}.{form}"
    path.write_bytes(spoilt)
    return bad(path, *arguments)


def text(split: str, side: str, spoilt: bytes) -> Bad:
    """A folder with a bad text among good ones."""
    fill("text")
    path = FOLDER / f"{split}.{side}"
    path.write_bytes(spoilt)
    return bad(path)


def texts(title: str, spoilt: st.SearchStrategy[bytes], example: bytes) -> Kind:
    drawn = st.tuples(st.sampled_from(SPLITS), st.sampled_from(SIDES), spoilt)
    return Kind(title, drawn, ("train", "target", example), lambda drawn: text(*drawn))


def cells(title: str, forms: Sequence[str], values: st.SearchStrategy[Any], example: Any) -> Kind:
    """A table with one bad cell."""

    def make(drawn: tuple[str, str, str, int, Any]) -> Bad:
        form, split, side, at, value = drawn
        rows = rows_of(split, 4)
        for row in rows if form == "parquet" and not isinstance(value, str) and value is not None else [rows[at]]:
            row[side] = value  # a Parquet column has one type
        return table(form, split, content(form, rows))

    drawn = st.tuples(
        st.sampled_from(forms), st.sampled_from(SPLITS), st.sampled_from(SIDES), st.integers(0, 3), values
    )
    return Kind(title, drawn, (forms[0], "train", "target", 1, example), make)


def tables(title: str, forms: Sequence[str], spoilt: st.SearchStrategy[Any], example: Any, make: Any) -> Kind:
    """A bad table: `make` gives the bytes for the form and what is drawn."""
    drawn = st.tuples(st.sampled_from(forms), st.sampled_from(SPLITS), spoilt)
    return Kind(
        title, drawn, (forms[0], "train", example), lambda drawn: table(drawn[0], drawn[1], make(drawn[0], drawn[2]))
    )


def in_line(split: str, at: int, line: str) -> Bad:
    """A line among good JSON lines."""
    lines = content("jsonl", rows_of(split, 3)).decode().splitlines()
    return table("jsonl", split, ("\n".join([*lines[:at], line, *lines[at:]]) + "\n").encode())


def json_lines(title: str, lines: st.SearchStrategy[str], example: str) -> Kind:
    drawn = st.tuples(st.sampled_from(SPLITS), st.integers(1, 3), lines)
    return Kind(title, drawn, ("train", 1, example), lambda drawn: in_line(*drawn))


def longer(drawn: tuple[str, str, int]) -> Bad:
    split, side, lines = drawn
    return text(split, side, b"one line more\n" * (3 + lines))


def not_utf8(form: str, drawn: tuple[int, bytes]) -> bytes:
    at, wrong = drawn
    rows = rows_of("x", 3)
    rows[at]["source"] = f"a {MARK} b"
    return content(form, rows).replace(MARK.encode(), wrong)


def languages(drawn: tuple[str, str, str]) -> Bad:
    form, first, second = drawn
    return table(form, "train", content(form, [{"translation": {first: "a", second: "b"}}] * 2))


def one_language(drawn: tuple[str, int]) -> Bad:
    missing, at = drawn
    rows: list[Row] = [{"translation": {"en": "a", "de": "b"}} for _ in range(4)]
    del rows[at]["translation"][missing]
    return table("jsonl", "train", content("jsonl", rows))


def no_column(drawn: tuple[str, str, str]) -> Bad:
    form, option, name = drawn
    fill(form)
    return bad(f"--encode.{option}", f"--encode.{option}", name)


def gone(drawn: tuple[str, str]) -> Bad:
    split, side = drawn
    fill("text")
    path = FOLDER / f"{split}.{side}"
    path.unlink()
    return bad(path)


def folder_for_file(drawn: tuple[str, str]) -> Bad:
    form, split = drawn
    fill(form)
    path = FOLDER / (f"{split}.source" if form == "text" else f"{split}.{form}")
    path.unlink()
    path.mkdir()
    return bad(path)


def link(drawn: tuple[str, str, str]) -> Bad:
    form, split, target = drawn
    fill(form)
    path = FOLDER / (f"{split}.target" if form == "text" else f"{split}.{form}")
    path.unlink()
    os.symlink(target or path.name, path)
    return bad(path)


def no_split(drawn: tuple[str, str]) -> Bad:
    form, split = drawn
    fill(form)
    for path in FOLDER.glob(f"{split}.*"):
        path.unlink()
    return bad(f"no {split} split")


def two_for_one(drawn: tuple[str, str]) -> Bad:
    form, name = drawn
    fill(form)
    path = FOLDER / f"{name}.{form}"
    path.write_bytes(content(form, rows_of("val", 2)))
    return bad(path.name)


def too_few_shards(drawn: tuple[int, int]) -> Bad:
    there, said = drawn
    empty_folder()
    for n in range(there):
        path = FOLDER / f"train-{n:05}-of-{there + said:05}.jsonl"
        path.write_bytes(content("jsonl", rows_of("train", 2)))
    return bad("train-00000-of-")


def single(drawn: tuple[str, str]) -> Bad:
    name, form = drawn
    empty_folder()
    path = FOLDER / f"{name}.{form}"
    path.write_bytes(content(form, rows_of("train", 2)) if form in TABLES else b"x\n")
    return Bad(command("--data", str(path)), str(path))


def nowhere(path: str) -> Bad:
    empty_folder()
    return Bad(command("--data", path), path)


def loop(name: str) -> Bad:
    empty_folder()
    os.symlink(name, FOLDER / name)
    return Bad(command("--data", str(FOLDER / name)), str(FOLDER / name))


def cut(form: str, keep: float) -> bytes:
    whole = content(form, rows_of("train", 4))
    return whole[: int(len(whole) * keep)]


def nested_null(at: int) -> Bad:
    rows: list[Row] = [{"translation": {"en": "a", "de": "b"}} for _ in range(4)]
    rows[at]["translation"] = None
    return table("parquet", "train", content("parquet", rows))


places = st.tuples(st.sampled_from(SPLITS), st.sampled_from(SIDES))
blank = st.sampled_from(["", " ", "\u3000", " \u00a0 "])
codes = st.sampled_from(["fr", "it", "ru", "zh"])

KINDS = (
    Kind(
        "source and target with different numbers of lines",
        st.tuples(st.sampled_from(SPLITS), st.sampled_from(SIDES), st.integers(1, 9)),
        ("train", "target", 1),
        longer,
    ),
    texts("a blank line", st.tuples(blank, st.just("a\nb\n")).map("\n".join).map(str.encode), b"a\n\nb\n"),
    texts("text that is not UTF-8", st.sampled_from(NOT_UTF8).map(b"a\nb ".__add__), b"a\nM\xfcnchen\nb\n"),
    texts("text in UTF-16", words.map(lambda word: f"{word}\n".encode("utf-16-le") * 3), "a\nb\n".encode("utf-16-le")),
    texts("an empty text file", st.sampled_from([b"", b""]), b""),
    Kind("a source file without a target file", places, ("val", "target"), gone),
    Kind(
        "a folder where a file is expected",
        st.tuples(st.sampled_from(["text", *TABLES]), st.sampled_from(SPLITS)),
        ("jsonl", "test"),
        folder_for_file,
    ),
    Kind(
        "a broken or circular link in a folder",
        st.tuples(st.sampled_from(["text", *TABLES]), st.sampled_from(SPLITS), st.sampled_from(["nowhere", ""])),
        ("jsonl", "train", ""),
        link,
    ),
    Kind(
        "a data file that cannot be read",
        st.tuples(st.sampled_from(["text", "jsonl", "json", "csv"]), st.sampled_from(SPLITS), st.just(str(ENDLESS))),
        ("jsonl", "train", str(ENDLESS)),
        link,
    ),
    cells("an empty cell", TABLES, blank, ""),
    cells("a null in a cell", TYPED, st.none(), None),
    cells(
        "a cell that is not text",
        TYPED,
        st.one_of(st.integers(-99, 99), st.booleans(), st.lists(words, min_size=1), st.just({"a": 1})),
        7,
    ),
    cells("a NUL character in a cell", TYPED, words.map("{}\0".format), "a\0b"),
    tables(
        "a table that is not UTF-8",
        TABLES,
        st.tuples(st.integers(0, 2), st.sampled_from(NOT_UTF8)),
        (1, b"M\xfcnc"),
        not_utf8,
    ),
    tables(
        "columns with unknown names",
        TABLES,
        words,
        "body",
        lambda form, word: content(form, [{"id": "1", word: "a", f"{word}s": "b"}]),
    ),
    tables(
        "a table without rows",
        ("jsonl", "json", "csv", "tsv"),
        st.none(),
        None,
        lambda form, _: {"jsonl": b"", "json": b"[]"}.get(form, content(form, [{"source": 1, "target": 2}])[:18]),
    ),
    Kind(
        "a column that does not exist",
        st.tuples(st.sampled_from(TABLES), st.sampled_from(["source_column", "target_column"]), words),
        ("csv", "source_column", "body"),
        no_column,
    ),
    json_lines("a line that is not JSON", words.map('{{"source": {}'.format), '{"source": "a"'),
    json_lines(
        "a line that is not a JSON object",
        st.one_of(st.integers(), st.lists(words), words).map(json.dumps),
        '["a", "b"]',
    ),
    json_lines("a line without a column", words.map('{{"source": "a", "{}": "b"}}'.format), '{"source": "a"}'),
    json_lines("a blank line among JSON lines", blank, ""),
    json_lines(
        "half a surrogate pair",
        st.sampled_from(["d800", "dbff", "dc00", "dfff"]).map('{{"source": "a\\u{}", "target": "b"}}'.format),
        '{"source": "\\ud83d", "target": "b"}',
    ),
    json_lines("JSON nested too deeply", st.integers(3000, 9000).map("[".__mul__), "[" * 3000),
    json_lines("a JSON number with too many digits", st.integers(5000, 9000).map("7".__mul__), "7" * 5000),
    tables(
        "a row with too many or too few cells",
        ("csv", "tsv"),
        st.sampled_from([1, 3, 4]),
        3,
        lambda form, cells: content(form, rows_of("x", 2)) + {"csv": b",", "tsv": b"\t"}[form].join([b"c"] * cells),
    ),
    tables(
        "an unclosed quote",
        ("csv", "tsv"),
        words,
        "a dog",
        lambda form, word: content(form, rows_of("x", 2)) + f'"{word},\n'.encode(),
    ),
    tables(
        "two columns with the same name",
        ("csv", "tsv"),
        words,
        "a",
        lambda form, word: content(form, [{"source": word, "target": word, "TARGET": word}]).replace(
            b"TARGET", b"target"
        ),
    ),
    tables("a truncated Parquet file", ("parquet",), st.floats(0.01, 0.99), 0.5, cut),
    tables(
        "a file named as Parquet that is not",
        ("parquet",),
        st.one_of(words.map(str.encode), st.binary(max_size=99)),
        b"source,target\na,b\n",
        lambda form, spoilt: spoilt,
    ),
    Kind(
        "translations of different languages",
        st.tuples(st.sampled_from(TYPED), codes, codes).filter(lambda drawn: drawn[1] != drawn[2]),
        ("jsonl", "fr", "it"),
        languages,
    ),
    Kind(
        "a row without one of the languages",
        st.tuples(st.sampled_from(["en", "de"]), st.integers(1, 3)),
        ("de", 1),
        one_language,
    ),
    Kind("a row without translations", st.integers(0, 3), 2, nested_null),
    Kind(
        "a missing split",
        st.tuples(st.sampled_from(["text", *TABLES]), st.sampled_from(SPLITS)),
        ("text", "val"),
        no_split,
    ),
    Kind(
        "two files for one split",
        st.tuples(st.sampled_from(TABLES), st.sampled_from(["dev", "valid", "validation"])),
        ("csv", "dev"),
        two_for_one,
    ),
    Kind("missing shards", st.tuples(st.integers(1, 4), st.integers(1, 4)), (2, 1), too_few_shards),
    Kind("a single file as the only data", st.tuples(words, st.sampled_from(TABLES)), ("pairs", "jsonl"), single),
    Kind(
        "a file of an unsupported type",
        st.tuples(words, st.sampled_from(["txt", "xlsx", "txt.gz"])),
        ("pairs", "txt"),
        single,
    ),
    Kind("a folder that does not exist", words.map("./{}".format), "./nowhere", nowhere),
    Kind("unknown built-in data", words.map("demo:{}".format), "demo:news", nowhere),
    Kind("a circular link", words, "circle", loop),
)
