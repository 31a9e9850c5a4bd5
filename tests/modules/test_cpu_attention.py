"""The fused attention kernel is off while a model trains on a CPU in bfloat16, and on again after it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from seq2seq_distill.training.run import run_config
from tests.tiny_runs import config


class Recorder(Callback):
    """Records the switch of the kernel in a training step, and fails if it should."""

    def __init__(self, fails: bool) -> None:
        self.seen: list[bool] = []
        self._fails = fails

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.seen.append(torch.backends.cuda.flash_sdp_enabled())
        if self._fails:
            raise KeyError("stop")


@pytest.mark.parametrize(("precision", "fails"), [("bf16-mixed", False), ("bf16-mixed", True), ("32-true", False)])
def test_the_switch_is_restored(tmp_path: Path, precision: str, fails: bool) -> None:
    recorder = Recorder(fails)
    run = config(tmp_path, trainer={"precision": precision, "max_steps": 1, "val_check_interval": 1})
    try:
        run_config(run, [recorder])
    except KeyError:
        assert fails
    assert recorder.seen == [precision == "32-true"]
    assert torch.backends.cuda.flash_sdp_enabled()
