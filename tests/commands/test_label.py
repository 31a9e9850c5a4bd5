"""`distill label`: what it writes, that it goes on where it was, and that a student learns from it."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.export.command import export_model
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.label.command import label
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import fingerprint, load_split
from seq2seq_distill.training import output_folder
from seq2seq_distill.training.labels import filling, teacher
from seq2seq_distill.training.labels.choice import choose
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import DataError, ModelError, UserError
from tests.tiny_labels import ROWS, label_config, save_teacher_and_data
from tests.tiny_runs import config as run
from tests.tiny_runs import save_teacher
from tests.tiny_tokenizers import SOURCES


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with teacher and data, which no test changes."""
    return save_teacher_and_data(tmp_path_factory.mktemp("label"))


@pytest.fixture
def config(place: Path, tmp_path: Path) -> LabelConfig:
    return label_config(place, tmp_path / "labels")


def rows(config: LabelConfig, folder: str = "") -> list[dict[str, Any]]:
    """Of the data set, or of raw candidates."""
    return [
        row for path in sorted((config.folder / folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def files(folder: Path) -> dict[str, bytes]:
    """What lies in the folder, but for the locks."""
    locks = (".lock", ".held")
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in locks
    }


def texts(place: Path, side: str) -> list[str]:
    return (place / "data" / f"train.{side}").read_text("utf-8").splitlines()


def in_a_child(work: Callable[[], Any]) -> int:
    """Do it in a process of its own; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class TestFolder:
    def test_it_holds_pairs_that_a_run_reads(self, config: LabelConfig, place: Path) -> None:
        report = label(config)
        found = rows(config)
        sources, references = texts(place, "source"), texts(place, "target")
        assert report["kept"] == len(found) == report["rows"] - report["filters"]["min_words"]["removed"] > ROWS // 2
        assert len(list(config.folder.glob("train-*-of-00005.parquet"))) == 5
        for row in found:
            assert (row["source"], row["reference"]) == (sources[row["row"]], references[row["row"]])
            assert row["target"].strip() and row["score"] < 0 and row["origin"] == f"{config.model} (transformers)"
        read = load_split(str(config.folder), "train")
        assert list(read["source"]) == [row["source"] for row in found]
        assert list(read["target"]) == [row["target"] for row in found]

    def test_best_of_n_is_brute_force_over_the_candidates(self, config: LabelConfig) -> None:
        label(replace(config, n_best=2, keep="best-chrf"))
        candidates: dict[int, list[str]] = {}
        for row in rows(config, "raw"):
            candidates.setdefault(row["row"], []).append(row["target"])
        assert {len(own) for own in candidates.values()} == {2}
        for row in rows(config):
            own = candidates[row["row"]]
            assert row["target"] == own[choose("best-chrf", own, row["reference"])[0]] == own[row["rank"]]

    def test_options_of_generate_reach_the_model(self, config: LabelConfig, place: Path, tmp_path: Path) -> None:
        plain, asked = (replace(config, output_dir=str(tmp_path / name)) for name in ("plain", "asked"))
        asked = replace(asked, generate={"no_repeat_ngram_size": 2})
        own = Path(shutil.copytree(place / "teacher", tmp_path / "own"))
        path = own / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"no_repeat_ngram_size": 2}))
        for each in (plain, asked, replace(config, model=str(own))):
            label(each)
        targets = [[row["target"] for row in rows(each, "raw")] for each in (plain, asked, config)]
        assert targets[0] != targets[1] == targets[2]
        assert json.loads((asked.folder / "label.json").read_text())["settings"]["generate"] == asked.generate

    def test_a_single_file_is_whatever_split_is_asked_for(self, config: LabelConfig, tmp_path: Path) -> None:
        file = tmp_path / "pairs.jsonl"
        file.write_text("".join(json.dumps({"source": f"the dog {n}", "target": "der hund"}) + "\n" for n in range(3)))
        label(replace(config, data=[str(file)], split="val", targets="reference"))
        assert len(load_split(str(config.folder), "val")) == 3

    def test_thresholds_change_without_labelling_anew(self, config: LabelConfig, monkeypatch) -> None:
        every = label(config)
        monkeypatch.setattr(filling, "generated", None)
        scores = sorted(row["score"] for row in rows(config))
        report = label(replace(config, min_score=scores[10], max_length_ratio=0.5))
        assert report["filters"]["min_score"]["removed"] == 10 + every["filters"]["min_words"]["removed"] - sum(
            row["score"] >= scores[10] for row in rows(config, "raw") if not row["target"].strip()
        )
        for row in rows(config):
            assert row["score"] >= scores[10] and len(row["target"].split()) <= len(row["source"].split()) / 2
        assert label(config) == every

    def test_filters_that_leave_nothing(self, config: LabelConfig) -> None:
        with pytest.raises(UserError, match="the filters leave nothing: report.json says which; loosen it"):
            label(replace(config, min_score=0.0))
        assert json.loads((config.folder / "report.json").read_text())["filters"]["min_score"]["removed"] == ROWS

    def test_draws_are_several_and_come_again(self, config: LabelConfig, tmp_path: Path) -> None:
        drawn = replace(config, beams=None, sample=True, n_best=3, keep="all", top_k=5, temperature=2.0)
        others = replace(drawn, output_dir=str(tmp_path / "others"), seed=1)
        again = replace(drawn, output_dir=str(tmp_path / "again"))
        for each in (drawn, others, again):
            label(each)
        first, second, third = (rows(each, "raw") for each in (drawn, others, again))
        assert len(first) == 3 * ROWS and first == third != second
        assert len({row["target"] for row in first}) > ROWS
        own = [row["score"] for row in first if row["row"] == 7]
        assert own == sorted(own, reverse=True)

    def test_the_data_s_own_targets(self, config: LabelConfig, place: Path) -> None:
        label(replace(config, targets="reference", n=10))
        found = rows(config)
        assert [row["target"] for row in found] == texts(place, "target")[:10]
        assert all(row["score"] < 0 and row["gain"] != 0 for row in found)
        assert {row["origin"] for row in found} == {f"{config.model} (reference)"}

    def test_the_worst_by_a_model_of_the_other_direction(self, config: LabelConfig, place: Path) -> None:
        own = replace(config, targets="reference", backward_model=str(place / "teacher"), drop_fraction=0.25)
        report = label(own)
        backward = [
            row["score"]
            for path in sorted(config.folder.glob("backward-*/*"))
            for row in pq.read_table(path).to_pylist()
        ]
        assert len(backward) == ROWS and report["filters"]["drop_fraction"]["removed"] == 6
        assert [row["backward_score"] for row in rows(config)] == [
            each for each in backward if each > sorted(backward)[5]
        ]


class TestCut:
    """Sources that the model did not read whole, and targets that were stopped at the limit."""

    def test_are_counted_marked_and_dropped_on_request(self, config, place, caplog):
        own = replace(config, max_source_length=6, max_target_length=7)
        with caplog.at_level("WARNING"):
            report = label(own)
        tokenizer = AutoTokenizer.from_pretrained(place / "teacher")
        cut = {n for n, text in enumerate(texts(place, "source")) if len(tokenizer(text)["input_ids"]) > 6}
        kept = rows(own)
        assert {row["row"] for row in kept if row["source_cut"]} == cut.intersection(row["row"] for row in kept)
        assert report["cut"] == {"sources": len(cut), "targets": sum(row["target_cut"] for row in rows(own, "raw"))}
        assert 0 < len(cut) < ROWS and report["cut"]["targets"] > 0
        assert f"cut: {len(cut)} of {ROWS} sources" in caplog.text and "drop_cut" in caplog.text
        own = replace(own, targets="reference", drop_cut=True, output_dir=f"{config.folder}-references")
        dropped = label(own)
        assert dropped["kept"] == ROWS - len(cut) and dropped["filters"]["drop_cut"]["removed"] == len(cut)
        assert {row["row"] for row in rows(own)} == set(range(ROWS)) - cut

    def test_folders_of_before_go_on(self, config):
        """Their candidates do not say whether they were cut."""
        label(config)
        before = [row["target"] for row in rows(config)]
        for path in (config.folder / "raw").glob("*.parquet"):
            pq.write_table(pq.read_table(path).drop_columns(["source_cut", "target_cut"]), path)
        assert label(config)["cut"] == {"sources": 0, "targets": 0}
        assert [row["target"] for row in rows(config)] == before
        assert {row["source_cut"] for row in rows(config)} == {None}


class TestSourcesAlone:
    """Texts without targets: once `train.target is missing`, or each source was its own reference."""

    @pytest.fixture(params=["folder", "jsonl", "csv", "tsv", "parquet"])
    def data(self, request, tmp_path):
        folder = tmp_path / "alone"
        folder.mkdir()
        path = folder / f"train.{request.param}"
        if request.param == "folder":
            (folder / "train.source").write_text("\n".join(SOURCES) + "\n")
        elif request.param == "parquet":
            pq.write_table(pa.table({"source": SOURCES}), path)
        elif request.param == "jsonl":
            path.write_text("".join(json.dumps({"source": text}) + "\n" for text in SOURCES))
        else:
            path.write_text("\n".join(["source", *SOURCES]) + "\n")
        return [str(folder)]

    def test_are_labelled_without_references(self, config, data):
        report = label(replace(config, data=data, n_best=2, keep="all", max_repetition=0.9))
        found = rows(config)
        assert report["rows"] == len(SOURCES) and {row["reference"] for row in found} == {None}
        assert all(row["source"] == SOURCES[row["row"]] for row in found)
        assert load_split(data[0], "train", Columns(optional_target=True)).column_names == ["source"]
        assert len(load_split(str(config.folder), "train")) == len(found)

    @pytest.mark.parametrize(
        "option",
        [
            {"keep": "best-chrf"},
            {"min_chrf": 1.0},
            {"min_rouge2": 1.0},
            {"min_script": 0.5, "tgt_lang": None},
            {"targets": "reference"},
        ],
        ids=lambda option: next(iter(option)),
    )
    def test_what_needs_references_is_refused(self, config, place, tmp_path, option):
        folder = tmp_path / "alone"
        folder.mkdir()
        shutil.copy(place / "data" / "train.source", folder)
        given = replace(config, data=[str(place / "data"), str(folder)], **option)
        given = replace(given, n_best=2) if "keep" in option else given
        with pytest.raises(UserError, match=f"^`{next(iter(option))}` .* needs references, and `data` .* has none"):
            label(given)

    def test_a_column_is_not_both_sides(self, tmp_path):
        path = tmp_path / "train.csv"
        path.write_text("text\na\n")
        with pytest.raises(DataError, match="column 'text' cannot be both the source and the target"):
            load_split(str(path), "train", Columns("text", "text", group="", optional_target=True))


class TestScripts:
    """Scores that do not see the text of the references."""

    @pytest.fixture
    def russian(self, config, tmp_path):
        path = tmp_path / "train.jsonl"
        lines = ({"source": text, "target": "Кошка сидит на окне"} for text in SOURCES)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return replace(config, data=[str(path)], n_best=2)

    @pytest.mark.parametrize("option", [{"keep": "best-rouge"}, {"min_rouge2": 1.0}])
    def test_rouge_of_another_script_is_refused_once(self, russian, option):
        """Once a warning for each row, and a choice at random."""
        with pytest.raises(UserError, match=r"drops most letters of 100% .* set `rouge_tokenizer` unicode"):
            label(replace(russian, **option))
        report = label(replace(russian, rouge_tokenizer="unicode", keep="best-rouge", min_rouge2=0.0))
        assert report["kept"]


class TestEngines:
    def test_auto_takes_ctranslate2_where_outputs_are_equal(self, config: LabelConfig, monkeypatch, tmp_path) -> None:
        auto = replace(config, engine="auto")
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)  # this model has learned nothing
        label(auto)
        found = json.loads((config.folder / "label.json").read_text())["found"]
        assert found["engine"] == "ctranslate2" and len(found["threads"]) == 2
        assert (config.folder / "ctranslate2" / "model.bin").is_file()
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 1.1)
        other = replace(auto, output_dir=str(tmp_path / "other"))
        label(other)
        found = json.loads((other.folder / "label.json").read_text())["found"]
        assert found["engine"] == "transformers" and "of the outputs (own search) equal those" in found["why"]

    def test_what_was_chosen_stays(self, config: LabelConfig, monkeypatch) -> None:
        auto = replace(config, engine="auto")
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
        label(auto)
        before = files(config.folder)
        monkeypatch.setattr(teacher, "check_parity", None)
        for path in [*config.folder.glob("raw/00003.parquet"), *config.folder.glob("ctranslate2/*")]:
            path.unlink()
        (config.folder / "ctranslate2").rmdir()
        label(auto)
        assert files(config.folder) == before

    @pytest.mark.parametrize("option", [{"encoder_no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}])
    def test_ctranslate2_is_asked_for_what_it_has(self, config: LabelConfig, monkeypatch, option) -> None:
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
        known = "no_repeat_ngram_size" in option
        label(replace(config, engine="auto", generate=option, n=5))
        found = json.loads((config.folder / "label.json").read_text())["found"]
        assert found["engine"] == ("ctranslate2" if known else "transformers")
        assert known or found["why"] == "CTranslate2 has no encoder_no_repeat_ngram_size of `generate`"
        if not known:
            with pytest.raises(
                UserError, match="`engine` ctranslate2 has no encoder_no_repeat_ngram_size of `generate`: leave it out"
            ):
                label(replace(config, engine="ctranslate2", generate=option))

    def test_any_failure_of_ctranslate2_leads_to_transformers(self, config: LabelConfig, monkeypatch) -> None:
        """Once only refusals of our own did; a ValueError of its loader was a traceback."""

        def fail(*arguments: Any) -> None:
            raise ValueError("Source vocabulary 0 has size 70")

        monkeypatch.setattr(teacher, "check_parity", fail)
        label(replace(config, engine="auto", n=5))
        found = json.loads((config.folder / "label.json").read_text())["found"]
        assert found["engine"] == "transformers"
        assert found["why"] == "CTranslate2 cannot run the model: Source vocabulary 0 has size 70"

    def test_settings_that_ctranslate2_lacks_lead_to_transformers(self, config, place, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
        own = Path(shutil.copytree(place / "teacher", tmp_path / "own"))
        path = own / "generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder_no_repeat_ngram_size": 2}))
        label(replace(config, model=str(own), engine="auto", n=5))
        found = json.loads((config.folder / "label.json").read_text())["found"]
        assert found["engine"] == "transformers" and "encoder_no_repeat_ngram_size" in found["why"]
        with caplog.at_level("WARNING"):
            label(replace(config, model=str(own), engine="ctranslate2", n=5, output_dir=str(tmp_path / "other")))
        assert "no encoder_no_repeat_ngram_size of the model's generation settings" in caplog.text

    def test_an_exported_model_labels(self, config: LabelConfig, monkeypatch, tmp_path, place) -> None:
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
        exported = {
            "model": config.model,
            "data": config.data,
            "quantization": "float32",
            "max_target_length": 8,
            "beams": 2,
        }
        export_model(ExportConfig(**exported, output_dir=str(tmp_path / "served"), task="translation", tgt_lang="de"))
        with pytest.raises(UserError, match="^`dry_run` True is for language models, and `model` .*served is none$"):
            label(replace(config, model=str(tmp_path / "served"), dry_run=True))  # once it labelled
        label(replace(config, model=str(tmp_path / "served"), engine="auto", task=None, data=[], beams=None))
        own = [row["target"] for row in rows(config, "raw")]
        label(replace(config, engine="ctranslate2", output_dir=str(tmp_path / "whole")))
        assert own == [row["target"] for row in rows(replace(config, output_dir=str(tmp_path / "whole")), "raw")]
        with pytest.raises(UserError, match="which `engine` transformers cannot use: give the original"):
            label(replace(config, model=str(tmp_path / "served")))
        served = replace(config, model=str(tmp_path / "served"), engine="auto", beams=None)
        with pytest.raises(
            UserError, match="exported model, and CTranslate2 has no encoder_no_repeat_ngram_size of `generate`"
        ):
            label(replace(served, generate={"encoder_no_repeat_ngram_size": 2}))


class TestGoingOn:
    """Whatever happens, the end is that of an undisturbed run, byte for byte."""

    @pytest.mark.parametrize("sample", [False, True])
    def test_killed_at_any_point(self, config: LabelConfig, tmp_path: Path, monkeypatch, sample: bool) -> None:
        if sample:
            config = replace(config, sample=True, beams=None, n_best=2, keep="all")
        undisturbed = replace(config, output_dir=str(tmp_path / "undisturbed"))
        label(undisturbed)
        writes = [0]
        rename = os.replace

        def dying(at: int, after: bool) -> Callable[[Any, Any], None]:
            def replace_(source: Any, target: Any) -> None:
                writes[0] += 1
                if after:
                    rename(source, target)
                if writes[0] == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                if not after:
                    rename(source, target)

            return replace_

        # In a start's first or later writes: of label.json, of shards, of the data set, of the report.
        for at, after in [(1, False), (3, False), (2, True), (2, False), (4, True), (3, True)]:
            with monkeypatch.context() as patch:
                patch.setattr(output_folder.os, "replace", dying(at, after))
                assert in_a_child(lambda: label(config)) == -signal.SIGKILL
        assert in_a_child(lambda: label(config)) == 0
        assert files(config.folder) == files(undisturbed.folder)

    def test_two_processes_share_the_work(self, config: LabelConfig, tmp_path: Path, monkeypatch) -> None:
        alone = replace(config, output_dir=str(tmp_path / "alone"))
        label(alone)
        written: list[int] = []
        write = filling.generated
        monkeypatch.setattr(filling, "generated", lambda *given: (written.append(given[-1]), write(*given))[1])
        monkeypatch.setenv("WORLD_SIZE", "2")
        for rank, shards in (("1", [1, 3]), ("0", [0, 2, 4])):
            monkeypatch.setenv("RANK", rank)
            written.clear()
            label(config)
            assert written == shards
        assert files(config.folder) == files(alone.folder)

    def test_two_processes_at_once(self, config: LabelConfig, tmp_path: Path, monkeypatch) -> None:
        alone = replace(config, output_dir=str(tmp_path / "alone"))
        label(alone)
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        other = os.fork()
        if other == 0:
            os._exit(in_a_child(lambda: label(config)))
        monkeypatch.setenv("RANK", "0")
        assert in_a_child(lambda: label(config)) == 0
        assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
        assert files(config.folder) == files(alone.folder)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"beams": 3}, "was made with `beams` 2, and this command has 3"),
            ({"n": 20}, "was made with `data`, `n` or columns, of the fingerprint"),
            ({"max_source_length": 9}, "was made with `max_source_length` 48, and this command has 9"),
            ({"split": "val"}, "was made with `split` train, and this command has val"),
            ({"engine": "auto"}, "was made with `engine` transformers, and this command has auto"),
            (
                {"generate": {"no_repeat_ngram_size": 2}},
                "was made with `generate` None, and this command has {'no_repeat_ngram_size': 2}",
            ),
        ],
    )
    def test_another_setting_is_refused(self, config: LabelConfig, change: dict[str, Any], words: str) -> None:
        label(config)
        before = files(config.folder)
        with pytest.raises(UserError, match=words):
            label(replace(config, **change))
        assert files(config.folder) == before

    def test_a_folder_of_the_old_fingerprint_goes_on(self, config: LabelConfig, place: Path) -> None:
        """It was a hash over the texts, in whatever files they are."""
        label(config)
        record = json.loads((config.folder / "label.json").read_text())
        assert record["settings"]["data"].startswith("xxh3:")
        record["settings"]["data"] = fingerprint(load_split(config.data[0], "train"))
        (config.folder / "label.json").write_text(json.dumps(record))
        (config.folder / "raw" / "00002.parquet").unlink()
        before = files(config.folder)
        label(config)
        assert files(config.folder).keys() - before.keys() == {"raw/00002.parquet"}
        with pytest.raises(UserError, match="was made with `data`, `n` or columns, of the fingerprint"):
            label(replace(config, n=20))

    def test_all_rows_are_the_same_whatever_n_says(self, config: LabelConfig) -> None:
        label(config)
        label(replace(config, n=ROWS))

    def test_another_model_is_refused(self, config: LabelConfig, tmp_path: Path) -> None:
        label(config)
        other = save_teacher(tmp_path / "other", decoder_layers=1)
        with pytest.raises(UserError, match="was made with `model`, of the fingerprint"):
            label(replace(config, model=str(other)))

    def test_two_commands_do_not_meet_in_a_folder(self, config: LabelConfig) -> None:
        """Two that ended at once took each other's files away, with a traceback."""
        label(config)
        with (
            LabelFolder(config.folder, "train", 33, config.shard_rows, "").held(),
            pytest.raises(UserError, match="is in use by another `distill label`"),
        ):
            label(config)
        label(config)

    def test_a_folder_with_other_files_is_refused(self, config: LabelConfig) -> None:
        config.folder.mkdir()
        (config.folder / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="holds other files: choose a new folder"):
            label(config)


class TestPairing:
    """A row is never paired with another row's target."""

    def test_raw_targets_of_another_row(self, config: LabelConfig) -> None:
        label(config)
        path = config.folder / "raw" / "00002.parquet"
        table = pq.read_table(path)
        moved = table.column("target").take(pa.array([1, 2, 3, 4, 0]))
        hashes = table.column("source_sha256").take(pa.array([1, 2, 3, 4, 0]))
        table = table.set_column(3, "target", moved).set_column(1, "source_sha256", hashes)
        pq.write_table(table, path)
        with pytest.raises(DataError, match="00002.parquet: a target of row 10 is of another source"):
            label(config)
        assert not list(config.folder.glob("train-*"))

    def test_a_row_without_a_target(self, config: LabelConfig) -> None:
        label(config)
        path = config.folder / "raw" / "00001.parquet"
        pq.write_table(pq.read_table(path).slice(0, 3), path)
        with pytest.raises(DataError, match="there are rows without a target"):
            label(config)

    def test_a_backward_score_of_another_target(self, config: LabelConfig, place: Path) -> None:
        backward = replace(config, backward_model=str(place / "teacher"))
        label(backward)
        (path,) = config.folder.glob("backward-*/00000.parquet")
        pq.write_table(pq.read_table(path).take([1, 0, 2, 3, 4]), path)
        with pytest.raises(DataError, match="a score of row 0 is of another target"):
            label(backward)

    def test_sources_that_were_moved_in_the_data_set(self, config: LabelConfig) -> None:
        label(config)
        path = next(config.folder.glob("train-00000-*"))
        table = pq.read_table(path)
        order = pa.array([*range(1, table.num_rows), 0])
        pq.write_table(table.set_column(1, "source", table.column("source").take(order)), path)
        with pytest.raises(DataError, match="row 1: the source has changed since it was labelled: label it again"):
            load_split(str(config.folder), "train")

    def test_a_damaged_shard_is_labelled_again(self, config: LabelConfig) -> None:
        label(config)
        before = files(config.folder)
        path = config.folder / "raw" / "00002.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        label(config)
        assert files(config.folder) == before


def test_a_student_learns_from_labels_beside_the_original_s_val_and_test(
    config: LabelConfig, tmp_path: Path, place
) -> None:
    label(config)
    kept = len(rows(config))
    for weights in ([1.0, 0.0], [1.0, 0.5]):
        common = {"data": [config.output_dir, str(place / "data")], "data_weights": weights, "resume": "never"}
        student = run(tmp_path, **common, output_dir=str(tmp_path / f"run{weights[1]}"), trainer={"max_steps": 2})
        run_config(student)
        summary = json.loads(Path(student.folder, "results.json").read_text())
        assert summary["student"]["chrf"] >= 0
    with pytest.raises(DataError, match="no val split: .* or name a source that has this split too; .*found: train"):
        run_config(run(tmp_path, data=[config.output_dir], output_dir=str(tmp_path / "alone")))
    assert kept == len(load_split(config.output_dir, "train", Columns("document")))


def test_a_student_of_another_vocabulary_learns_from_labels_and_not_from_distributions(
    config: LabelConfig, tmp_path: Path, place
) -> None:
    other = str(save_teacher(tmp_path / "other", "bart"))
    common = {"student": {"path": other, "decoder_layers": None}, "output_dir": str(tmp_path / "run")}
    with pytest.raises(ModelError, match=r"`student.path`: its tokenizer .* let .*distill label.*`method` sft"):
        run_config(run(tmp_path, **common, data=[str(place / "data")]))
    label(config)
    sources = {"data": [config.output_dir, str(place / "data")], "data_weights": [1.0, 0.0]}
    summary = run_config(run(tmp_path, **common, **sources, teacher=None, method="sft", trainer={"max_steps": 2}))
    assert summary["teacher"] is None and summary["student"]["chrf"] >= 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--n_best", "3"], "--n_best 3 needs as many beams, not --beams 2"),
        (["--keep", "best-chrf"], "--keep best-chrf needs several candidates, and --n_best is 1"),
        (["--drop_fraction", "0.05"], "--drop_fraction 0.05 needs --backward_model"),
        (["--drop_fraction", "1"], "--drop_fraction 1.0 is too large: choose at least 0 and less than 1"),
        (["--sample", "true"], "--beams 2 cannot be combined with --sample"),
        (["--targets", "reference", "--min_chrf", "10"], "--min_chrf 10.0 is for targets that the model writes"),
        (["--min_gain", "1"], "--min_gain 1.0 is for the data's own targets"),
        (["--min_score", "1"], "--min_score 1.0 is too large: choose 0 or less"),
        (["--top_p", "2"], "--top_p 2.0 is too large"),
        (["--generate", '{"no_repeat_ngrams": 3}'], "--generate no_repeat_ngrams=3 is no option of decoding a text"),
        (["--generate", '{"num_beams": 3}'], "--generate num_beams=3 has an option of its own: use --beams"),
        (["--generate", '{"do_sample": true}'], "--generate do_sample=True has an option of its own: use --sample"),
        (["--targets", "reference", "--generate", '{"min_length": 3}'], "is for targets that the model writes"),
        (["--targets", "reference", "--n_val", "9"], "--n_val 9 cannot be combined with --targets reference"),
        (["--targets", "reference", "--duplicates", "drop"], "--duplicates drop cannot be combined with"),
        (["--backward_model", "nowhere/at/all"], "--backward_model nowhere/at/all"),
        (["--workers", "2"], "--workers 2 needs --runner ray: add it"),
        (["--gpus_per_worker", "2"], "--gpus_per_worker 2.0 is too large: choose 0 to 1"),
        (["--output_dir", "s3://bucket/labels"], "--output_dir s3:/bucket/labels is a URL"),
    ],
)
def test_mistakes(place: Path, tmp_path: Path, capsys, more: list[str], words: str) -> None:
    command = {"--model": str(place / "teacher"), "--data": str(place / "data"), "--output_dir": str(tmp_path / "out")}
    command |= {"--task": "translation", "--tgt_lang": "de", "--beams": "2"}
    command |= dict(zip(more[::2], more[1::2], strict=True))
    assert main(["label", *(word for pair in command.items() for word in pair)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("distill: ") and words in line for line in lines)
    assert not (tmp_path / "out").exists()


def test_a_model_without_data(place: Path, tmp_path: Path, capsys) -> None:
    assert main(["label", "--model", str(place / "teacher"), "--output_dir", str(tmp_path / "out")]) == 2
    assert "--data is missing: name what to label" in capsys.readouterr().err
