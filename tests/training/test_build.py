"""A run for a plain Trainer of Lightning: the weights of `run_config`, and options that would break the plan."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping

from seq2seq_distill.config import RunConfig
from seq2seq_distill.demo import model_source
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.modules.datamodule import Seq2SeqData
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.training.build import build
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.trainer import trainer_options
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_runs import config

QUIET: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
PLAIN = {**QUIET, "accelerator": "cpu", "enable_progress_bar": False}


def few_steps(folder: Path, **trainer: Any) -> RunConfig:
    trainer = {"max_steps": 5, "val_check_interval": 2, **trainer}
    return config(folder, output_dir=str(folder / "run"), loss={"alpha_hid": 1.0, "on_policy": 0.3}, trainer=trainer)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_final_weights_are_those_of_a_run(tmp_path: Path, accumulate: int) -> None:
    run = few_steps(tmp_path, accumulate_grad_batches=accumulate)
    run_config(run)
    expected = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    module, data = build(run)
    trainer = Trainer(**trainer_options(run), **QUIET)
    trainer.fit(module, data)
    assert trainer.global_step == 5
    found = module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_a_trainer_with_defaults_ends_after_the_planned_steps_and_validates_where_the_config_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, data = build(few_steps(tmp_path))
    validated = []
    monkeypatch.setattr(
        type(module), "on_validation_epoch_start", lambda self: validated.append(self.trainer.global_step)
    )
    stopping = EarlyStopping("val_loss", patience=9)
    Trainer(**PLAIN, num_sanity_val_steps=0, callbacks=[stopping]).fit(module, data)
    assert validated == [2, 4, 5]
    assert stopping.wait_count or stopping.best_score < torch.inf
    assert not stopping._check_on_train_epoch_end  # it looks at every validation


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[SummarizationModule, Seq2SeqData]:
    return build(few_steps(tmp_path_factory.mktemp("built")))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("accumulate_grad_batches", 3),
        ("check_val_every_n_epoch", 2),
        ("val_check_interval", 0.5),
        ("min_epochs", 2),
        ("max_steps", 3),
        ("overfit_batches", 2),
        ("limit_train_batches", 2),
        ("reload_dataloaders_every_n_epochs", 1),
    ],
)
def test_options_that_break_the_plan_are_refused_by_name(
    built: tuple[SummarizationModule, Seq2SeqData], option: str, value: Any
) -> None:
    module, data = built
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    with pytest.raises(ConfigError, match=f"^`{option}`"):
        Trainer(**PLAIN, **{option: value}).fit(module, data)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_samplers_of_lightning_are_refused_on_several_processes(
    built: tuple[SummarizationModule, Seq2SeqData], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, data = built
    monkeypatch.setattr(Trainer, "world_size", 2)
    with pytest.raises(ConfigError, match="^`use_distributed_sampler` True"):
        Trainer(**PLAIN).fit(module, data)


@pytest.mark.parametrize(
    ("student", "origin"),
    [
        ({"decoder_layers": 1}, "1 decoder layers, copied from the teacher's [0, 1] and [0]"),
        ({"decoder_layers": None, "path": "{teacher}"}, "2 decoder layers, from {teacher}"),
        ({"decoder_layers": None, "config": "{teacher}"}, "2 decoder layers, fresh weights"),
    ],
)
def test_the_log_says_where_the_students_weights_come_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, student: dict[str, Any], origin: str
) -> None:
    caplog.set_level(logging.INFO, "seq2seq_distill")
    teacher = str(tmp_path / "teacher")
    named = {name: teacher if value == "{teacher}" else value for name, value in student.items()}
    build(config(tmp_path, student=named))
    told = [record.getMessage() for record in caplog.records]
    assert f"student: 2 encoder and {origin.format(teacher=teacher)}" in told


def test_a_built_in_model_as_the_student(tmp_path: Path) -> None:
    name = "demo:translation"
    module, _ = build(config(tmp_path, teacher=name, student={"path": name, "decoder_layers": None}))
    built_in = load_pretrained(model_source(name)).state_dict()
    assert all(torch.equal(weight, built_in[name]) for name, weight in module.student.state_dict().items())


@pytest.mark.parametrize(("warmup", "warned"), [(4, True), (3, False)])
def test_a_run_that_ends_within_its_warm_up_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, warmup: int, warned: bool
) -> None:
    """A student whose learning rate had not risen yet was advised to lower it."""
    run_config(config(tmp_path, optim={"warmup_steps": warmup}))
    line = "--optim.warmup_steps 4: the run ends after 4 steps, before the learning rate reaches --optim.lr"
    assert any(message.startswith(line) for message in caplog.messages) == warned
    collapsed = [message for message in caplog.messages if "has collapsed" in message]
    assert all(message.startswith("step 4:") for message in collapsed) and (not collapsed or not warned)
