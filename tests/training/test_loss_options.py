"""Divergences and schedules in the module and in whole runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from pytorch_lightning import Callback

from seq2seq_distill.config import LossConfig, OptimConfig, RunConfig, ScheduleConfig
from seq2seq_distill.losses.divergences import DIVERGENCES, divergence
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError
from tests.modules.test_modules import STILL, distiller, padded, report, rows, with_empty_row
from tests.tiny_models import tiny_model
from tests.tiny_runs import config


def module_of(loss: LossConfig, model_type: str = "bart") -> SummarizationDistiller:
    """Nothing is random, in training neither."""
    teacher = tiny_model(model_type, **STILL)
    return distiller(create_student(teacher, 2, 1, overrides=STILL), teacher, loss)


def at_step(step: int) -> Any:
    return mock.patch.object(SummarizationDistiller, "global_step", step)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_ce_loss_is_the_divergence_that_was_asked_for(name: Any) -> None:
    module = module_of(LossConfig(divergence=name, temperature=3.0, beta=0.2, skew=0.3))
    batch = rows(module.student)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
    teacher = tiny_model("bart", **STILL).eval()
    own, other = (model.eval()(**inputs).logits for model in (module.student, teacher))
    expected = divergence(own, other, batch["labels"], name, 3.0, beta=0.2, skew=0.3)
    terms = module.compute_loss(batch).terms
    assert set(terms) == {"ce_loss", "mlm_loss", "teacher_entropy", "hid_loss_enc", "hid_loss_dec"}
    torch.testing.assert_close(terms["ce_loss"].sum, expected.sum.detach(), rtol=1e-4, atol=1e-5)
    assert terms["ce_loss"].count == expected.count


def test_several_are_added_up_and_reported_each() -> None:
    weights = {"forward_kl": 0.5, "total_variation": 2.0}
    module = module_of(LossConfig(divergence=weights))
    batch = rows(module.student)
    found = report(module, batch)
    singles = {name: report(module_of(LossConfig(divergence=name)), batch).parts["ce_loss"] for name in weights}
    for name, value in singles.items():
        torch.testing.assert_close(found.parts[name], value)
    expected = sum(weights[name] * value for name, value in singles.items())
    torch.testing.assert_close(found.parts["ce_loss"], expected)
    torch.testing.assert_close(found.loss, 0.8 * expected + 0.2 * found.parts["mlm_loss"])


SCHEDULED = LossConfig(
    alpha_ce=0.5,
    alpha_mlm=2.0,
    alpha_hid=3.0,
    temperature=4.0,
    schedule=ScheduleConfig(
        temperature="linear", alpha_ce="linear_growth", alpha_mlm="linear_decay", alpha_hid="warmup", warmup_steps=2
    ),
)


@pytest.mark.parametrize(
    ("step", "ce", "mlm", "hid", "temperature"), [(0, 0, 2, 0, 4), (1, 1 / 6, 4 / 3, 1.5, 3), (3, 0.5, 0, 3, 1)]
)
def test_a_schedule_scales_the_configured_weight(
    step: int, ce: float, mlm: float, hid: float, temperature: float
) -> None:
    """H38: TextBrewer's replaces it."""
    module = module_of(SCHEDULED)  # a run of 4 steps
    batch = rows(module.student)
    with at_step(step):
        module.train()
        assert module.step_options().weights == pytest.approx(
            {"ce_loss": ce, "mlm_loss": mlm, "hid_loss_enc": hid, "hid_loss_dec": hid, "chunk_loss": 0}
        )
        scheduled = report(module, batch)
        constant = LossConfig(alpha_ce=ce, alpha_mlm=mlm, alpha_hid=hid, temperature=temperature)
        same = module_of(constant)
        same.objective.pairs = module.objective.pairs
        same.objective.features = module.objective.features
        same.objective.teacher_features = module.objective.teacher_features
        torch.testing.assert_close(scheduled.loss, report(same.train(), batch).loss)
        options = module.eval().step_options()
        weights = {"ce_loss": 0.5, "mlm_loss": 2.0, "hid_loss_enc": 3.0, "hid_loss_dec": 3.0, "chunk_loss": 0.0}
        assert options.weights == weights
        assert options.temperature == SCHEDULED.temperature


def test_the_warm_up_of_weights_is_by_default_that_of_the_learning_rate() -> None:
    module = module_of(replace(SCHEDULED, schedule=replace(SCHEDULED.schedule, warmup_steps=None)))
    module.objective.optim = OptimConfig(warmup_steps=4)
    with at_step(1):
        assert module.train().step_options().weights["hid_loss_dec"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("way", ["flsw", "cwsm"])
class TestAdaptive:
    def loss(self, way: Any) -> LossConfig:
        return LossConfig(temperature=3.0, schedule=ScheduleConfig(temperature=way, strength=0.3))

    def test_mean_temperature_is_reported_in_training_alone(self, way: str) -> None:
        module, plain = module_of(self.loss(way)), module_of(LossConfig(temperature=3.0))
        batch = rows(module.student)
        assert report(module, batch).named() == report(plain, batch).named()
        own, other = report(module.train(), batch), report(plain.train(), batch)
        assert own.parts["temperature"].item() == pytest.approx(3.0)  # the mean of each target, but for the bounds
        assert own.parts["ce_loss"] != other.parts["ce_loss"]
        torch.testing.assert_close(own.parts["mlm_loss"], other.parts["mlm_loss"])

    def test_padding_and_rows_of_other_processes_change_nothing(self, way: str) -> None:
        module = module_of(self.loss(way)).train()
        batch = rows(module.student)
        expected = report(module, batch).parts["ce_loss"]
        for wide in (padded(batch, module.student, 2, 3), with_empty_row(batch, module.student)):
            torch.testing.assert_close(report(module, wide).parts["ce_loss"], expected)
        counts = {name: term.count for name, term in module.compute_loss(batch).terms.items()}
        parts = [{name: field[i : i + 1] for name, field in batch.items()} for i in range(len(batch["row"]))]
        dealt = sum(report(module, part, counts).parts["ce_loss"] for part in parts)
        torch.testing.assert_close(dealt, expected)


class Fail(Callback):
    """Ends the run after its third step."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            raise RuntimeError("enough")


class Figures(Callback):
    """What the log says of each step."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, *_):
        self.lines.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def written(run: RunConfig) -> list[bytes]:
    folder = Path(run.folder)
    return [
        (folder / name).read_bytes() for name in ("best/model.safetensors", "metrics.jsonl", "test_generations.jsonl")
    ]


@pytest.mark.parametrize("temperature", ["cosine", "cwsm"])
def test_a_stopped_run_with_schedules_ends_with_the_same_bytes(tmp_path: Path, temperature: str) -> None:
    schedule = ScheduleConfig(temperature=temperature, alpha_ce="linear_growth", alpha_mlm="linear_decay")  # type: ignore[arg-type]
    common = {
        "loss": {"schedule": schedule, "divergence": {"jsd": 1.0, "reverse_kl": 0.5}},
        "student": {"dropout": 0.1},
        "eval": {"monitor": "loss", "n_speed": 0},
        "trainer": {"max_steps": 6, "save_every_n_steps": 1, "log_every_n_steps": 1, "val_check_interval": 3},
    }
    whole, half = (config(tmp_path, **common, output_dir=str(tmp_path / name)) for name in ("whole", "half"))
    figures = Figures()
    run_config(whole, [figures])
    with pytest.raises(RuntimeError, match="enough"):
        run_config(half, [Fail()])
    run_config(half)
    assert written(half) == written(whole)
    assert [line["alpha_ce"] for line in figures.lines] == pytest.approx([0.16 * step for step in range(6)])
    assert [line["alpha_mlm"] for line in figures.lines] == pytest.approx([0.2 - 0.04 * step for step in range(6)])
    temperatures = [line["temperature"] for line in figures.lines]
    assert 1 <= min(temperatures) < max(temperatures) <= 8
    if temperature == "cosine":
        assert (temperatures[0], temperatures[-1]) == (2, 1)
    assert {"jsd", "reverse_kl", "ce_loss"} <= figures.lines[0].keys()


@pytest.mark.parametrize("name", ["reverse_kl", "jsd"])
def test_a_cache_of_the_whole_vocabulary_gives_the_same_losses(tmp_path: Path, name: str) -> None:
    common = {"loss": {"divergence": name}, "eval": {"n_speed": 0}}
    online = config(tmp_path, **common, output_dir=str(tmp_path / "online"))
    cached = config(
        tmp_path,
        **common,
        output_dir=str(tmp_path / "cached"),
        teacher_cache=str(tmp_path / "cache"),
        cache={"top_k": 10_000, "precision": "float32"},
    )
    figures = [Figures(), Figures()]
    for run, figure in zip((online, cached), figures, strict=True):
        run_config(run, [figure])
    for own, other in zip(figures[1].lines, figures[0].lines, strict=True):
        assert own["ce_loss"] == pytest.approx(other["ce_loss"], rel=1e-4, abs=1e-6)


def test_what_a_cache_cannot_give_is_refused_before_the_teacher_is_read(tmp_path: Path) -> None:
    run = replace(config(tmp_path, teacher_cache="c", loss={"divergence": "mse"}), teacher="nowhere")
    with pytest.raises(ConfigError, match="^`loss.divergence` mse needs logits, which `teacher_cache` c does not hold"):
        run_config(run)
