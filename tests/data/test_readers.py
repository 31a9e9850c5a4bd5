"""The readers of text files and tables, on what people's files hold."""

import bz2
import csv
import gzip
import json
import logging
import lzma
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers import lines as lines_module
from seq2seq_distill.data.readers.lines import read_lines
from seq2seq_distill.data.sources import ANY_COLUMNS, load_split
from seq2seq_distill.utils.errors import DataError

cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(str.strip)
in_a_line = cells.map(lambda text: text.translate(dict.fromkeys(map(ord, "\r\n\t"), " "))).filter(str.strip)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)


def read(path: Path, columns: Columns = ANY_COLUMNS) -> list[tuple[str, str]]:
    dataset = load_split(str(path), "train", columns)
    return list(zip(dataset["source"], dataset["target"], strict=True))


COMPRESS = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}


class TestLines:
    @pytest.mark.parametrize("block", [1, 5, 1 << 22])
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"a\nb\n", ["a", "b"]),
            (b"a\r\nb\r\n", ["a", "b"]),
            (b"a\n\nb", ["a", "", "b"]),
            (b"a\rb\nc\r", ["a\rb", "c"]),
            (b"a\r\r\nb\n", ["a\r", "b"]),
            (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
            ("a\u2028b\x0cc\n".encode(), ["a\u2028b\x0cc"]),
            (b"\n", [""]),
            (b"", []),
        ],
    )
    def test_end_in_lf_or_cr_lf_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, content: bytes, expected: list[str]
    ) -> None:
        monkeypatch.setattr(lines_module, "BLOCK_BYTES", max(block, 3))
        (tmp_path / "x").write_bytes(content)
        assert [line for batch in read_lines("x", tmp_path / "x") for line in batch.to_pylist()] == expected

    def test_a_wrong_byte_is_named_behind_a_block(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines_module, "BLOCK_BYTES", 8)
        (tmp_path / "x").write_bytes(b"abc\n" * 5 + b"ab\xff\n")
        with pytest.raises(DataError, match=r"x:6: byte 3 of the line is not UTF-8"):
            list(read_lines("x", tmp_path / "x"))


class TestCompressed:
    @pytest.mark.parametrize("suffix", COMPRESS)
    @pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv", "source"])
    def test_every_text_format(self, tmp_path: Path, suffix: str, form: str) -> None:
        """Once: "no train split", as if the folder were empty."""
        contents = {
            "jsonl": {"train.jsonl": '{"source": "a", "target": "b"}\n'},
            "json": {"train.json": '[{"source": "a", "target": "b"}]'},
            "csv": {"train-00000-of-00001.csv": "source,target\na,b\n"},
            "tsv": {"train.tsv": "source\ttarget\na\tb\n"},
            "source": {"train.source": "a\n", "train.target": "b\n"},
        }[form]
        for name, content in contents.items():
            (tmp_path / f"{name}{suffix}").write_bytes(COMPRESS[suffix](content.encode()))
        assert read(tmp_path) == [("a", "b")]
        if form != "source":
            assert read(next(tmp_path.iterdir())) == [("a", "b")]

    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_damage_is_one_line(self, tmp_path: Path, suffix: str) -> None:
        content = COMPRESS[suffix](b"".join(b'{"source": "%d", "target": "b"}\n' % n for n in range(9999)))
        for name, damaged in (("cut", content[: len(content) // 2]), ("other", bz2.compress(b"a\n"))):
            path = tmp_path / f"{name}.jsonl{suffix}"
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=rf"{name}\.jsonl\{suffix}: the \{suffix} file is damaged"):
                read(path)

    def test_joined_files_are_read_to_the_end(self, tmp_path: Path) -> None:
        one = b'{"source": "a", "target": "b"}\n'
        for suffix, compress in COMPRESS.items():
            path = tmp_path / f"train.jsonl{suffix}"
            path.write_bytes(compress(one) + compress(one))
            assert read(path) == [("a", "b")] * 2, suffix

    def test_a_file_and_its_compressed_form_are_refused(self, tmp_path: Path) -> None:
        for name in ("train.source", "train.target", "train.target.gz"):
            (tmp_path / name).write_bytes(b"a\n")
        with pytest.raises(DataError, match=r"train\.target, train\.target\.gz are the same file: keep one"):
            read(tmp_path)


class TestTsv:
    @quick
    @given(rows=st.lists(st.tuples(in_a_line, in_a_line), min_size=1))
    def test_cells_are_what_stands_between_tabs(self, tmp_path: Path, rows: list[tuple[str, str]]) -> None:
        path = tmp_path / "train.tsv"
        path.write_bytes("".join(f"{a}\t{b}\n" for a, b in [("source", "target"), *rows]).encode())
        assert read(path) == rows

    def test_quotation_marks_are_characters(self, tmp_path: Path) -> None:
        """Once rows between two of them were merged, without a word."""
        rows = [('"Yes" he said', '"Ja" sagte er'), ('"it opens', "b"), ("c", "d"), ('"and again', "f")]
        path = tmp_path / "train.tsv"
        path.write_text("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
        assert read(path) == rows

    def test_cells_that_a_csv_writer_has_quoted_are_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "train.tsv"
        path.write_text('source\ttarget\na\tb\n"say ""a"""\tb\n')
        assert read(path)[1] == ('"say ""a"""', "b")
        assert "train.tsv:3: cells that look quoted by a writer of CSV, in 1 of 2 rows" in caplog.text
        path.write_text('"source"\t"target"\n"a"\t"b"\n')
        with pytest.raises(DataError, match=r"train\.tsv:1: the header is in quotation marks"):
            read(path)

    def test_a_line_of_other_width_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "train.tsv"
        path.write_text("source\ttarget\na\tb\nc\td\te\n")
        with pytest.raises(DataError, match=r"train\.tsv:3: 3 cells, and the header has 2"):
            read(path)

    def test_other_columns_may_hold_anything(self, tmp_path: Path) -> None:
        path = tmp_path / "train.tsv"
        path.write_text("id\tsource\ttarget\n\ta\tb\n7\tc\td\n")
        assert read(path) == [("a", "b"), ("c", "d")]


class TestCsv:
    @quick
    @given(rows=st.lists(st.tuples(cells, cells), min_size=1), separator=st.sampled_from(",;\t|"))
    def test_what_python_writes_is_read(self, tmp_path: Path, rows: list[tuple[str, str]], separator: str) -> None:
        path = tmp_path / "train.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter=separator).writerows([("source", "target"), *rows])
        assert read(path) == rows

    def test_a_cell_of_megabytes(self, tmp_path: Path) -> None:
        """Once: "straddling object straddles two block boundaries"."""
        path, book = tmp_path / "train.csv", "again, " * 500_000
        path.write_text(f'source,target\na,b\n"{book}",c\n')
        assert read(path) == [("a", "b"), (book, "c")]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('a,b\n"c,d\n' + "e,f\n" * 9999, "row 2, which begins on line 3: a quotation mark opens .* does not close"),
            ('a,b\n"c" d,e\n', "row 2, which begins on line 3: a quotation mark closes a cell, and text follows"),
            ("a,b\nc\rd,e\n", "row 2, which begins on line 3: a carriage return within a cell that is not quoted"),
            ('a,b\n"c\n\nd",e\nf\n', "row 3: 1 cells, and the header has 2"),
            ("a,b\n\nc,d\n", "row 2: 0 cells, and the header has 2"),
        ],
    )
    def test_mistakes_are_told_with_their_row(self, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "train.csv"
        path.write_bytes(f"source,target\n{content}".encode())
        with pytest.raises(DataError, match=message):
            read(path)

    def test_rows_that_take_several_lines_are_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / "train.csv"
        path.write_text('source,target\na,"b\nc"\nd,e\n')
        with caplog.at_level(logging.INFO):
            assert read(path) == [("a", "b\nc"), ("d", "e")]
        assert "1 rows have line breaks within quotation marks" in caplog.text
        assert "2 rows of train.csv" in caplog.text

    def test_a_comma_in_the_header_comes_first(self, tmp_path: Path) -> None:
        path = tmp_path / "train.csv"
        path.write_text("source,target,a;b\nx;y,z,1\n")
        assert read(path) == [("x;y", "z")]


class TestCapitals:
    @pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
    def test_of_columns_do_not_matter(self, tmp_path: Path, form: str) -> None:
        path = tmp_path / f"train.{form}"
        if form == "parquet":
            pa.parquet.write_table(pa.table({"Source": ["a"], "TARGET": ["b"]}), path)
        elif form == "jsonl":
            path.write_text(json.dumps({"Source": "a", "TARGET": "b"}))
        else:
            comma = {"csv": ",", "tsv": "\t"}[form]
            path.write_text(f"Source{comma} TARGET\na{comma}b\n")
        assert read(path) == [("a", "b")]
        assert read(path, Columns(source="SOURCE", target="target")) == [("a", "b")]

    def test_matter_where_there_are_two(self, tmp_path: Path) -> None:
        path = tmp_path / "train.csv"
        path.write_text("source,Source,target\na,b,c\n")
        assert read(path) == [("a", "c")]
        path.write_text("SOURCE,Source,target\na,b,c\n")
        with pytest.raises(DataError, match="cannot tell which columns"):
            read(path)

    def test_commands_name_their_flags(self, tmp_path: Path) -> None:
        """Once `distill evaluate` named --encode.source_column, which it does not have."""
        path = tmp_path / "train.csv"
        path.write_text("a,b\n1,2\n")
        with pytest.raises(DataError, match="name them with `source_column` and `target_column`"):
            read(path, Columns(group=""))


def test_separators_are_found_where_there_need_be_no_targets(tmp_path):
    """Once the header `source;target` was one column of sources."""
    path = tmp_path / "train.csv"
    path.write_text("source;target\na, b;c\n")
    rows = load_split(str(path), "train", Columns(optional_target=True))
    assert rows[:] == {"source": ["a, b"], "target": ["c"]}
