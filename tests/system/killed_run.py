"""A run that kills itself by a fault: one of those of `arm` and a number, `train:5` say, or `none`.

What dies is every process of the run, by SIGKILL, at the chosen moment: no handler, no cleaning up.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback

from seq2seq_distill.cli import main as cli
from seq2seq_distill.config import RunConfig, ScheduleConfig
from seq2seq_distill.data.tokenization import text_encoder
from seq2seq_distill.training import auto_targets, checkpoints
from seq2seq_distill.training import run as train
from seq2seq_distill.training.labels import shards
from seq2seq_distill.utils import errors
from tests.tiny_runs import config, save_teacher

# Dropout, a projection, a second teacher, sampled targets, schedules of temperature and weights, accumulation, worker
# processes, validations that the epoch does not end with, and checkpoints between them.
RUN: dict[str, Any] = {
    "model_type": "bart",
    "student": {"decoder_layers": 1, "dropout": 0.1},
    "matches": [{"layers": "copied", "projection": "tanh", "schedule": "linear_decay"}],
    "loss": {"on_policy": 0.3, "on_policy_max_length": 6, "schedule": ScheduleConfig("cosine", alpha_mlm="warmup")},
    "optim": {"lr": 0.01, "projection_lr": 0.02, "warmup_steps": 2},
    "batch": {"size": 8, "workers": 2},
    "eval": {"monitor": "loss", "batch_size": 2, "n_speed": 0, "max_target_length": 4, "save_top_k": 2},
    "trainer": {
        "max_steps": 24,
        "val_check_interval": 7,
        "save_every_n_steps": 3,
        "accumulate_grad_batches": 2,
    },
}


def kill_all() -> None:
    """Kill every process of the run: its leader, its ranks and their data workers."""
    os.killpg(0, signal.SIGKILL)


class KillInLoop(Callback):
    """Dies inside a training step's backward pass or inside a validation, at or after a step."""

    def __init__(self, place: str, step: int, kill: Callable[[], None] = kill_all) -> None:
        self.place, self.step, self.kill = place, step, kill

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.strike("train", trainer)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.state.fn == "fit":
            self.strike("val", trainer)

    def strike(self, place: str, trainer: Any) -> None:
        if place == self.place and trainer.global_step >= self.step:
            self.place = "done"
            self.kill()


def kill_while_saving(number: int, after: int) -> None:
    """Die in the `after`-th checkpoint: in the middle of its file (0), or before one of its renames (1 to 4)."""
    save, replace, seen = torch.save, os.replace, {"saves": 0, "renames": 0}

    def dying_save(value: Any, file: Any) -> None:
        seen["saves"], seen["renames"] = seen["saves"] + 1, 0
        save(value, file)
        if seen["saves"] == after and number == 0:
            file.flush()
            file.truncate(file.tell() // 2)
            kill_all()

    def dying_replace(source: Any, target: Any) -> None:
        seen["renames"] += 1
        if seen["saves"] == after and seen["renames"] == number:
            kill_all()
        replace(source, target)

    checkpoints.torch.save = dying_save
    checkpoints.os.replace = dying_replace


def dying_after(function: Callable[..., Any], times: int) -> Callable[..., Any]:
    """The function, which dies when it is called for the `times`-th time."""
    calls = iter(range(1, 10**6))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == times:
            kill_all()
        return function(*args, **kwargs)

    return wrapper


def arm(fault: str) -> list[Callback]:
    """Lay the fault; the callbacks that it needs."""
    place, _, number = fault.partition(":")
    match place:
        case "train" | "val":
            return [KillInLoop(place, int(number))]
        case "term":  # as preemption does: a signal that can be handled
            inside, _, step = number.partition(",")
            return [KillInLoop(inside, int(step), lambda: os.kill(os.getpid(), signal.SIGTERM))]
        case "save":
            which, after = number.split(",")
            kill_while_saving(int(which), int(after))
        case "cache":  # while the n-th split is tokenised
            text_encoder.TextEncoder.encode = dying_after(text_encoder.TextEncoder.encode, int(number))
        case "labels":  # when it is about to write a shard of labels for the n-th time
            shards.pyarrow.parquet.write_table = dying_after(shards.pyarrow.parquet.write_table, int(number))
        case "start":
            name = ("build_components", "_check_data", "build_trainer", "save_model")[int(number)]
            setattr(train, name, dying_after(getattr(train, name), 1))
    return []


def prepared(folder: Path, **changes: Any) -> RunConfig:
    """The run, with teachers and data in `folder`, which are made if they are not there."""
    if not (folder / "second").exists():
        save_teacher(folder / "second", RUN["model_type"], seed=3)
    return config(folder, **{**RUN, "ensemble": {"teachers": [str(folder / "second")]}, **changes})


def main(folder: Path, fault: str, changes: dict[str, Any]) -> int:
    """The exit code, if it lives so long."""
    os.environ["SEQ2SEQ_DISTILL_CACHE"] = str(folder / "cache")
    # Teachers and data are shared by all runs of a test.
    run = prepared(folder.parent, **{**changes, "output_dir": str(folder / "run")})
    try:
        train.run_config(run, arm(fault))
    except errors.Stopped as stop:
        return 128 + stop.signal
    return 0


def with_estimate(folder: Path, fault: str, changes: dict[str, Any], seconds: float) -> int:
    """`main`, where labelling is estimated to take so long."""
    auto_targets.estimate_seconds = lambda _: seconds
    return main(folder, fault, changes)


def label(arguments: list[str], writes: int) -> None:
    """`distill label`, which dies when it is about to write a shard for the `writes`-th time."""
    shards.pyarrow.parquet.write_table = dying_after(shards.pyarrow.parquet.write_table, writes)
    cli.main(arguments)
