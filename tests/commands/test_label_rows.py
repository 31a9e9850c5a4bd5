"""`distill label`: which rows get which targets: without references, with equal sources, with rows held out."""

import gzip
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seq2seq_distill import metrics
from seq2seq_distill.commands.label.command import label
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.training.labels import load_rows
from seq2seq_distill.training.labels.distinct_sources import DistinctSources
from seq2seq_distill.training.labels.support import unsupported
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError, DataError
from tests.tiny_labels import ROWS, label_config, save_teacher_and_data
from tests.tiny_runs import config as run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with teacher and data, which no test changes."""
    return save_teacher_and_data(tmp_path_factory.mktemp("label"))


@pytest.fixture
def sources(place: Path) -> list[str]:
    return (place / "data" / "train.source").read_text("utf-8").splitlines()


@pytest.fixture
def config(place: Path, tmp_path: Path) -> LabelConfig:
    return label_config(place, tmp_path / "labels")


def rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]


def as_text(path: Path, texts: list[str]) -> None:
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")


def as_gzip(path: Path, texts: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{text}\n" for text in texts).encode()))


def as_jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"source": text}) + "\n" for text in texts), "utf-8")


def as_parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"source": texts}), path)


FORMATS: dict[str, Callable[[Path, list[str]], None]] = {
    "mono.txt": as_text,
    "mono.en.gz": as_gzip,
    "mono.jsonl": as_jsonl,
    "mono.parquet": as_parquet,
}


def test_files_of_sources_give_the_same_targets(config, sources, tmp_path):
    targets = set()
    for name, write in FORMATS.items():
        write(tmp_path / name, sources)
        given = replace(config, data=[str(tmp_path / name)], output_dir=str(tmp_path / f"labels-{name}"))
        label(given)
        found = rows(given.folder)
        assert {row["reference"] for row in found} == {None} and len(found) > ROWS // 2
        targets.add(tuple((row["row"], row["target"], row["score"]) for row in found))
    assert len(targets) == 1


class TestDuplicates:
    @pytest.fixture
    def repeated(self, config, sources, tmp_path):
        """Each row twice, the second time with another reference; and a few more."""
        texts = [*sources, *sources, sources[3]]
        references = [f"reference {number}" for number in range(len(texts))]
        folder = tmp_path / "repeated"
        folder.mkdir()
        as_text(folder / "train.source", texts)
        as_text(folder / "train.target", references)
        return replace(config, data=[str(folder)], n_best=2, keep="best-chrf")

    def test_each_source_is_labelled_once_and_each_row_gets_a_target(self, config, repeated, tmp_path):
        once = replace(config, n_best=2, keep="all", output_dir=str(tmp_path / "once"))
        label(once)
        candidates: dict[str, list[str]] = {}
        for row in rows(once.folder):
            candidates.setdefault(row["source"], []).append(row["target"])
        report = label(repeated)
        assert report["distinct_sources"] == len(candidates) and report["rows"] == 2 * ROWS + 1
        assert sum(len(pq.read_table(path)) for path in (repeated.folder / "raw").iterdir()) == 2 * len(candidates)
        found = rows(repeated.folder)
        assert sorted(row["row"] for row in found) == list(range(2 * ROWS + 1))
        for row in found:
            assert row["reference"] == f"reference {row['row']}"
            close = metrics.score_per_example("chrf", candidates[row["source"]], [row["reference"]] * 2)
            assert row["target"] == candidates[row["source"]][int(np.argmax(close))]

    def test_later_ones_are_left_out_on_request_without_labelling_anew(self, repeated, monkeypatch):
        label(repeated)
        monkeypatch.setattr("seq2seq_distill.training.labels.filling.generated", None)
        report = label(replace(repeated, duplicates="drop"))
        found = rows(repeated.folder)
        assert report["kept"] == len(found) == report["distinct_sources"] == len({row["source"] for row in found})
        assert max(row["row"] for row in found) < ROWS

    def test_a_folder_that_labelled_each_row_goes_on(self, repeated, monkeypatch):
        monkeypatch.setattr(load_rows, "distinct_sources", lambda rows, key: _each_row(len(rows)))
        label(repeated)
        monkeypatch.undo()
        before = rows(repeated.folder)
        monkeypatch.setattr("seq2seq_distill.training.labels.filling.generated", None)
        label(repeated)
        assert rows(repeated.folder) == before


def _each_row(count: int) -> Any:
    numbers = np.arange(count)
    return DistinctSources(numbers, numbers, numbers + 1, numbers)


class TestHeldOut:
    @pytest.fixture
    def alone(self, config, sources, tmp_path):
        as_text(tmp_path / "mono.txt", [*sources, *sources[:5]])
        return replace(config, data=[str(tmp_path / "mono.txt")], n_val=4, n_test=3, min_words=1)

    def test_splits_share_no_source(self, alone, sources):
        report = label(alone)
        parts = {split: [row["source"] for row in rows(alone.folder, split)] for split in ("train", "val", "test")}
        assert [len(parts[split]) for split in ("val", "test")] == [report["val"], report["test"]] == [4, 3]
        assert len({*parts["train"], *parts["val"], *parts["test"]}) == len(set(sources))
        assert len({*parts["train"]}) == len(set(sources)) - 7
        for row in [*rows(alone.folder, "val"), *rows(alone.folder, "test")]:
            assert row["target"] == row["teacher_target"] and row["reference"] is None

    def test_the_table_adds_up(self, alone, capsys):
        report = label(alone)
        removed = report["filters"]["min_words"]["removed"]
        assert report["held_out"] == 7 + 1  # of the first five sources, which occur twice, one is held out
        assert report["chosen"] == removed + report["held_out"] + report["kept"]
        cells = [
            line.split("│") for line in capsys.readouterr().err.splitlines() if "held out for val and test" in line
        ]
        assert [cell.strip() for cell in cells[0]][3] == str(report["held_out"])

    def test_the_log_ends_with_what_a_run_would_miss(self, alone, config, caplog, place, tmp_path):
        """A run names the same remedy, which makes the label set whole."""
        caplog.set_level(logging.INFO)
        bare = replace(alone, n_val=None, n_test=None)
        label(bare)
        assert caplog.messages[-1] == (
            f"{alone.folder} has no val and no test split, which a run needs: repeat the command with `n_val` and "
            "`n_test`, which generates nothing again, or give the run another `data` source with them"
        )
        with pytest.raises(
            DataError, match="no val split: repeat its `distill label` with --n_val and --n_test, .* or name "
        ):
            load_split(str(alone.folder), "val")
        label(alone)
        assert "which a run needs" not in caplog.messages[-1] and len(load_split(str(alone.folder), "val")) == 4
        label(
            replace(config, output_dir=str(tmp_path / "of-splits"))
        )  # data of three splits, of which none is held out
        assert "no val and no test split, which a run needs: give the run another `data`" in caplog.messages[-1]

    def test_they_do_not_depend_on_what_else_there_is(self, alone, sources, tmp_path):
        label(alone)
        as_text(tmp_path / "mono.txt", sources[::-1])
        again = replace(alone, output_dir=str(tmp_path / "again"))
        label(again)
        for split in ("val", "test"):
            held_out = [{row["source"] for row in rows(each.folder, split)} for each in (alone, again)]
            assert held_out[0] == held_out[1]

    def test_a_student_learns_from_the_label_set_alone(self, alone, place, tmp_path):
        label(alone)
        given = run(tmp_path / "run", data=[str(alone.folder)], teacher=str(place / "teacher"), method="sft")
        assert run_config(replace(given, tgt_lang="de", src_lang="en"))["student"]

    def test_results_compare_with_the_teacher_that_wrote_them(self, alone, config, place, tmp_path):
        label(alone)
        student = replace(run(tmp_path / "run", method="sft", src_lang="en", tgt_lang="de"), teacher=None)
        student = replace(student, student=replace(student.student, path=str(place / "teacher"), decoder_layers=None))
        results = run_config(replace(student, data=[str(alone.folder)]))
        assert results["teacher"] is None and "which its teacher wrote" in results["scored_by"]
        pairs = tmp_path / "pairs"
        pairs.mkdir()
        for side in ("source", "target"):
            (pairs / f"train.{side}").write_bytes((place / "data" / f"train.{side}").read_bytes())
        given = replace(config, data=[str(pairs)], n_val=4, n_test=5, output_dir=str(tmp_path / "second-labels"))
        label(given)
        results = run_config(replace(student, data=[str(given.folder)], output_dir=str(tmp_path / "second")))
        test = rows(given.folder, "test")
        columns = [[row[name] for row in test] for name in ("teacher_target", "reference")]
        assert results["teacher"] == pytest.approx(metrics.bleu(*columns, "de"))
        assert set(results["kept"]) == {"bleu", "chrf"}

    def test_references_stay_targets(self, config, place, tmp_path):
        pairs = tmp_path / "pairs"
        pairs.mkdir()
        for side in ("source", "target"):
            (pairs / f"train.{side}").write_bytes((place / "data" / f"train.{side}").read_bytes())
        given = replace(config, data=[str(pairs)], n_test=5)
        label(given)
        for row in rows(given.folder, "test"):
            assert row["target"] == row["reference"] != row["teacher_target"]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"n_val": 20, "n_test": 20}, "leave none of the 24 distinct sources"),
            ({"split": "val", "n_val": 1}, "`split` is val"),
        ],
    )
    def test_what_leaves_nothing_is_refused(self, alone, place, options, words):
        data = {"data": [str(place / "data")]} if "split" in options else {}
        with pytest.raises(ConfigError, match=words):
            label(replace(alone, **{"n_val": None, "n_test": None, **options, **data}))

    def test_data_with_splits_of_its_own_keeps_them(self, config):
        with pytest.raises(ConfigError, match="`n_val` 1 takes rows from a training split alone, and `data` has a val"):
            label(replace(config, n_val=1))

    def test_they_are_usual_where_there_are_many_rows_of_one_split(self, alone, monkeypatch):
        monkeypatch.setattr(load_rows, "LARGE", 10)
        monkeypatch.setattr(load_rows, "HELD_OUT", 2)
        report = label(replace(alone, n_val=None, n_test=None))
        assert (report["val"], report["test"]) == (2, 2)


@pytest.mark.parametrize(("keep", "metric"), [("mbr-chrf", "chrf"), ("mbr-bleu", "bleu"), ("mbr-rouge", "rougeL")])
def test_the_candidate_with_the_least_risk_is_brute_force_over_all(config, tmp_path, keep, metric):
    label(replace(config, sample=True, n_best=4, beams=1, keep="all", output_dir=str(tmp_path / "all")))
    every = [row for path in sorted((tmp_path / "all" / "raw").iterdir()) for row in pq.read_table(path).to_pylist()]
    given = replace(config, sample=True, n_best=4, beams=1, keep=keep)
    label(given)
    for row in rows(given.folder):
        texts = [each["target"] for each in every if each["row"] == row["row"]]
        means = [np.mean(metrics.score_per_example(metric, [text] * 4, texts, "de")) for text in texts]
        assert row["target"] == texts[int(np.argmax(np.round(means, 9)))]


def test_targets_with_numbers_that_the_source_has_not_are_dropped(config):
    whole = replace(config, drop_unsupported=[])
    label(whole)
    expected = [row for row in rows(whole.folder) if not unsupported(["numbers"], row["source"], row["target"])]
    report = label(replace(config, drop_unsupported=["numbers", "names"]))  # names: not in German
    assert rows(config.folder) == expected
    assert report["filters"]["drop_unsupported"]["removed"] == report["chosen"] - len(expected)


def test_documents_are_labelled_sentence_by_sentence(config, sources, tmp_path):
    sentences = [f"The old cats {text} in the park." for text in sources[:6]]
    as_text(tmp_path / "sentences.txt", sentences)
    as_text(tmp_path / "documents.txt", [f"{sentences[i]}  {sentences[i + 1]}" for i in (0, 2, 4)])
    single = replace(config, data=[str(tmp_path / "sentences.txt")], output_dir=str(tmp_path / "single"))
    label(single)
    targets = {row["row"]: row["target"] for row in rows(single.folder)}
    joined = replace(config, data=[str(tmp_path / "documents.txt")], split_sentences=True)
    label(joined)
    for row in rows(joined.folder):
        parts = [targets.get(2 * row["row"] + number, "") for number in (0, 1)]
        assert row["target"] == " ".join(parts).strip()


def test_log_probabilities_of_tokens_stand_beside_the_targets(config):
    label(replace(config, logprobs=True))
    found = rows(config.folder)
    assert found
    for row in found:
        size = len(row["target"].encode())
        assert len(row["token_logprobs"]) == len(row["token_ends"]) and max(row["token_logprobs"]) <= 0
        assert row["token_ends"] == sorted(row["token_ends"]) and row["token_ends"][-1] <= size + 1
        assert row["target_cut"] or row["token_ends"][-1] == size + 1


def test_sources_in_another_language_are_left_out(config, tmp_path):
    texts = ["The children are playing in the old garden.", "Die Kinder spielen im alten Garten am Fluss.", "ok"]
    as_text(tmp_path / "mixed.txt", texts)
    report = label(replace(config, data=[str(tmp_path / "mixed.txt")], lang_id=True))
    assert report["rows"] == 2
    assert {row["source"] for row in rows(config.folder)} <= {texts[0], texts[2]}
    with pytest.raises(ConfigError, match="all 3 sources are in another language than `src_lang` ja"):
        as_text(tmp_path / "mixed.txt", [texts[0], texts[1], texts[0] + texts[0]])
        label(replace(config, data=[str(tmp_path / "mixed.txt")], lang_id=True, src_lang="ja"))
