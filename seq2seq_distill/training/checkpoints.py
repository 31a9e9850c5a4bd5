"""Checkpoints to resume from: written whole or not at all, known by their SHA-256, the one before kept.

    checkpoints/last.ckpt, previous.ckpt      the two newest, each with a NAME.sha256 beside it
    checkpoints/step=...ckpt                  the best by the monitored value, likewise

torch.load notices no flipped bit; the hash does. A checkpoint counts as whole if its hash is that of any .sha256 file
in its folder: so it stays known at every moment while files change their names.
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.training.signals import SignalHandler
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import file_sha256, hash_file, is_whole, replace_atomically, write_text

logger = logging.getLogger(__name__)


class HashedCheckpointIO(CheckpointIO):
    """Writes and reads checkpoints for Lightning: plain torch files, a hash beside each.

    Args:
        folder: of the run; what its last.ckpt was before becomes previous.ckpt.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self._folder = folder

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
            digest = file_sha256(temporary)
            if path == self._folder.last_checkpoint and path.exists():
                with suppress(FileNotFoundError):  # a kill between these two lines left it there already
                    os.replace(hash_file(path), hash_file(self._folder.previous_checkpoint))
                os.replace(path, self._folder.previous_checkpoint)
            # The hash comes first: a kill in between leaves a hash without a file, never a file without a hash.
            write_text(hash_file(path), f"{digest}  {path.name}\n")

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Always with `weights_only=True`, whatever is asked: nothing of ours needs more.

        Raises:
            ConfigError: the file is damaged, or holds more than plain values and tensors.
        """
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        Path(path).unlink(missing_ok=True)
        hash_file(Path(path)).unlink(missing_ok=True)


class ResumeCheckpoint(Checkpoint):
    """Writes last.ckpt where an optimiser step has just ended: at validations, by steps, by minutes, at a signal.

    A validation is preceded by a checkpoint too, so that a run that ends inside one loses nothing. Resumed from there,
    or from the end of a step whose validation was never reached, the run validates first.

    Args:
        folder: of the run.
        plan: of the run.
        signals: that may ask for the end.
        every_n_steps, every_minutes: as `--trainer.save_every_n_steps` and `--trainer.save_every_minutes`.
    """

    def __init__(
        self,
        folder: OutputFolder,
        plan: RunPlan,
        signals: SignalHandler,
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._signals = signals
        self._every_n_steps = every_n_steps
        self._every_seconds = None if every_minutes is None else 60 * every_minutes
        self._written = time.monotonic()
        self._written_step = 0
        self._validated = 0  # optimiser steps before the last validation that ended
        self._ended = False  # whether that validation ended the training, as early stopping may
        self._processes: int | None = None  # of the run that wrote the checkpoint

    @property
    def state_key(self) -> str:
        """Its name in the checkpoints of version 0.1, where the class was called so."""
        return "ResumePoints"

    def state_dict(self) -> dict[str, Any]:
        return {"validated": self._validated, "ended": self._ended, "processes": self._processes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated, self._ended = state_dict["validated"], state_dict["ended"]
        self._processes = state_dict["processes"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._processes not in (None, trainer.world_size):
            logger.info(
                "resumed on %d processes after %d: the same examples come next, but sums are rounded otherwise, "
                "so the result will not be equal to the last bit",
                trainer.world_size,
                self._processes,
            )
        self._processes = trainer.world_size
        self._written, self._written_step = time.monotonic(), trainer.global_step
        self._signals.wait()
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if progress.is_last_batch and trainer.global_step < self._plan.total_steps:
            progress.is_last_batch = self._ended = False  # the end of a shorter training is not that of this one
        if self._ended:
            trainer.should_stop = True
        elif trainer.global_step > self._validated and self._plan.validates_after(trainer.global_step):
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # inside an optimiser step
        stop = self._asked_to_stop(trainer)
        if self._plan.validates_after(trainer.global_step) and not stop:
            return  # the validation that comes now writes one
        due = self._every_n_steps is not None and trainer.global_step % self._every_n_steps == 0
        late = self._every_seconds is not None and time.monotonic() - self._written > self._every_seconds
        # Saving is collective, and clocks differ between processes: all follow process 0.
        if stop or due or (self._every_seconds is not None and trainer.strategy.broadcast(late)):
            self._save(trainer)
        if stop:
            self._signals.stop(trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and trainer.global_step != self._written_step:
            self._save(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self._asked_to_stop(trainer):
            self._signals.stop(trainer.global_step)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._validated = trainer.global_step  # known also to the checkpoints that others write of it

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._ended = bool(trainer.should_stop)
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signals.stop_at_once()

    def _asked_to_stop(self, trainer: Trainer) -> bool:
        """Whether any process got a signal."""
        return trainer.strategy.reduce_boolean_decision(self._signals.received is not None, all=False)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._folder.last_checkpoint)
        self._written, self._written_step = time.monotonic(), trainer.global_step


class BestCheckpoints(ModelCheckpoint):
    """The top k by the monitored value; unlike Lightning's, they are still known after the run's folder has moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def moved(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {name: moved(state_dict[name]) for name in ("best_model_path", "kth_best_model_path")}
        best = {moved(path): value for path, value in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


def newest_whole(folder: OutputFolder) -> Path | None:
    """The newest whole checkpoint to resume from; what is damaged is told and passed over.

    Raises:
        ConfigError: there are checkpoints, but none is whole.
    """
    damaged: list[Path] = []
    for path in (folder.last_checkpoint, folder.previous_checkpoint):
        if not path.exists():
            continue
        if is_whole(path):
            for other in damaged:
                logger.warning("%s is damaged: resuming from %s, the previous one", other, path.name)
            return path
        damaged.append(path)
    if damaged:
        raise ConfigError(
            f"`output_dir` {folder.path}: {' and '.join(path.name for path in damaged)} of its checkpoints folder "
            "are damaged: resume from another by `resume` PATH, or start again in a new folder"
        )
    return None


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's content, its hash checked if there is one beside it.

    Raises:
        ConfigError: the file is damaged, or holds more than plain values and tensors.
    """
    if not hash_file(path).exists():
        logger.warning("%s has no .sha256 beside it: damage would go unnoticed", path)
    elif not is_whole(path):
        raise ConfigError(f"checkpoint {path} is damaged (its SHA-256 differs): choose another one")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage leads it to
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"checkpoint {path} cannot be read (only tensors and plain values are): {reason}: choose another one"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ConfigError(f"checkpoint {path} is no Lightning checkpoint: choose one of a run's checkpoints folder")
    return content
