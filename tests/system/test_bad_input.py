"""Bad input of every kind: one line for each mistake, which names flag or file and a remedy; exit code 2."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.training import components as parts
from seq2seq_distill.utils.errors import DataError
from tests.mistakes import config_files, data_files, flags, models
from tests.mistakes.data_files import FOLDER, TABLES, content, empty_folder, rows_of
from tests.mistakes.kinds import Bad, Kind
from tests.mistakes.page import PAGE, answer, page, rows, rows_in, workplace

OTHERS, OTHERS_IN_MODELS = 3, 1
"""Inputs of a kind, in this process, besides its example."""
LIGHT = (*flags.KINDS, *config_files.KINDS)
"""Found before torch is imported."""
QUICK = (*LIGHT, *data_files.KINDS)
REMEDY = re.compile(
    r"\b(choose|give|name|write|add|leave|use|remove|rename|fix|correct|replace|fill|download|list|make|put|set|convert"
    r"|check|keep|save|raise|drop|mend|fetch|expected|did you mean|see --help|must be)\b"
)
NOISE = re.compile(r"^(\s*$|.*Loading weights|.*it/s\]|\[transformers\]|.*Warning|  warnings.warn)")
"""Of the libraries, once a model is looked at."""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with a teacher and data in which nothing is wrong."""
    path = tmp_path_factory.mktemp("bad-input")
    with workplace(path):
        yield path


@pytest.fixture
def no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is found to be bad before the teacher is loaded."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the teacher is loaded before all data is read")

    monkeypatch.setattr(parts, "load_teacher", refuse)


def check(bad: Bad, code: int, out: str, lines: list[str]) -> None:
    """One answer: exit code 2, a line for each mistake and nothing else; and nothing is written or run."""
    assert (code, out) == (2, "")
    assert not Path("run").exists() and not Path(config_files.MADE).exists()
    assert len(lines) == bad.lines, lines
    for line in lines:
        assert line.startswith("distill: ") and line.isprintable() and len(line) < 1000, line
        assert REMEDY.search(line), f"no remedy in: {line}"
    assert bad.named in "\n".join(lines), f"{bad.named} is not named in: {lines}"


def title(kind: Kind) -> str:
    return kind.title


class TestInOneProcess:
    """The example of each kind, which stands in the page of errors, and a few others of it."""

    @pytest.mark.parametrize("kind", QUICK, ids=title)
    def test_of_this_kind(self, kind: Kind, no_teacher: None) -> None:
        self.check_kind(kind, others=OTHERS)

    @pytest.mark.parametrize("kind", models.KINDS, ids=title)
    def test_of_this_kind_in_a_model(self, kind: Kind) -> None:
        self.check_kind(kind, others=OTHERS_IN_MODELS)

    def test_are_enough(self) -> None:
        assert (1 + OTHERS) * len(QUICK) + (1 + OTHERS_IN_MODELS) * len(models.KINDS) >= 500

    def test_and_their_examples_are_all_that_the_page_of_errors_has(self) -> None:
        """`python -m tests.mistakes.page` writes it anew."""
        text = PAGE.read_text(encoding="utf-8")
        assert text == page(lambda kind: rows_in(text, kind))

    def check_kind(self, kind: Kind, others: int) -> None:
        lines = self.check_value(kind, kind.example)
        assert rows(kind, lines) == rows_in(PAGE.read_text(encoding="utf-8"), kind)

        @settings(max_examples=others, suppress_health_check=list(HealthCheck))
        @given(value=kind.values)
        def check_others(value: Any) -> None:
            self.check_value(kind, value)

        check_others()

    def check_value(self, kind: Kind, value: Any) -> list[str]:
        bad = kind.make(value)
        code, out, lines = answer(bad.arguments)
        lines = [line for line in lines if kind not in models.KINDS or not NOISE.match(line)]
        check(bad, code, out, lines)
        return lines


@pytest.mark.parametrize("kind", [*flags.KINDS[::20], config_files.KINDS[0], data_files.KINDS[0]], ids=title)
def test_as_a_command(kind: Kind) -> None:
    bad = kind.make(kind.example)
    command = [sys.executable, "-m", "seq2seq_distill", *bad.arguments]
    here = os.environ | {"PYTHONPATH": str(PAGE.parents[1])}  # the current folder is not that of the package
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=here)
    check(bad, done.returncode, done.stdout, done.stderr.splitlines())


def test_nothing_is_wrong_with_the_rest_of_a_bad_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a message might tell of that."""
    monkeypatch.setattr("seq2seq_distill.cli.main.import_module", lambda _: pytest.fail("loaded"))
    with pytest.raises(pytest.fail.Exception, match="loaded"):
        answer(flags.command())


class TestReaders:
    """Whatever the bytes, they are read as text or refused in a line; an endless run would find no third way."""

    @settings(max_examples=150)
    @given(data=st.data())
    @pytest.mark.parametrize("form", ["source", *TABLES])
    def test_changed_bytes(self, form: str, data: st.DataObject) -> None:
        empty_folder()
        rows = [{**row, "n": n, "translation": {"en": "a", "de": "b"}} for n, row in enumerate(rows_of("train", 5))]
        plain = rows_of("train", 5)
        whole = "".join(f"{row['source']}\n" for row in plain).encode() if form == "source" else None
        whole = whole or content(form, rows if form in data_files.TYPED else plain)
        (FOLDER / "train.target").write_text("x\n" * 5) if form == "source" else None
        (FOLDER / f"train.{form}").write_bytes(data.draw(changed(whole)))
        columns = data.draw(st.sampled_from([Columns(), Columns(src_lang="en", tgt_lang="de"), Columns("n")]))
        try:
            dataset = load_split(str(FOLDER), "train", columns)
        except DataError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
            assert str(FOLDER) in str(error) and REMEDY.search(str(error))
        else:
            texts = [*dataset["source"], *dataset["target"]]
            assert all(text.strip() and text.encode() and "\0" not in text for text in texts)

    @settings(max_examples=60)
    @given(form=st.sampled_from(["source", *TABLES]), content=st.binary(max_size=60))
    def test_random_bytes(self, form: str, content: bytes) -> None:
        empty_folder()
        (FOLDER / f"train.{form}").write_bytes(content)
        if form == "source":
            (FOLDER / "train.target").write_bytes(content)
        try:
            load_split(str(FOLDER), "train")
        except DataError as error:
            assert str(error).isprintable() and REMEDY.search(str(error))


PIECES = (
    *(b"\0", b"\n", b"\r\n", b'"', b",", b"\t", b"{", b"}", b"[", b"]", b"null", b"NaN", b"1e999", b"\xff", b"\\ud800"),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b'"source":', b"[" * 3000, b"7" * 5000),
)


@st.composite
def changed(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes after a few changes: a piece put in, a part taken out, doubled or overwritten, the end cut off."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(whole)))
        end = min(len(whole), start + draw(st.integers(1, 30)))
        change = draw(st.sampled_from(["in", "out", "twice", "over", "cut"]))
        middle = {
            "in": lambda a=start, b=end, w=whole: draw(st.sampled_from(PIECES)) + w[a:b],
            "out": lambda: b"",
            "twice": lambda a=start, b=end, w=whole: w[a:b] * 2,
            "over": lambda a=start, b=end: draw(st.binary(min_size=b - a, max_size=b - a)),
            "cut": lambda: b"",
        }[change]()
        whole = whole[:start] + middle + (b"" if change == "cut" else whole[end:])
    return whole
