"""The average of the weights over the optimiser steps: it is validated, exported and tested in place of the weights.

Lightning's `EMAWeightAveraging` (2.6) does not serve here: its decay has no warm-up, it copies the whole module with
its teachers, it has no sharded weights (fsdp2), and it takes the average out again before the student of a validation
is written.
"""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seq2seq_distill.config import OptimConfig
from seq2seq_distill.models.sharding import gather, local_part, reshard, spread_like, spread_local

TRAINED = "current_model_state"
"""Of a checkpoint: the weights that are trained, where its `state_dict` has their average; Lightning's name."""


def decay_at(step: int, decay: float) -> float:
    """Decay of the average after `step` optimiser steps, min(decay, (step + 1) / (step + 10)).

    So the first steps, whose weights are far from the last ones, are soon forgotten (as in Marian and in TensorFlow's
    `ExponentialMovingAverage`).
    """
    return min(decay, (step + 1) / (step + 10))


def weight_average(optim: OptimConfig) -> "list[WeightAverage]":
    """The callback that averages weights, if the options ask for one."""
    return [] if optim.ema is None else [WeightAverage(optim.ema)]


class WeightAverage(Callback):
    """Average every trained weight: average <- decay * average + (1 - decay) * weight after each optimiser step.

    During validations and after the training the module has the averages, and this the trained weights. Checkpoints
    have both. What is not trained is not averaged, nor are buffers.

    Args:
        decay: from 0 up to, but not including, 1; the first steps have less, see `decay_at`.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._others: dict[str, Tensor] = {}  # this process's part of what the module does not have at the moment
        self._module_has_averages = False
        self._step = 0
        self._loaded: dict[str, Any] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint.get(TRAINED, {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        reshard(pl_module)
        self._step, self._module_has_averages = trainer.global_step, False
        self._others = {name: local_part(weight).detach().clone() for name, weight in _trained(pl_module).items()}
        for name, weight in _trained(pl_module).items():
            if name in self._loaded:  # what has been loaded before is the average
                own = local_part(weight)
                own.detach().copy_(local_part(spread_like(self._loaded[name], weight)).to(own.device))
        self._loaded = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return  # inside an optimiser step
        self._step = trainer.global_step
        weights = [local_part(weight).detach() for weight in _trained(pl_module).values()]
        get_ema_multi_avg_fn(decay_at(self._step, self._decay))(list(self._others.values()), weights, self._step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self._others:
            self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self._others:
            self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """`state_dict` gets the averages, whichever of the two the module has; all processes must call it."""
        if not self._others:
            return
        state, trained = checkpoint["state_dict"], {}
        names = _names(pl_module)
        for name, weight in _trained(pl_module).items():
            other = gather(spread_local(self._others[name], weight), keep=trainer.is_global_zero)
            if name not in state:
                continue  # the whole tensors are on process 0 alone
            trained[name] = other if self._module_has_averages else state[name]
            if not self._module_has_averages:
                state.update(dict.fromkeys(names[name], other))
        checkpoint[TRAINED] = trained

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        reshard(module)  # what is whole would stay as it is
        for name, weight in _trained(module).items():
            own, other = local_part(weight), self._others[name]
            before = own.clone()
            own.copy_(other)
            other.copy_(before)
        self._module_has_averages = not self._module_has_averages


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, tied ones once."""
    return {name: weight for name, weight in module.named_parameters() if weight.requires_grad}


def _names(module: nn.Module) -> dict[str, list[str]]:
    """By the first name of each parameter, all its names."""
    first = {id(weight): name for name, weight in module.named_parameters()}
    names: dict[str, list[str]] = {}
    for name, weight in module.named_parameters(remove_duplicate=False):
        names.setdefault(first[id(weight)], []).append(name)
    return names
