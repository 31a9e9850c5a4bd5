"""Atomic writes: a file or folder is there whole, or as it was before."""

import hashlib
import json
from pathlib import Path

import pytest

from seq2seq_distill.utils import files
from seq2seq_distill.utils.files import (
    create_folder,
    file_sha256,
    open_atomically,
    write_folder,
    write_json,
    write_jsonl,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFiles:
    def test_a_file_is_replaced_and_nothing_else_is_left(self, tmp_path):
        for text in ("first\n", "zweite Zeile äöü\n"):
            write_text(tmp_path / "a.txt", text)
            assert (tmp_path / "a.txt").read_text("utf-8") == text
        assert names(tmp_path) == ["a.txt"]

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_write_that_fails_leaves_the_old_file(self, tmp_path, monkeypatch, call):
        write_text(tmp_path / "a.txt", "old")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, call, full)
        with pytest.raises(OSError, match="No space left"):
            write_text(tmp_path / "a.txt", "new")
        assert (tmp_path / "a.txt").read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_json_keeps_letters_and_numbers(self, tmp_path):
        record = {"text": "grüne Wiese", "score": 0.1, "none": None}
        write_json(tmp_path / "a.json", record)
        write_jsonl(tmp_path / "a.jsonl", [record, record])
        assert json.loads((tmp_path / "a.json").read_text("utf-8")) == record
        lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line) for line in lines] == [record, record]
        assert "grüne" in lines[0]

    def test_two_writers_of_one_file_do_not_meet(self, tmp_path):
        path = tmp_path / "a.txt"
        with open_atomically(path, concurrent=True) as first, open_atomically(path, concurrent=True) as second:
            first.write(b"first")
            second.write(b"second")
        assert path.read_bytes() == b"first"  # the outer one ends last
        assert names(tmp_path) == ["a.txt"]

    def test_the_hash_is_that_of_the_content(self, tmp_path):
        (tmp_path / "a").write_bytes(b"content")
        assert file_sha256(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


class TestFolders:
    def test_a_folder_is_replaced_as_a_whole(self, tmp_path):
        for name in ("first", "second"):
            write_folder(tmp_path / "best", lambda folder, name=name: (folder / name).write_text(name))
        assert names(tmp_path / "best") == ["second"]
        assert names(tmp_path) == ["best"]

    def test_one_that_cannot_be_filled_leaves_the_old(self, tmp_path):
        write_folder(tmp_path / "best", lambda folder: (folder / "old").write_text("old"))

        def fail(folder: Path) -> None:
            (folder / "half").write_text("half")
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space left"):
            write_folder(tmp_path / "best", fail)
        assert names(tmp_path / "best") == ["old"]
        assert names(tmp_path) == ["best"]

    def test_what_a_killed_write_has_left_is_cleared_away(self, tmp_path):
        (tmp_path / ".best.new").mkdir()
        (tmp_path / ".best.new" / "half").write_text("half")
        (tmp_path / ".best.old").mkdir()
        (tmp_path / "best").mkdir()
        write_folder(tmp_path / "best", lambda folder: (folder / "whole").write_text("whole"))
        assert names(tmp_path) == ["best"]
        assert names(tmp_path / "best") == ["whole"]

    def test_of_two_that_are_created_at_once_the_first_stays(self, tmp_path):
        def overtaken(folder: Path) -> None:
            create_folder(tmp_path / "data", lambda other: (other / "first").write_text("first"))
            (folder / "second").write_text("second")

        with pytest.raises(OSError, match="not empty"):
            create_folder(tmp_path / "data", overtaken)
        assert names(tmp_path / "data") == ["first"]
        assert names(tmp_path) == ["data"]
