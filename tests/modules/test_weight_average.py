"""The average of the weights is validated and saved; checkpoints have both, and a resumed run ends with the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file

from seq2seq_distill.modules.weight_average import decay_at
from seq2seq_distill.training.build import build
from seq2seq_distill.training.checkpoints import read_checkpoint
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.trainer import trainer_options
from tests.tiny_runs import config

DECAY = 0.4
CHANGES: dict[str, Any] = {
    "optim": {"ema": DECAY, "lr": 1e-2, "warmup_steps": 0},
    "eval": {"monitor": "loss", "beams": 1, "max_target_length": 4, "n_speed": 0},
}


class Recorder(Callback):
    """Keeps the trained weights after each step, and stops after some."""

    def __init__(self, stop: int | None = None) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self._stop = stop

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.steps.append({name: p.detach().clone() for name, p in pl_module.named_parameters() if p.requires_grad})
        if trainer.global_step == self._stop:
            raise KeyError("stop")


def test_the_decay_is_warmed_up() -> None:
    assert [decay_at(step, 0.999) for step in (1, 8)] == [2 / 11, 0.5]
    assert decay_at(10**6, 0.999) == 0.999 and decay_at(8, 0.3) == 0.3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    folder, recorder = tmp_path_factory.mktemp("whole"), Recorder()
    run_config(config(folder, **CHANGES), [recorder])
    return folder, recorder.steps


def test_the_average_is_saved_and_the_weights_are_kept(whole: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    folder, steps = whole
    checkpoint = read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
    initial = load_file(folder / "run" / "student_init" / "model.safetensors")
    best = load_file(folder / "run" / "best" / "model.safetensors")
    assert checkpoint["current_model_state"].keys() == steps[-1].keys()
    for name, weight in steps[-1].items():
        average = initial[name.removeprefix("student.")]
        for number, after in enumerate(steps, start=1):
            decay = decay_at(number, DECAY)
            average = decay * average + (1 - decay) * after[name]
        torch.testing.assert_close(checkpoint["state_dict"][name], average)
        torch.testing.assert_close(best[name.removeprefix("student.")], average)
        assert torch.equal(checkpoint["current_model_state"][name], weight)
    tied = [checkpoint["state_dict"][f"student.{name}.weight"] for name in ("model.shared", "lm_head")]
    assert torch.equal(*tied)


def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[Path, list[dict[str, torch.Tensor]]]
) -> None:
    run = config(tmp_path, **CHANGES, trainer={"save_every_n_steps": 1})
    with pytest.raises(KeyError, match="stop"):
        run_config(run, [Recorder(stop=3)])  # in the middle of the step: the checkpoint is of step 2
    run_config(run)
    ours, theirs = (read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt") for folder in (tmp_path, whole[0]))
    for state in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[state][name], weight) for name, weight in theirs[state].items())
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole[0] / "run" / "metrics.jsonl").read_bytes()


def test_a_trainer_of_lightning_ends_with_the_average(
    tmp_path: Path, whole: tuple[Path, list[dict[str, torch.Tensor]]]
) -> None:
    run = config(tmp_path, **CHANGES)
    module, data = build(run)
    Trainer(**trainer_options(run), logger=False, enable_checkpointing=False).fit(module, data)
    expected = read_checkpoint(whole[0] / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.equal(weight, expected[name]) for name, weight in module.state_dict().items())
