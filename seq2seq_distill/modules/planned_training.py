"""What lets any Trainer carry out the plan of a run: seeds by batch, validations where the config says, an end."""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from seq2seq_distill.config import TrainerConfig
from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.modules.datamodule import Seq2SeqData
from seq2seq_distill.utils.errors import raise_config_error


class SeedByBatch(Callback):
    """Seed Python, NumPy and torch (with all devices) before every batch from (seed, step, batch, process).

    So a resumed run draws what it would have drawn, and no random state needs to be saved.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        seed_from(self._seed, "train", 0, batch_idx, trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_from(self._seed, "val", trainer.global_step, batch_idx, trainer.global_rank)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        seed_from(self._seed, "test", 0, batch_idx, trainer.global_rank)


def seed_from(seed: int, *counters: object) -> None:
    """Seed Python, NumPy and torch (with all devices) from the seed of a run and counters."""
    key = " ".join(map(str, (seed, *counters))).encode()
    number = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


class PlannedTraining(Callback):
    """Validate where the plan of batches says, and after its last step, which ends the training.

    Args:
        config: the run's options of the Trainer.

    Raises:
        ConfigError: before the first step, a line for each option of the Trainer that would break the plan.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.apply_plan(trainer)

    def apply_plan(self, trainer: Trainer) -> None:
        """Check the Trainer's options, and let it validate where the plan says."""
        data = getattr(trainer, "datamodule", None)
        if (
            trainer.state.fn != TrainerFn.FITTING
            or not isinstance(data, Seq2SeqData)
            or getattr(trainer, "fast_dev_run", False)
        ):
            return
        interval = data.plan.steps_between_validations * self._config.accumulate_grad_batches
        raise_config_error(list(_problems(trainer, self._config, data.plan, interval)))
        trainer.val_check_interval, trainer.check_val_every_n_epoch = interval, None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            trainer.should_stop = True  # after a validation, whether or not the interval divides the run


def _problems(trainer: Trainer, config: TrainerConfig, plan: RunPlan, interval: int) -> Iterator[str]:
    """Options of the Trainer that would break the plan."""
    remedy = "leave it out, or pass trainer_options(config)"
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        yield "`use_distributed_sampler` True would deal out rows that the plan has dealt out already: set it to False"
    if trainer.accumulate_grad_batches != config.accumulate_grad_batches:
        yield (
            f"`accumulate_grad_batches` {trainer.accumulate_grad_batches} differs from the config's "
            f"{config.accumulate_grad_batches}: set TrainerConfig(accumulate_grad_batches=...), and {remedy}"
        )
    if trainer.check_val_every_n_epoch not in (None, 1):
        yield (
            f"`check_val_every_n_epoch` {trainer.check_val_every_n_epoch}: the whole run is one epoch of the Trainer; "
            "set TrainerConfig(val_check_interval=...) instead"
        )
    by_time = getattr(trainer, "_val_check_time_interval", None) is not None
    if by_time or trainer.val_check_interval not in (1.0, interval):
        yield (
            f"`val_check_interval` {trainer.val_check_interval}: set TrainerConfig(val_check_interval=...) instead, "
            "in data epochs or optimiser steps"
        )
    if (trainer.min_epochs or 0) > 1 or (trainer.min_steps or 0) > plan.total_steps:
        yield f"`min_epochs` or `min_steps` would go on after the {plan.total_steps} steps of the plan: {remedy}"
    if 0 <= trainer.max_steps < plan.total_steps:
        yield (
            f"`max_steps` {trainer.max_steps} ends before the {plan.total_steps} steps of the plan: set "
            "TrainerConfig(max_steps=...) instead, which the learning-rate schedule follows"
        )
    if overfit_batches := getattr(trainer, "overfit_batches", 0):
        yield f"`overfit_batches` {overfit_batches}: set EncodeConfig(n_train=...) instead"
    if trainer.limit_train_batches != 1.0:
        yield (
            f"`limit_train_batches` {trainer.limit_train_batches}: set TrainerConfig(limit_train_batches=...) instead"
        )
    if reload_epochs := getattr(trainer, "reload_dataloaders_every_n_epochs", 0):
        yield (
            f"`reload_dataloaders_every_n_epochs` {reload_epochs}: leave it out, the plan shuffles the data in every "
            "data epoch"
        )
