"""Whole runs in miniature: what they leave behind, what they say of themselves, and what a second start does."""

import json
import pickletools
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sacrebleu
import torch
import yaml
from pytorch_lightning import Callback
from rouge_score.rouge_scorer import RougeScorer
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from seq2seq_distill.cli.main import parse
from seq2seq_distill.config import (
    BatchConfig,
    EncodeConfig,
    EvalConfig,
    LossConfig,
    OptimConfig,
    RunConfig,
    StudentConfig,
    TrainerConfig,
)
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.metrics.corpus import rouge
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.training.callbacks import BestStudent
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_models import tiny_model
from tests.tiny_runs import config, write_data
from tests.tiny_tokenizers import SOURCES, TARGETS, plain_tokenizer

ENTRIES = ("fresh", "kd", "sft", "given")
PLAIN = ("fresh", "given")  # without a teacher
ALWAYS = {"run.yaml", "student_init", "best", "checkpoints", "metrics.jsonl", "results.json", "test_generations.jsonl"}
SHAPE = {"model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 4}
SHAPE |= {"num_heads": 2, "dropout_rate": 0.0}


def changed(config: RunConfig, **changes: Any) -> RunConfig:
    """`changed(config, seed=1, trainer={"max_steps": 3})`"""
    values = {
        name: replace(getattr(config, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return replace(config, **values)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(value.equal(second[name]) for name, value in first.items())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Watch(Callback):
    """Keeps the teacher's weights from before and after training."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.before = {name: value.clone() for name, value in module.teacher.model.state_dict().items()}

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.after = module.teacher.model.state_dict()


class Fault(Exception):
    """What ends a run halfway."""


class FailAfterStep(Callback):
    """Raise at the end of an optimiser step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self._step:
            raise Fault


class FailAfterValidation(Callback):
    """Raise as soon as a validation in training has been judged."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_validation_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self._step:
            raise Fault


class FirstStep(Callback):
    """Keeps how many optimiser steps came before the first of a start."""

    taken: int | None = None

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if self.taken is None:
            self.taken = trainer.global_step


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def configs(base: Path) -> dict[str, RunConfig]:
    """A run of every kind; the first makes a teacher that has learned its six sentences by heart."""
    (base / "data").mkdir()
    for split, times in (("train", 4), ("val", 1), ("test", 1)):
        for side, texts in (("source", SOURCES), ("target", TARGETS)):
            (base / "data" / f"{split}.{side}").write_text("\n".join(texts * times) + "\n", encoding="utf-8")
    (base / "shape.yaml").write_text(yaml.safe_dump(SHAPE))
    fresh = RunConfig(
        task="translation",
        data=[str(base / "data")],
        output_dir=str(base / "fresh"),
        targets="reference",
        logger=[],
        loss=LossConfig(alpha_ce=0.8, alpha_mlm=0.2, temperature=2.0),
        student=StudentConfig(config=str(base / "shape.yaml"), vocab_size=400),
        encode=EncodeConfig(max_source_length=40, max_target_length=40),
        batch=BatchConfig(size=12),
        optim=OptimConfig(lr=0.01, warmup_steps=5),
        eval=EvalConfig(beams=1, max_target_length=24, batch_size=4, n_speed=0, monitor="loss"),
        trainer=TrainerConfig(
            accelerator="cpu", devices=1, max_steps=50, val_check_interval=20, enable_progress_bar=False
        ),
    )
    short = {"max_steps": 5, "val_check_interval": 2}
    teacher = str(base / "fresh" / "best")
    return {
        "fresh": fresh,
        "kd": changed(
            fresh,
            teacher=teacher,
            output_dir=str(base / "kd"),
            logger=["csv", "tensorboard"],
            student=StudentConfig(decoder_layers=2),
            encode={"max_target_length": 5},  # most training targets are cut
            eval={"beams": 2, "n_speed": 2, "monitor": "bleu", "save_top_k": 2, "max_target_length": 11},
            trainer=short | {"log_every_n_steps": 1},
        ),
        "sft": changed(
            fresh,
            task="summarization",
            method="sft",
            teacher=teacher,
            output_dir=str(base / "sft"),
            student=StudentConfig(decoder_layers=3),
            eval={"n_speed": 1, "monitor": "rougeL"},
            trainer=short,
        ),
        "given": changed(
            fresh, output_dir=str(base / "given"), student=StudentConfig(path=teacher), trainer=short, seed=7
        ),
    }


@pytest.fixture(scope="module")
def runs(configs: dict[str, RunConfig], watch: Watch) -> dict[str, Path]:
    """The output folders of all of them."""
    for name, own in configs.items():
        assert run_config(own, [watch] if name == "kd" else []) == json.loads(
            (Path(own.folder) / "results.json").read_text()
        )
    return {name: Path(own.folder) for name, own in configs.items()}


@pytest.mark.parametrize("entry", ENTRIES)
class TestOutputFolder:
    def test_is_as_designed_and_holds_nothing_else(self, runs, entry):
        logs = {"logs"} if entry == "kd" else set()
        assert {path.name for path in runs[entry].iterdir()} == ALWAYS | logs
        for name in ("student_init", "best"):
            files = {path.name for path in (runs[entry] / name).iterdir()}
            assert files == {
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "README.md",
            }

    def test_has_no_temporary_files(self, runs, entry):
        assert [path for path in runs[entry].rglob("*") if path.name.startswith(".") or "tmp" in path.name] == []

    def test_has_the_last_checkpoint_and_the_top_k(self, runs, configs, entry):
        names = {path.name for path in (runs[entry] / "checkpoints").glob("*.ckpt")}
        assert {path.name for path in (runs[entry] / "checkpoints").iterdir()} - names == {f"{n}.sha256" for n in names}
        monitored = {
            line["step"]: line[f"val_{configs[entry].monitor}"] for line in lines(runs[entry] / "metrics.jsonl")
        }
        trained = {step: value for step, value in monitored.items() if step > 0}
        best_first = sorted(trained, key=trained.__getitem__, reverse=configs[entry].monitor != "loss")
        assert "last.ckpt" in names
        ranked = sorted(names - {"last.ckpt"})
        assert len(ranked) == configs[entry].eval.save_top_k
        # Steps of equal value may stand for each other.
        kept = sorted(trained[int(name.split("-")[0].removeprefix("step="))] for name in ranked)
        assert kept == sorted(trained[step] for step in best_first[: len(ranked)])

    def test_no_file_is_a_pickle_but_lightning_s_own(self, runs, entry):
        """H30: arguments and lengths were pickles."""
        for path in runs[entry].rglob("*"):
            if path.is_file():
                assert is_pickle(path) == (path.suffix == ".ckpt"), path

    def test_checkpoints_load_as_plain_values_and_hold_no_teacher(self, runs, entry):
        """H29: the teacher's weights were in every checkpoint."""
        student = weights(runs[entry] / "student_init")
        for path in (runs[entry] / "checkpoints").glob("*.ckpt"):
            checkpoint = torch.load(path, weights_only=True)
            names = {name.removeprefix("student.") for name in checkpoint["state_dict"]}
            assert all(name.startswith("student.") for name in checkpoint["state_dict"])
            assert student.keys() <= names
            assert not [key for key in keys(checkpoint) if "teacher" in key]
            moments = checkpoint["optimizer_states"][0]["state"]
            assert len(moments) <= len(student)

    def test_every_validation_is_a_line_from_step_0_to_the_end(self, runs, entry):
        """The interval does not divide the steps. H27: the sanity check counted as a validation."""
        records = lines(runs[entry] / "metrics.jsonl")
        assert [record["step"] for record in records] == ([0, 20, 40, 50] if entry == "fresh" else [0, 2, 4, 5])
        assert [record["data_epoch"] for record in records] == [record["step"] / 2 for record in records]
        scores = TASKS["summarization" if entry == "sft" else "translation"].metrics
        expected = {"val_loss", "val_mlm_loss", "val_gen_len", *(f"val_{name}" for name in scores)}
        expected |= {"val_empty", "val_repetition", "val_length_ratio"}
        if entry == "kd":
            expected |= {"val_ce_loss", "val_hid_loss_enc", "val_hid_loss_dec", "val_teacher_entropy"}
        assert all(record.keys() == {"step", "data_epoch", "best"} | expected for record in records)

    def test_best_is_the_best_by_the_monitored_value(self, runs, configs, entry):
        """H28: the exported "best" model was the last saved."""
        monitor = f"val_{configs[entry].monitor}"
        records = lines(runs[entry] / "metrics.jsonl")
        sign = -1 if monitor == "val_loss" else 1
        best = max(records, key=lambda record: (sign * record[monitor], -record["step"]))["step"]
        if best == 0:
            assert same(weights(runs[entry] / "best"), weights(runs[entry] / "student_init"))
            return
        checkpoint = next((runs[entry] / "checkpoints").glob(f"step={best}-*.ckpt"))
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        for name, value in weights(runs[entry] / "best").items():
            assert value.equal(state[f"student.{name}"])

    def test_best_reproduces_the_reported_test_score_with_a_plain_loop(self, runs, configs, base, entry):
        """A stranger's loop: no prefix, no option, one text at a time; the settings are in the folder.

        H24: scores over the corpus, not the mean over batches. H26: references untruncated. H27: real tokens counted.
        """
        tokenizer = AutoTokenizer.from_pretrained(runs[entry] / "best")
        model = AutoModelForSeq2SeqLM.from_pretrained(runs[entry] / "best")
        texts, lengths = [], []
        for source in (base / "data" / "test.source").read_text("utf-8").splitlines():
            ids = model.generate(**tokenizer(source, return_tensors="pt"))[0, 1:]
            texts.append(tokenizer.decode(ids, skip_special_tokens=True))
            real = (ids != tokenizer.pad_token_id).nonzero()
            lengths.append(real.max().item() + 1 if len(real) else 0)
        references = (base / "data" / "test.target").read_text("utf-8").splitlines()
        student = json.loads((runs[entry] / "results.json").read_text())["student"]
        written = lines(runs[entry] / "test_generations.jsonl")
        assert [line["student"] for line in written] == [text.strip() for text in texts]
        assert student["gen_len"] == pytest.approx(sum(lengths) / len(lengths))
        if entry == "sft":
            scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
            pairs = [scorer.score(reference, text) for reference, text in zip(references, texts, strict=True)]
            expected = {name: 100 * sum(pair[name].fmeasure for pair in pairs) / len(pairs) for name in pairs[0]}
        else:
            expected = {
                "bleu": sacrebleu.corpus_bleu(texts, [references]).score,
                "chrf": sacrebleu.corpus_chrf(texts, [references]).score,
            }
        for name, value in expected.items():
            assert student[name] == pytest.approx(value, abs=0.1)
        assert max(expected.values()) > 5  # the comparison is of something

    def test_generations_stand_beside_untruncated_references_in_file_order(self, runs, base, entry):
        """H26: references were decoded from truncated labels."""
        written = lines(runs[entry] / "test_generations.jsonl")
        assert [line["row"] for line in written] == list(range(6))
        assert [line["reference"] for line in written] == (base / "data" / "test.target").read_text().splitlines()
        sides = {"student"} if entry in PLAIN else {"student", "teacher"}
        assert all(line.keys() == {"row", "reference"} | sides for line in written)

    def test_results_put_student_beside_teacher(self, runs, configs, entry):
        results = json.loads((runs[entry] / "results.json").read_text())
        scores = set(TASKS[configs[entry].task].metrics)
        figures = {"gen_len", "parameters", "bytes", "latency_ms", "ms_per_token"}
        assert list(results) == ["task", "student", "teacher", "kept", "speedup", "scored_by"]
        assert results["task"] == configs[entry].task
        assert results["student"].keys() == scores | figures
        if entry in PLAIN:
            assert (results["teacher"], results["kept"], results["speedup"]) == (None, None, None)
            return
        student, teacher = results["student"], results["teacher"]
        assert teacher.keys() == scores | figures
        assert results["kept"] == {name: pytest.approx(student[name] / teacher[name]) for name in scores}
        assert results["speedup"] == pytest.approx(teacher["ms_per_token"] / student["ms_per_token"])
        assert student["parameters"] < teacher["parameters"] and student["bytes"] < teacher["bytes"]

    def test_run_yaml_is_the_config(self, runs, configs, entry):
        assert parse("run", ["--config", str(runs[entry] / "run.yaml")]) == configs[entry]
        origin = yaml.safe_load((runs[entry] / "run.yaml").read_text())["provenance"]
        assert origin["versions"]["torch"] == version("torch")  # of CUDA builds without the local part
        assert origin["data_fingerprint"]

    def test_the_card_of_the_best_has_its_results(self, runs, entry):
        assert "## Test results" in (runs[entry] / "best" / "README.md").read_text()
        assert "## Test results" not in (runs[entry] / "student_init" / "README.md").read_text()


def keys(value: Any) -> Iterator[str]:
    """All keys of nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys(inner)


def is_pickle(path: Path) -> bool:
    """A pickle, or a zip file, in which torch keeps one."""
    return zipfile.is_zipfile(path) or (path.read_bytes()[:1] == b"\x80" and can_be_unpickled(path.read_bytes()))


def can_be_unpickled(data: bytes) -> bool:
    try:
        return [operation.name for operation, _, _ in pickletools.genops(data)][-1] == "STOP"
    except ValueError:  # an unknown operation, or no end
        return False


class TestTraining:
    def test_the_teacher_made_from_scratch_has_learned(self, runs):
        records = lines(runs["fresh"] / "metrics.jsonl")
        assert records[-1]["val_loss"] < 0.3 * records[0]["val_loss"]
        assert json.loads((runs["fresh"] / "results.json").read_text())["student"]["bleu"] > 50

    def test_the_teacher_is_unchanged_by_training(self, runs, watch, configs):
        assert same(watch.before, watch.after)
        own = weights(Path(configs["kd"].teacher))
        assert all(value.equal(watch.after[name]) for name, value in own.items())

    def test_a_teacher_only_scored_is_the_same_teacher(self, runs, base):
        """With sft the teacher is still scored, on the same test."""
        outputs = [line["teacher"] for line in lines(runs["sft"] / "test_generations.jsonl")]
        alone = [line["student"] for line in lines(runs["fresh"] / "test_generations.jsonl")]
        assert outputs == alone
        expected = rouge(outputs, (base / "data" / "test.target").read_text().splitlines())
        teacher = json.loads((runs["sft"] / "results.json").read_text())["teacher"]
        assert {name: teacher[name] for name in expected} == pytest.approx(expected)

    def test_a_given_student_starts_as_it_is(self, runs):
        assert same(weights(runs["given"] / "student_init"), weights(runs["fresh"] / "best"))

    def test_a_cut_student_starts_from_the_teacher_s_layers(self, runs):
        student, teacher = weights(runs["kd"] / "student_init"), weights(runs["fresh"] / "best")
        shared = [name for name in student if "decoder.block" not in name]
        assert shared and all(student[name].equal(teacher[name]) for name in shared)

    def test_logs_go_where_they_belong(self, runs):
        logs = [path.name for path in (runs["kd"] / "logs").rglob("*") if path.is_file()]
        assert any(name.startswith("events.out.tfevents") for name in logs)
        header = next((runs["kd"] / "logs").rglob("metrics.csv")).read_text().splitlines()[0].split(",")
        logged = {"lr", "data_epoch", "source_tokens", "target_tokens", "padding", "tokens_per_second"}
        assert logged | {"loss", "ce_loss", "mlm_loss", "val_bleu"} <= set(header)

    def test_training_stops_when_patience_ends(self, configs, tmp_path):
        stuck = changed(
            configs["given"],
            output_dir=str(tmp_path / "run"),
            optim={"lr": 1e-12},
            eval={"monitor": "bleu", "patience": 2},
            trainer={"max_steps": 40},
        )
        run_config(stuck)
        assert [record["step"] for record in lines(tmp_path / "run" / "metrics.jsonl")] == [0, 2, 4, 6]
        assert {path.name for path in (tmp_path / "run").iterdir()} == ALWAYS
        before = tree(tmp_path / "run")
        run_config(stuck)
        assert tree(tmp_path / "run") == before


class TestSecondStart:
    @pytest.fixture
    def own(self, tmp_path: Path) -> RunConfig:
        """A run of six steps with dropout, on the loss, which a high rate lowers at every validation."""
        return config(
            tmp_path,
            "bart",
            student=StudentConfig(decoder_layers=1, dropout=0.1),
            optim={"lr": 0.01, "warmup_steps": 0},
            eval={"monitor": "loss", "n_speed": 0},
            trainer={"max_steps": 6},
        )

    def test_of_a_finished_run_shows_its_results_and_changes_nothing(self, runs, configs, caplog):
        before = tree(runs["kd"])
        results = run_config(configs["kd"])
        assert results == json.loads((runs["kd"] / "results.json").read_text())
        assert tree(runs["kd"]) == before

    def test_never_refuses_a_folder_with_a_run(self, runs, configs):
        before = tree(runs["kd"])
        message = (
            f"^`resume` never, but `output_dir` {runs['kd']} holds a run: choose another folder, or `resume` auto$"
        )
        with pytest.raises(ConfigError, match=message):
            run_config(changed(configs["kd"], resume="never"))
        assert tree(runs["kd"]) == before

    def test_with_other_options_is_refused_and_they_are_named(self, runs, configs):
        before = tree(runs["kd"])
        with pytest.raises(ConfigError) as caught:
            run_config(changed(configs["kd"], optim={"lr": 0.5}, seed=1))
        assert str(caught.value).split("\n") == [
            f"{difference} of the run in {runs['kd']}: choose another `output_dir`, or the same value"
            for difference in ("`seed` 1 differs from 42", "`optim.lr` 0.5 differs from 0.01")
        ]
        assert tree(runs["kd"]) == before

    @pytest.mark.parametrize(
        "fault", [FailAfterStep(3), FailAfterValidation(4), FailAfterStep(5)], ids=["step 3", "validation 4", "step 5"]
    )
    def test_of_an_interrupted_run_ends_as_the_undisturbed(self, own, tmp_path, fault):
        with pytest.raises(Fault):
            run_config(own, [fault])
        assert not (tmp_path / "run" / "results.json").exists()
        assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
        run_config(own)
        run_config(changed(own, output_dir=str(tmp_path / "undisturbed")))
        first, second = tmp_path / "run", tmp_path / "undisturbed"
        assert [record["step"] for record in lines(first / "metrics.jsonl")] == [0, 2, 4, 6]
        assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
        assert same(weights(first / "best"), weights(second / "best"))
        checkpoints = [{path.name for path in (folder / "checkpoints").iterdir()} for folder in (first, second)]
        assert checkpoints[0] == checkpoints[1]
        last = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] for f in (first, second)]
        assert last == [6, 6]

    def test_of_a_run_without_a_checkpoint_begins_anew(self, own, tmp_path):
        with pytest.raises(Fault):
            run_config(own, [FailAfterStep(1)])
        # What has not been trained can be mended.
        run_config(changed(own, optim={"lr": 0.02}, student={"decoder_layers": 2}))
        for name in ("student_init", "best"):
            assert json.loads((tmp_path / "run" / name / "config.json").read_text())["decoder_layers"] == 2
        assert [record["step"] for record in lines(tmp_path / "run" / "metrics.jsonl")] == [0, 2, 4, 6]
        assert parse("run", ["--config", str(tmp_path / "run" / "run.yaml")]).optim.lr == 0.02

    def test_goes_on_from_a_checkpoint_that_is_named(self, own, tmp_path):
        run_config(changed(own, eval={"save_top_k": -1}))
        earlier = next((tmp_path / "run" / "checkpoints").glob("step=4-*.ckpt"))
        run_config(changed(own, resume=str(earlier), output_dir=str(tmp_path / "other")))
        assert lines(tmp_path / "other" / "metrics.jsonl") == lines(tmp_path / "run" / "metrics.jsonl")
        assert same(weights(tmp_path / "other" / "best"), weights(tmp_path / "run" / "best"))

    def test_goes_on_elsewhere_with_the_best_student_before(self, own, tmp_path, monkeypatch):
        """best/ stayed behind: unless a later student was better, the test then read a folder that was not there."""
        monkeypatch.setattr("seq2seq_distill.training.callbacks.monitor_mode", lambda monitor: "max")  # of the loss
        monkeypatch.setattr("seq2seq_distill.training.trainer.monitor_mode", lambda monitor: "max")
        run_config(own)
        marked = [line["best"] for line in lines(tmp_path / "run" / "metrics.jsonl")]
        assert marked == [True, False, False, False]  # the untrained student has the highest loss
        last = tmp_path / "run" / "checkpoints" / "last.ckpt"
        run_config(changed(own, resume=str(last), output_dir=str(tmp_path / "other")))
        assert same(weights(tmp_path / "other" / "best"), weights(tmp_path / "run" / "best"))

    def test_of_a_longer_training_goes_on_from_the_end(self, own, tmp_path):
        """A checkpoint of the last validation once ended the longer training too, without a step."""
        run_config(own)
        last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
        for steps, folder in ((8, "other"), (8, "run"), (10, "run")):
            here = {"output_dir": str(tmp_path / folder), "trainer": {"max_steps": steps}}
            run_config(changed(own, resume=last, **here))
            written = [record["step"] for record in lines(tmp_path / folder / "metrics.jsonl")]
            assert written == list(range(0, steps + 1, 2))

    def test_of_a_named_checkpoint_goes_on_from_its_newest(self, own, tmp_path):
        """A training that began at a named checkpoint once began there again each time that it was started."""
        run_config(changed(own, eval={"save_top_k": -1}))
        earlier = next((tmp_path / "run" / "checkpoints").glob("step=2-*.ckpt"))
        named = changed(own, resume=str(earlier), eval={"save_top_k": -1})
        with pytest.raises(Fault):
            run_config(named, [FailAfterStep(3)])
        assert not (tmp_path / "run" / "checkpoints" / "previous.ckpt").exists()  # that of the training before
        with pytest.raises(Fault):
            run_config(named, [FailAfterValidation(4)])
        first = FirstStep()
        run_config(named, [first])
        assert first.taken == 4
        assert [record["step"] for record in lines(tmp_path / "run" / "metrics.jsonl")] == [0, 2, 4, 6]
        again = FirstStep()
        run_config(named, [again])
        assert again.taken is None  # its results again

    def test_takes_the_rates_of_this_run(self, own, tmp_path):
        """The saved ones came back with the optimizer, and run.yaml named others."""
        run_config(changed(own, eval={"save_top_k": -1}))
        earlier = next((tmp_path / "run" / "checkpoints").glob("step=4-*.ckpt"))
        seen = []

        class Rates(Callback):
            def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
                group = trainer.optimizers[0].param_groups[0]
                seen.append((group["lr"], group["weight_decay"]))

        optim = {"lr": 1e-5, "weight_decay": 0.5, "schedule": "constant", "warmup_steps": 0}
        here = {"output_dir": str(tmp_path / "other"), "optim": optim}
        run_config(changed(own, resume=str(earlier), **here), [Rates()])
        assert seen == [(pytest.approx(1e-5), 0.5)] * 2

    def test_into_the_folder_of_another_run_is_refused(self, own, tmp_path):
        """Its results were overwritten, and after a kill its last checkpoint was taken for that of this run."""
        run_config(own)
        run_config(changed(own, seed=1, output_dir=str(tmp_path / "other")))
        before, last = tree(tmp_path / "other"), str(tmp_path / "run" / "checkpoints" / "last.ckpt")
        with pytest.raises(
            ConfigError, match="^`output_dir` .*other holds another run than `resume` .*: choose another"
        ):
            run_config(changed(own, resume=last, output_dir=str(tmp_path / "other")))
        assert tree(tmp_path / "other") == before

    def test_with_batches_in_other_parts_is_refused(self, own, tmp_path):
        """The place in the data is counted in parts of steps: it went on at another."""
        run_config(own)
        last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
        here = {"output_dir": str(tmp_path / "other"), "trainer": {"max_steps": 8, "accumulate_grad_batches": 2}}
        with pytest.raises(ConfigError, match="counts 1 batches a step: set `trainer.accumulate_grad_batches` 1"):
            run_config(changed(own, resume=last, **here))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"decoder_layers": 2},
                r"^`resume` .*step=2.* holds another student: .*layers\.1.* is missing",
            ),
            (
                {"freeze_encoder": True},
                r"^`resume` .*step=2.* has trained other weights, or by another optimizer: choose `student.freeze_enc",
            ),
        ],
    )
    def test_of_another_student_is_refused(self, own, tmp_path, changes, message):
        run_config(changed(own, eval={"save_top_k": -1}, student={"freeze_encoder": False}))
        earlier = next((tmp_path / "run" / "checkpoints").glob("step=2-*.ckpt"))
        student = {"freeze_encoder": False, **changes}
        with pytest.raises(ConfigError, match=message):
            run_config(changed(own, resume=str(earlier), output_dir=str(tmp_path / "other"), student=student))

    def test_whose_checkpoints_were_deleted_is_not_overwritten(self, own, tmp_path):
        """It was trained again, and with other options too: best/ was gone with the first validation."""
        results = run_config(own)
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        before = tree(tmp_path / "run")
        assert run_config(own) == results
        with pytest.raises(ConfigError, match="^`seed` 1 differs from 42 of the run in"):
            run_config(changed(own, seed=1))
        assert tree(tmp_path / "run") == before

    def test_a_checkpoint_that_is_not_there(self, own, tmp_path):
        with pytest.raises(
            ConfigError, match="^`resume` /no.ckpt: no such checkpoint; choose a file, or auto, or never$"
        ):
            run_config(changed(own, resume="/no.ckpt"))
        assert not (tmp_path / "run").exists()


class TestBestStudent:
    """Driven by hand, with made-up values."""

    def drive(self, tmp_path: Path, monitor: str, values: Sequence[float]) -> list[float]:
        """After each validation, what the weights in best/ have been filled with: the validation's own value."""
        folder, student = OutputFolder(tmp_path), tiny_model("t5")
        module = SummarizationModule(student, plain_tokenizer(), RunConfig(task="summarization", data=["d"]), 10)
        best = BestStudent(folder, SimpleNamespace(data_epoch=lambda step: step / 4, total_steps=8), monitor)
        seen = []
        for step, value in enumerate(values):
            trainer = SimpleNamespace(
                sanity_checking=False,
                global_step=step,
                is_global_zero=True,
                callback_metrics={f"val_{monitor}": torch.tensor(value), "loss": torch.tensor(1.0)},
                strategy=SimpleNamespace(barrier=lambda: None),
            )
            with torch.no_grad():
                student.shared.weight.fill_(value)
            best.on_validation_end(trainer, module)
            seen.append(round(weights(folder.best)["shared.weight"][0, 0].item(), 4))
        assert [record["step"] for record in folder.read_metrics()] == list(range(len(values)))
        assert best.best == pytest.approx(seen[-1])
        return seen

    def test_10_2_beats_9_8(self, tmp_path):
        """H28: the best checkpoint was picked by sorting file names: 9.8 beat 10.2."""
        assert self.drive(tmp_path, "rouge2", [9.8, 10.2, 9.9]) == [9.8, 10.2, 10.2]

    def test_of_a_loss_the_lowest_wins(self, tmp_path):
        """H28: for a loss the worst won."""
        assert self.drive(tmp_path, "loss", [10.2, 9.8, 100.0, 9.7]) == [10.2, 9.8, 9.8, 9.7]

    def test_any_beats_a_nan(self, tmp_path):
        """A first validation without a number was never beaten."""
        assert self.drive(tmp_path, "loss", [float("nan"), 3.0, float("nan"), 2.0])[1:] == [3.0, 3.0, 2.0]

    def test_the_first_of_equals_stays(self, tmp_path):
        folder = tmp_path / "a"
        folder.mkdir()
        assert self.drive(folder, "rouge2", [0.0, 0.0]) == [0.0, 0.0]

    def test_a_sanity_check_is_no_validation(self, tmp_path):
        """H27: the sanity check counted as a validation."""
        best = BestStudent(OutputFolder(tmp_path), SimpleNamespace(), "rouge2")
        best.on_validation_end(SimpleNamespace(sanity_checking=True), None)
        assert list(tmp_path.iterdir()) == []

    def test_it_knows_the_best_after_a_resume(self, tmp_path):
        first = BestStudent(OutputFolder(tmp_path), SimpleNamespace(), "rouge2")
        first.best, first.best_step = 10.2, 4
        second = BestStudent(OutputFolder(tmp_path), SimpleNamespace(), "rouge2")
        second.load_state_dict(first.state_dict())
        assert (second.best, second.best_step) == (10.2, 4)


class TestScripts:
    """Summaries in a script that ROUGE's usual tokenizer drops."""

    def test_rouge_chooses_no_student_by_what_it_drops(self, tmp_path: Path) -> None:
        data = write_data(tmp_path / "data")
        for split in ("train", "val", "test"):
            count = len((data / f"{split}.target").read_text("utf-8").splitlines())
            (data / f"{split}.target").write_text("кошка на окне\n" * count, "utf-8")
        given = config(tmp_path, "bart", task="summarization")
        with pytest.raises(ConfigError, match=r"`eval.monitor` rouge2: .* 100% .* set `eval.rouge_tokenizer` unicode"):
            run_config(given)
        assert not (tmp_path / "run" / "best").exists()
        results = run_config(changed(given, eval={"rouge_tokenizer": "unicode"}, trainer={"max_steps": 1}))
        assert results["scored_by"] == "ROUGE, F-measure, letters of all scripts, no stemmer"
