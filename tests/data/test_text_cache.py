"""Texts in the cache: files are read once, and what has changed is noticed."""

import json
import os
import time

import pytest

from seq2seq_distill.data import text_cache
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import ANY_COLUMNS, fingerprint, load_split, map_split
from seq2seq_distill.data.text_cache import cached_texts
from seq2seq_distill.data.texts import Texts
from seq2seq_distill.utils.errors import DataError

OLD = time.time() - 100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "texts"


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "data" / "train.jsonl", ["a", "b", "c"])


def write(path, texts, changed=OLD):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"source": text, "target": f"x {text}"}) + "\n" for text in texts))
    os.utime(path, (changed, changed))
    return path


@pytest.fixture
def reads(monkeypatch):
    """Counts the files that are read for their rows, and for their hash."""
    counts = {"rows": 0, "hash": 0}

    def counting(name, function):
        def count(*arguments):
            counts[name] += 1
            return function(*arguments)

        return count

    monkeypatch.setattr(text_cache, "read_batches", counting("rows", text_cache.read_batches))
    monkeypatch.setattr(text_cache, "file_hash", counting("hash", text_cache.file_hash))
    return counts


def test_texts_are_those_of_the_file_and_memory_mapped(file):
    dataset, key = map_split(str(file), "train")
    assert dataset[:] == load_split(str(file), "train")[:]
    assert dataset.cache_files and len(key) == 32


def test_an_untouched_file_is_not_read_again(file, reads):
    _, key = map_split(str(file), "train")
    assert reads == {"rows": 1, "hash": 1}
    assert map_split(str(file), "train")[1] == key
    assert reads == {"rows": 1, "hash": 1}
    map_split(str(file), "train", verify=True)
    assert reads == {"rows": 1, "hash": 2}


def test_a_touched_file_of_the_same_bytes_is_the_same_data(file, reads):
    _, key = map_split(str(file), "train")
    os.utime(file, (OLD + 9, OLD + 9))
    assert map_split(str(file), "train")[1] == key
    assert reads == {"rows": 1, "hash": 2}


def test_a_changed_file_is_read_again(file, reads):
    before, key = map_split(str(file), "train")
    write(file, ["a", "B", "c"], OLD + 1)
    after, changed = map_split(str(file), "train")
    assert changed != key and after["source"][:] == ["a", "B", "c"] and before["source"][:] == ["a", "b", "c"]
    assert reads["rows"] == 2


def test_a_change_within_the_clock_s_tick_is_noticed(file, reads):
    """Same size, same time of change, same inode: a file that has just changed is not trusted."""
    now = time.time()
    write(file, ["a", "b", "c"], now)
    map_split(str(file), "train")
    write(file, ["a", "B", "c"], now)
    assert map_split(str(file), "train")[0]["source"][:] == ["a", "B", "c"]


def test_a_file_that_grows_while_it_is_read_is_not_kept(file, monkeypatch):
    """Its first texts were taken for all of it at every later start."""
    read = text_cache.read_batches

    def read_and_grow(*arguments):
        batches = list(read(*arguments))
        write(file, ["a", "b", "c", "d"], OLD + 10)
        return iter(batches)

    with monkeypatch.context() as patch:
        patch.setattr(text_cache, "read_batches", read_and_grow)
        with pytest.raises(DataError, match="changed while it was read: repeat the command when it is complete$"):
            map_split(str(file), "train")
    assert map_split(str(file), "train")[0]["source"] == ["a", "b", "c", "d"]


def test_verify_notices_what_nothing_else_shows(file):
    map_split(str(file), "train")
    write(file, ["a", "B", "c"])
    assert map_split(str(file), "train")[0]["source"][:] == ["a", "b", "c"]
    assert map_split(str(file), "train", verify=True)[0]["source"][:] == ["a", "B", "c"]


def test_columns_are_part_of_what_it_is(tmp_path):
    path = tmp_path / "data" / "train.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"source": "a", "target": "b", "other": "c"}))
    keys = [map_split(str(path), "train", columns)[1] for columns in (ANY_COLUMNS, Columns(target="other"))]
    assert len(set(keys)) == 2
    assert map_split(str(path), "train", Columns(target="other"))[0]["target"][:] == ["c"]


def test_damage_is_made_good(file, cache, caplog):
    before = map_split(str(file), "train")[0][:]
    [path] = cache.glob("*.texts")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-40] + b"x" * 40)
    assert map_split(str(file), "train")[0][:] == before
    assert "damaged" in caplog.text
    for record in cache.glob("*.json"):
        record.write_text("{")
    assert map_split(str(file), "train")[0][:] == before


def test_mistakes_are_told_at_every_start(file):
    write(file, ["a", " ", "c"])
    file.write_text('{"source": "a", "target": " "}\n')
    for _ in range(2):
        with pytest.raises(DataError, match=r"train\.jsonl:1: blank"):
            map_split(str(file), "train")


def test_a_cache_that_cannot_be_written_is_one_line(file, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written .*SEQ2SEQ_DISTILL_CACHE"):
        cached_texts(str(file), [file], ANY_COLUMNS, cache_dir=tmp_path / "file" / "texts")


def test_fingerprints_of_before_are_recognised(file):
    """Runs that began with a hash over the texts go on."""
    dataset, key = map_split(str(file), "train")
    texts = Texts(dict.fromkeys(("train", "val", "test"), dataset), (3,), dict.fromkeys(("train", "val", "test"), key))
    assert texts.are_those_of(texts.fingerprint)
    assert texts.are_those_of("-".join([fingerprint(dataset)[:16]] * 3))
    assert not texts.are_those_of("-".join(["0" * 16] * 3)) and not texts.are_those_of("xxh3:0")


def test_sources_alone_are_cached_where_targets_are_optional(tmp_path, reads):
    file = tmp_path / "train.csv"
    file.write_text("source\na\nb\n")
    os.utime(file, (OLD, OLD))
    for _ in range(2):
        dataset, _ = map_split(str(file), "train", Columns(optional_target=True))
        assert dataset[:] == {"source": ["a", "b"]} and dataset.cache_files
    assert reads["rows"] == 1
    with pytest.raises(DataError, match="cannot tell which columns are the source and the target"):
        map_split(str(file), "train")
