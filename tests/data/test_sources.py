"""Reading parallel text: what is read, and the one line that tells what is wrong."""

import csv
import gzip
import json
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.languages import base_language
from seq2seq_distill.data.sources import _texts_hash, fingerprint, has_split, load_split
from seq2seq_distill.utils.errors import DataError

ROWS = [
    ("a dog", "ein Hund"),
    ("12 cats,\tsaid \u201cx\u201d", "NA"),
    ("\u00fcber\u2028line\x0b\x1c", "null"),
]

texts = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)
lines = texts.filter(
    lambda text: text.strip() and "\0" not in text and not text.endswith("\r") and not text.startswith("\ufeff")
)


def write_pair(folder: Path, source: str | bytes, target: str | bytes, split: str = "train") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("source", source), ("target", target)):
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / f"{split}.{suffix}").write_bytes(raw)


def write_table(path: Path, rows: list[tuple[str, str]], names: tuple[str, str] = ("source", "target")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        columns = zip(*rows, strict=True)
        pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([names, *rows])
    else:
        records = [dict(zip(names, row, strict=True)) for row in rows]
        text = json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records)) + "\n"
        path.write_text(text, encoding="utf-8")


def pairs(dataset: Dataset) -> list[tuple[str, str]]:
    assert dataset.column_names == ["source", "target"]
    return list(zip(dataset["source"], dataset["target"], strict=True))


def as_dataset(rows: list[tuple[str, str]]) -> Dataset:
    return Dataset.from_list([{"source": source, "target": target} for source, target in rows])


class TestFolder:
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
    @given(rows=st.lists(st.tuples(lines, lines), min_size=1, max_size=5))
    def test_any_unicode_lines_come_back_unbroken(self, tmp_path: Path, rows: list[tuple[str, str]]) -> None:
        source, target = zip(*rows, strict=True)
        write_pair(tmp_path, "\n".join(source) + "\n", "\n".join(target))
        assert pairs(load_split(str(tmp_path), "train")) == rows

    def test_first_line_with_a_coding_cookie_is_plain_text(self, tmp_path: Path) -> None:
        """H20: `linecache` takes such a line for the encoding of Python source."""
        write_pair(tmp_path, "# coding: latin-1\nh\u00e4user\n", "x\ny\n")
        assert load_split(str(tmp_path), "train")["source"][:] == ["# coding: latin-1", "h\u00e4user"]

    def test_windows_line_ends_and_byte_order_mark_are_removed(self, tmp_path: Path) -> None:
        write_pair(tmp_path, b"\xef\xbb\xbfa\r\nb\r\n", b"c\r\nd")
        assert pairs(load_split(str(tmp_path), "train")) == [("a", "c"), ("b", "d")]

    @pytest.mark.parametrize("blank", ["", "   ", "\u3000\t"])
    def test_blank_line_is_refused_with_file_and_line(self, tmp_path: Path, blank: str) -> None:
        """H20: blank lines passed."""
        write_pair(tmp_path, "a\nb\nc\n", f"x\n{blank}\nz\n")
        with pytest.raises(DataError, match=r"train\.target:2: blank"):
            load_split(str(tmp_path), "train")

    def test_unequal_line_counts_are_refused_with_both_counts(self, tmp_path: Path) -> None:
        """H20: source and target of unequal length passed."""
        write_pair(tmp_path, "a\nb\nc\n", "x\ny\n")
        with pytest.raises(DataError, match=r"train\.source has 3 lines and .*train\.target has 2"):
            load_split(str(tmp_path), "train")

    def test_bytes_that_are_not_utf8_are_refused_with_file_and_line(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a\nb\n", b"x\nh\xe4user\n")
        with pytest.raises(DataError, match=r"train\.target:2: byte 2 .* not UTF-8"):
            load_split(str(tmp_path), "train")

    def test_empty_file_is_refused(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "", "x\n")
        with pytest.raises(DataError, match=r"train\.source is empty"):
            load_split(str(tmp_path), "train")

    def test_missing_split_names_the_file_and_what_there_is(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a\n", "x\n")
        with pytest.raises(DataError, match=r"no val split: add \S+val\.source .*; splits found: train"):
            load_split(str(tmp_path), "val")
        assert has_split(str(tmp_path), "train") and not has_split(str(tmp_path), "val")

    def test_half_a_pair_names_the_missing_file(self, tmp_path: Path) -> None:
        (tmp_path / "test.source").write_text("a\n")
        with pytest.raises(DataError, match=r"test\.target is missing"):
            load_split(str(tmp_path), "test")

    @pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "a/b/c", "nowhere.csv"])
    def test_missing_folder(self, name: str) -> None:
        with pytest.raises(DataError, match=rf"^`data` {re.escape(name)}: no such folder"):
            load_split(name, "train")

    def test_limit_keeps_the_first_rows(self, tmp_path: Path) -> None:
        write_pair(tmp_path, "a\nb\nc\n", "x\ny\nz\n")
        assert pairs(load_split(str(tmp_path), "train", limit=2)) == [("a", "x"), ("b", "y")]
        assert len(load_split(str(tmp_path), "train", limit=9)) == 3


class TestTables:
    @pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
    @pytest.mark.parametrize("name", ["val", "validation", "valid", "dev"])
    def test_every_format_gives_the_same_texts(self, tmp_path: Path, suffix: str, name: str) -> None:
        write_table(tmp_path / f"{name}{suffix}", ROWS)
        dataset = load_split(str(tmp_path), "val")
        assert pairs(dataset) == ROWS
        assert fingerprint(dataset) == fingerprint(as_dataset(ROWS))

    @pytest.mark.parametrize("where", ["", "data"])
    def test_shards_are_joined_in_order(self, tmp_path: Path, where: str) -> None:
        for index, row in enumerate(ROWS):
            write_table(tmp_path / where / f"train-0000{index}-of-00003.parquet", [row])
        assert pairs(load_split(str(tmp_path), "train")) == ROWS
        (tmp_path / where / "train-00001-of-00003.parquet").unlink()
        with pytest.raises(DataError, match="2 shards, .* says 3"):
            load_split(str(tmp_path), "train")

    def test_two_files_for_one_split_are_refused(self, tmp_path: Path) -> None:
        write_table(tmp_path / "val.csv", ROWS)
        write_table(tmp_path / "dev.jsonl", ROWS)
        with pytest.raises(DataError, match=r"dev\.jsonl, val\.csv belong to the same split"):
            load_split(str(tmp_path), "val")

    def test_single_file_is_the_train_split(self, tmp_path: Path) -> None:
        path = tmp_path / "pairs.jsonl"
        write_table(path, ROWS)
        assert pairs(load_split(str(path), "train")) == ROWS
        assert has_split(str(path), "train") and not has_split(str(path), "test")
        with pytest.raises(DataError, match="single file holds only the train split: for test, choose a folder"):
            load_split(str(path), "test")
        (tmp_path / "pairs.txt").write_text("x")
        with pytest.raises(DataError, match=r"unsupported file type: choose a \.jsonl, "):
            load_split(str(tmp_path / "pairs.txt"), "train")

    @pytest.mark.parametrize(
        ("suffix", "content", "message"),
        [
            (".jsonl", '{"source": "a", "target": "b"}\n{"source": "a", "target": " "}\n', r":2: blank"),
            (".jsonl", '{"source": "a", "target": null}\n', r":1: 'target' is null, not text"),
            (
                ".jsonl",
                '{"source": "a", "target": "b"}\n{"source": 7, "target": "b"}\n',
                r":2: 'source' is 7",
            ),
            (
                ".jsonl",
                '{"source": "a", "target": "b"}\n{"source": "a"}\n',
                r":2: no column 'target'; .* source",
            ),
            (".jsonl", '{"source": "a", "target": "b"}\n\n', r":2: blank line"),
            (".jsonl", '{"source": "a", "target": "b"}\n{"source"\n', r":2: invalid JSON"),
            (".jsonl", '{"source": "\\ud800", "target": "b"}\n', r":1: 'source' contains half of a surrogate"),
            (".jsonl", '["a", "b"]\n', r":1: expected a JSON object, found list"),
            (".jsonl", b'{"source": "\xff", "target": "b"}\n', r":1: byte 13 .* not UTF-8"),
            (".jsonl", "", r"train\.jsonl is empty"),
            (".json", "[]", r"train\.json is empty"),
            (".json", '[{"source": "a", "target": "b"},\n {"source": "a", "target": ""}]', r"row 2: blank"),
            (".json", '[{"source": "a"\n', r"json:\d+: invalid JSON"),
            (".csv", "source,target\na,b\nc,\n", r"row 2: blank"),
            (".csv", b"source,target\na,b\nc,\xff\n", r"csv:3: byte 3 .* not UTF-8"),
            (".csv", "source,target\na,b\nc\n", r"row 2: 1 cells, and the header has 2"),
            (".csv", "source,target\n", r"train\.csv is empty"),
            (".csv", "id,summary\n1,b\n", r"cannot tell which columns .*available columns: id, summary"),
            (".parquet", "PAR0", r"not a Parquet file"),
        ],
    )
    def test_mistakes_name_file_and_place(
        self, tmp_path: Path, suffix: str, content: str | bytes, message: str
    ) -> None:
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"train{suffix}").write_bytes(raw)
        with pytest.raises(DataError, match=message) as caught:
            load_split(str(tmp_path), "train")
        assert "\n" not in str(caught.value)

    def test_parquet_cells_must_be_text(self, tmp_path: Path) -> None:
        path = tmp_path / "train.parquet"
        pq.write_table(pa.table({"source": ["a", None], "target": ["x", "y"]}), path)
        with pytest.raises(DataError, match=r"train\.parquet: row 2: blank"):
            load_split(str(path), "train")
        pq.write_table(pa.table({"source": ["a", "b"], "target": [1, 2]}), path)
        with pytest.raises(DataError, match=r"train\.parquet: row 1: .*int64"):
            load_split(str(path), "train")


class TestColumns:
    @pytest.mark.parametrize(
        "names",
        [("document", "summary"), ("article", "highlights"), ("dialogue", "summary"), ("text", "summary")],
    )
    def test_columns_of_well_known_sets_are_found(self, tmp_path: Path, names: tuple[str, str]) -> None:
        write_table(tmp_path / "train.csv", ROWS, names)
        assert pairs(load_split(str(tmp_path), "train")) == ROWS

    def test_explicit_columns_win(self, tmp_path: Path) -> None:
        record = {"source": "a", "target": "b", "text": "c", "title": "d"}
        (tmp_path / "train.jsonl").write_text(json.dumps(record))
        read = load_split(str(tmp_path), "train", Columns(source="text", target="title"))
        assert pairs(read) == [("c", "d")]
        assert pairs(load_split(str(tmp_path), "train", Columns(source="text"))) == [("c", "b")]
        with pytest.raises(DataError, match=r"no column 'body' \(`encode\.source_column`\); available columns: source"):
            load_split(str(tmp_path), "train", Columns(source="body"))

    @pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
    @pytest.mark.parametrize("codes", [("en", "de"), ("en_XX", "de_DE"), ("eng_Latn", "deu_Latn")])
    def test_nested_translation_column_by_languages(self, tmp_path: Path, suffix: str, codes: tuple[str, str]) -> None:
        records = [{"id": 1, "translation": {"de": "ein Hund", "en": "a dog", "fr": "un chien"}}]
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records), tmp_path / "train.parquet")
        else:
            (tmp_path / "train.jsonl").write_text(json.dumps(records[0]))
        read = load_split(str(tmp_path), "train", Columns(src_lang=codes[0], tgt_lang=codes[1]))
        assert pairs(read) == [("a dog", "ein Hund")]
        with pytest.raises(DataError, match=r"`src_lang` \(now en\) and `tgt_lang` \(now xx\).*translation\.fr"):
            load_split(str(tmp_path), "train", Columns(src_lang="en", tgt_lang="xx"))
        read = load_split(str(tmp_path), "train", Columns(source="translation.fr", target="translation.de"))
        assert pairs(read) == [("un chien", "ein Hund")]

    def test_base_language(self) -> None:
        codes = {"en": "en", "en_XX": "en", "eng_Latn": "en", "zho_Hans": "zh", "pt-BR": "pt", "__de__": "de"}
        assert {code: base_language(code) for code in codes} == codes
        assert base_language("tlh") == "tlh"


class TestHub:
    """The real loading code without the hub: `load_dataset` also takes a folder in the hub's layout.

    `load_split` would read such a folder itself; with a config behind the colon it is an id to it.
    """

    @pytest.fixture(autouse=True)
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def test_splits_configs_and_nested_columns(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = tmp_path / "org" / "set" / "big" / "data"
        folder.mkdir(parents=True)
        records = [{"translation": {"en": source, "de": target}} for source, target in [*ROWS, (" ", "x")]]
        pq.write_table(pa.Table.from_pylist(records), folder / "validation-00000-of-00001.parquet")
        files = "\n  - split: validation\n    path: big/data/*\n"
        card = f"---\nconfigs:\n- config_name: big\n  data_files:{files}---\n"
        (tmp_path / "org" / "set" / "README.md").write_text(card)
        assert has_split("org/set:big", "val") and not has_split("org/set:big", "train")
        read = load_split("org/set:big", "val", Columns(src_lang="eng_Latn", tgt_lang="de"), limit=5)
        assert pairs(read) == ROWS
        assert "skipping 1 of 4 rows" in caplog.text
        assert fingerprint(read) == fingerprint(as_dataset(ROWS))
        with pytest.raises(DataError, match="no test split, only validation"):
            load_split("org/set:big", "test")
        with pytest.raises(DataError, match="available columns: translation.en, translation.de"):
            load_split("org/set:big", "val")
        with pytest.raises(DataError, match="BuilderConfig 'small' not found"):
            load_split("org/set:small", "val")

    def test_data_set_scripts_are_refused_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "org" / "old").mkdir(parents=True)
        (tmp_path / "org" / "old" / "old.py").write_text("raise SystemError\n")
        with pytest.raises(DataError, match="scripts are no longer supported") as caught:
            load_split("org/old:plain", "train")
        assert "\n" not in str(caught.value)

    def test_no_network_is_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(DataError, match=r"^`data` org/far: no such folder, and no Hub data set") as caught:
            load_split("org/far", "train")
        assert "\n" not in str(caught.value)


class TestFingerprint:
    def test_depends_on_contents_and_order_alone(self, tmp_path: Path) -> None:
        whole = as_dataset([(f"s{index}", f"t{index}") for index in range(5)])
        parts = [whole.select([0, 1]), whole.select([2, 3, 4])]
        assert fingerprint(whole) == fingerprint(datasets.concatenate_datasets(parts))
        assert fingerprint(whole) != fingerprint(whole.select([1, 0, 2, 3, 4]))
        assert fingerprint(whole) != fingerprint(whole.select(range(4)))
        whole.save_to_disk(tmp_path / "saved")
        assert fingerprint(whole) == fingerprint(datasets.load_from_disk(tmp_path / "saved"))

    def test_borders_between_texts_count(self) -> None:
        one = Dataset.from_dict({"source": ["ab", "c"], "target": ["x", "y"]})
        other = Dataset.from_dict({"source": ["a", "bc"], "target": ["x", "y"]})
        assert fingerprint(one) != fingerprint(other)


def test_hash_of_texts_depends_on_each_text_and_not_on_chunks():
    texts = {"source": ["a", "bc", "é"], "target": ["x", "", "yz"]}
    plain = _texts_hash(Dataset.from_dict(texts))
    parts = [Dataset.from_dict({name: column[i : i + 1] for name, column in texts.items()}) for i in range(3)]
    assert _texts_hash(concatenate_datasets(parts)) == plain
    assert _texts_hash(Dataset.from_dict(texts).select([0, 1, 2])) == plain
    others = [{**texts, "source": ["ab", "c", "é"]}, {**texts, "target": ["x", "yz", ""]}]
    assert plain not in [_texts_hash(Dataset.from_dict(other)) for other in others]
    assert _texts_hash(Dataset.from_dict(texts).select([2, 0])) not in (plain, _texts_hash(Dataset.from_dict(texts)))


@pytest.mark.parametrize("name", ["mono.txt", "mono.en.gz"])
def test_a_text_file_has_a_source_a_line_where_there_need_be_no_targets(tmp_path, name):
    path = tmp_path / name
    with gzip.open(path, "wb") if name.endswith("gz") else path.open("wb") as file:
        file.write("a b\r\ncé\n".encode())
    assert load_split(str(path), "train", Columns(optional_target=True))[:] == {"source": ["a b", "cé"]}
    with pytest.raises(DataError, match="unsupported file type"):
        load_split(str(path), "train")
    with gzip.open(path, "wb") if name.endswith("gz") else path.open("wb") as file:
        file.write(b"a\n\nb\n")
    with pytest.raises(DataError, match=f"{name}:2: blank text"):
        load_split(str(path), "train", Columns(optional_target=True))
