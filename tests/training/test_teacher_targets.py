"""Runs whose teacher writes the targets first; what `targets` auto means; losses that follow from the teacher."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml
from safetensors.torch import load_file

from seq2seq_distill.cli.main import parse
from seq2seq_distill.commands.label.command import label
from seq2seq_distill.config import EncodeConfig, EnsembleConfig, LossConfig, RunConfig, TaskConfig
from seq2seq_distill.training import auto_targets, teacher_targets
from seq2seq_distill.training.auto_targets import (
    choose_by_seconds,
    choose_without_measuring,
    reasons_for_reference,
)
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.output_folder import OutputFolder, plain
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.teacher_losses import follows_teacher, with_losses_of_teacher
from seq2seq_distill.training.teacher_targets import label_config, with_teacher_targets
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_runs import config

LABEL = {"engine": "transformers", "beams": 2, "n_best": 2, "keep": "best-chrf", "shard_rows": 7}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def tiny(place: Path, name: str, **changes: Any) -> RunConfig:
    trainer = {"max_steps": 2, "val_check_interval": 2, **changes.pop("trainer", {})}
    return config(place, output_dir=str(place / name), **{"label": LABEL, **changes}, trainer=trainer)


def record(run: RunConfig) -> dict[str, Any]:
    return yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))


def weights(run: RunConfig) -> dict[str, Any]:
    return load_file(run.folder / "best" / "model.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all((one[name] == other[name]).all() for name in one)


class TestTeacher:
    def test_is_the_run_on_a_label_set_made_by_hand(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run, by_hand = tiny(place, "run", targets="teacher"), str(place / "labels")
        run_config(run)
        label(replace(label_config(run), output_dir=by_hand))
        other = tiny(place, "hand", data=[by_hand, str(place / "data")], data_weights=[1.0, 0.0])
        run_config(other)
        assert same(weights(run), weights(other))
        tested = [(each.folder / "test_generations.jsonl").read_bytes() for each in (run, other)]
        assert tested[0] == tested[1]
        assert (record(run)["targets"], record(run)["data"]) == ("teacher", [str(place / "data")])
        # What is whole is not made again.
        monkeypatch.setattr(teacher_targets, "load_label_teacher", None)
        assert with_teacher_targets(run).data == [str(run.folder / "labels"), str(place / "data")]

    def test_both_takes_each_row_with_each(self, place: Path) -> None:
        run = tiny(place, "both", targets="both", encode={"n_train": 10})
        data = build_components(run).data
        texts = data._texts.splits["train"]
        sources = (place / "data" / "train.source").read_text("utf-8").splitlines()[:10]
        targets = (place / "data" / "train.target").read_text("utf-8").splitlines()[:10]
        assert sorted(texts["source"]) == sorted([*sources, *sources])
        assert list(texts["target"])[10:] == targets and list(texts["target"])[:10] != targets

    def test_a_source_without_weight_keeps_its_val_and_test_alone(self, place: Path) -> None:
        data, run = str(place / "data"), tiny(place, "weights", targets="teacher")
        run = replace(run, data=[data, data], data_weights=[0.0, 0.5])
        assert label_config(run).data == [data]
        assert with_teacher_targets(run).data_weights == [0.5, 0.0, 0.0]

    def test_errors_name_the_options_of_the_run(self, place: Path) -> None:
        run = tiny(place, "wrong", targets="teacher", label={"n_best": 9, "engine": "transformers"})
        with pytest.raises(ConfigError, match=r"`label.n_best` 9 needs as many beams.*add `label.beams` 9"):
            with_teacher_targets(replace(run, eval=replace(run.eval, beams=None)))
        with pytest.raises(ConfigError, match=r"`targets` teacher: the filters of `label` leave nothing"):
            with_teacher_targets(tiny(place, "none", targets="teacher", label={**LABEL, "min_words": 99}))
        run = tiny(place, "run2", targets="teacher")
        with_teacher_targets(run)
        with pytest.raises(ConfigError, match=r"was made with `label.beams` 2, and this command has 3"):
            with_teacher_targets(replace(run, label=replace(run.label, beams=3)))

    def test_the_teacher_is_trimmed_after_it_has_labelled(self, place: Path) -> None:
        run = tiny(place, "trimmed", targets="teacher", trim={"coverage": 0.9})
        parts = build_components(run)
        labels, trimmed = str(run.folder / "labels"), str(run.folder / "trimmed")
        assert (parts.tasks[0].config.data, parts.tasks[0].config.teacher) == ([labels, str(place / "data")], trimmed)
        written = pyarrow.parquet.read_table(next((run.folder / "labels").glob("train-*")))
        assert set(written["origin"].to_pylist()) == {f"{place / 'teacher'} (transformers)"}


class TestAuto:
    def test_options_decide_for_the_data(self, place: Path) -> None:
        run, data = tiny(place, "options", targets="auto"), str(place / "data")
        (place / "labelled").mkdir()
        (place / "labelled" / "label.json").write_text("{}", "utf-8")
        assert list(reasons_for_reference(run)) == []
        for named, other in {
            "sft": replace(run, method="sft"),
            "`teacher`": replace(run, teacher=None),
            "`tasks`": replace(run, tasks=[TaskConfig(name="a", data=[data])]),
            "`teacher_cache`": replace(run, teacher_cache="cache"),
            "`ensemble.teachers`": replace(run, ensemble=EnsembleConfig(["other"])),
            "`loss.on_policy`": replace(run, loss=replace(run.loss, on_policy=0.5)),
            "label set": replace(run, data=[str(place / "labelled"), data], data_weights=[1.0, 0.0]),
            "`data_weights`": replace(run, data=[data, data], data_weights=[1.0, 0.5]),
            "`trainer.strategy`": replace(run, trainer=replace(run.trainer, strategy="fsdp2")),
        }.items():
            (reason,) = reasons_for_reference(other)
            assert named in reason

    @pytest.mark.parametrize(
        ("label", "has_ctranslate2", "fewest"), [({}, True, 3), ({}, False, 8), ({"engine": "transformers"}, True, 8)]
    )
    def test_a_short_training_is_not_measured(
        self, place: Path, monkeypatch: pytest.MonkeyPatch, label: dict[str, Any], has_ctranslate2: bool, fewest: int
    ) -> None:
        monkeypatch.setattr(auto_targets, "is_installed", lambda _: has_ctranslate2)
        run = tiny(place, "short", targets="auto", label=label)
        for steps in (fewest - 1, fewest):  # 24 rows, 8 a step
            parts = build_components(replace(run, trainer=replace(run.trainer, max_steps=steps)))
            assert (choose_without_measuring(run, parts) is None) == (steps == fewest)

    def test_the_shorter_time_wins(self) -> None:
        assert choose_by_seconds(60, 60).targets == "teacher"
        assert choose_by_seconds(61, 60) == ("reference", "the teacher writes them in about 61 s, training takes 60 s")

    @pytest.mark.parametrize("chosen", ["teacher", "reference"])
    def test_is_found_once(self, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, chosen: str) -> None:
        """A run that measured is the run that was told, and asks nothing when it is started again."""
        seconds = 0.0 if chosen == "teacher" else 1e9
        monkeypatch.setattr(auto_targets, "estimate_seconds", lambda _: seconds)
        caplog.set_level(logging.INFO, "seq2seq_distill")
        run = tiny(place, f"auto-{chosen}", targets="auto", trainer={"max_steps": 8})
        results = run_config(run)
        assert f"(--targets {chosen}): the teacher writes them in about" in caplog.text
        assert record(run)["targets"] == chosen and (run.folder / "labels").exists() == (chosen == "teacher")
        told = tiny(place, f"told-{chosen}", targets=chosen, trainer={"max_steps": 8})
        run_config(told)
        assert same(weights(run), weights(told))
        monkeypatch.setattr(auto_targets, "estimate_seconds", None)
        assert run_config(run) == results
        with pytest.raises(ConfigError, match=f"`targets` both differs from {chosen}"):
            run_config(replace(run, targets="both"))


class TestRunsOfBefore:
    def write(self, run: RunConfig) -> Path:
        """run.yaml as version 0.1 wrote it."""
        old = {**plain(replace(run, loss=run.loss.resolved())), "provenance": {"data_fingerprint": "x"}}
        for name in ("targets", "label"):
            del old[name]
        run.folder.mkdir()
        path = run.folder / "run.yaml"
        path.write_text(yaml.safe_dump(old, sort_keys=False), "utf-8")
        return path

    def test_mean_what_they_meant(self, place: Path) -> None:
        run = replace(tiny(place, "before", targets="auto"), loss=LossConfig(), label=RunConfig().label)
        path = self.write(run)
        found = OutputFolder(run.folder).with_findings(run)
        assert (found.targets, found.loss) == ("reference", LossConfig(alpha_ce=0.8, alpha_mlm=0.2, temperature=2.0))
        assert OutputFolder(run.folder).differences(found) == []
        config = parse("run", ["--config", str(path), "--output_dir", "elsewhere"])
        assert isinstance(config, RunConfig) and (config.targets, config.loss.temperature) == ("reference", 2.0)
        recipe = place / "recipe.yaml"
        recipe.write_text(f"task: translation\nteacher: {run.teacher}\ndata: [{place / 'data'}]\n", "utf-8")
        config = parse("run", ["--config", str(recipe)])
        assert isinstance(config, RunConfig) and (config.targets, config.loss.temperature) == ("auto", None)


class TestLosses:
    def test_follow_from_the_entropy_that_a_validation_reports(self, place: Path, caplog: Any) -> None:
        caplog.set_level(logging.INFO, "seq2seq_distill")
        run = tiny(place, "entropy", loss={"temperature": None, "alpha_ce": None, "alpha_mlm": 0.3})
        run_config(run)
        reported = json.loads((run.folder / "metrics.jsonl").read_text("utf-8").split("\n")[0])["val_teacher_entropy"]
        assert reported > 1.5 and f"are flat, {reported:.2f} nats a token on 6 val examples" in caplog.text
        losses = record(run)["loss"]
        assert (losses["temperature"], losses["alpha_ce"], losses["alpha_mlm"]) == (0.5, 1.6, 0.3)

    def test_measure_a_part_of_many_rows(self, place: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("seq2seq_distill.training.teacher_losses.MEASURED_TOKENS", 30)
        caplog.set_level(logging.INFO, "seq2seq_distill")
        run = tiny(place, "part", loss={"temperature": None})
        with_losses_of_teacher(run, build_components(run))
        assert "on 6 val" not in caplog.text and "nats a token on" in caplog.text

    def test_nothing_is_measured_where_nothing_follows(self, place: Path) -> None:
        run = replace(tiny(place, "fixed"), loss=LossConfig())
        assert follows_teacher(run)
        for other in (
            replace(run, method="sft"),
            replace(run, loss=LossConfig(temperature=1.0)),
            replace(run, loss=LossConfig(alpha_ce=0.0)),
            replace(run, loss=LossConfig(divergence="mse")),
            replace(run, teacher_cache="cache"),
            replace(run, ensemble=EnsembleConfig(["other"])),
            replace(run, encode=EncodeConfig(), tasks=[TaskConfig(name="a", data=["d"])]),
        ):
            assert not follows_teacher(other)
