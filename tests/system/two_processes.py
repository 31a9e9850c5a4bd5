"""What `test_two_processes.py` runs on every process; as a command: FOLDER and, run by run, changes to its config.

Besides groups of the config a run may name, under "extra":
    record: a file; what process r saw in training is written to FILE.r
    stop: end the run with an exception after these optimiser steps, on all processes; the next run goes on
    built: a file; the run is built for a plain Trainer of Lightning, and process 0 writes its final weights there
    fail: the process that raises an exception after the second step, while the others sleep
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from seq2seq_distill.config import RunConfig
from seq2seq_distill.models.sharding import is_sharded
from seq2seq_distill.training.build import build
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.trainer import trainer_options
from tests.tiny_runs import config


class Halt(Exception):
    """The end of a run that a test asked for."""


class Events(Callback):
    """Records, stops and fails as the run's "extra" says."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self._extra = extra
        self._losses: list[float] = []
        self._rows: list[list[int]] = []
        self._distilled: list[bool] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(float(outputs["loss"]))
        self._rows.append(batch["row"].tolist())
        self._distilled += batch.get("distill_mask", torch.tensor([])).tolist()
        if trainer.global_step == self._extra.get("stop"):
            raise Halt
        if trainer.global_step == 2 and "fail" in self._extra:
            if trainer.global_rank == self._extra["fail"]:
                raise ValueError("the fault of one process")
            print("sleeping", flush=True)
            time.sleep(300)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "record" not in self._extra:
            return
        own = [p.to_local() if hasattr(p, "to_local") else p for p in pl_module.parameters()]
        record = {
            "losses": self._losses,
            "rows": self._rows,
            "distilled": self._distilled,
            "weights": sum(p.numel() for p in own),
            "sharded": is_sharded(pl_module),
        }
        Path(f"{self._extra['record']}.{trainer.global_rank}").write_text(json.dumps(record))


def fit_built(run: RunConfig, weights: Path) -> None:
    """Train with a Trainer that a user of Lightning would make."""
    module, data = build(run)
    trainer = Trainer(**trainer_options(run), logger=False, enable_checkpointing=False)
    trainer.fit(module, data)
    if trainer.is_global_zero:
        torch.save(module.state_dict(), weights)
    trainer.strategy.barrier()


def run(folder: Path, changes: dict[str, Any]) -> None:
    """One run with these changes."""
    extra = changes.pop("extra", {})
    if "built" in extra:
        fit_built(config(folder, **changes), Path(extra["built"]))
        return
    try:
        run_config(config(folder, **changes), [Events(extra)])
    except Halt:
        return
    assert "stop" not in extra


def run_all(folder: Path, runs: list[dict[str, Any]]) -> None:
    """These runs, one after the other."""
    for changes in runs:
        run(folder, changes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_all(Path(sys.argv[1]), [json.loads(changes) for changes in sys.argv[2:]])
