"""How a run spreads over processes: Lightning's strategies by their names, and `fsdp2`."""

import atexit
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.types import _PATH
from pytorch_lightning import Trainer
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from seq2seq_distill.models.sharding import gather, spread_like, whole_state

GRACE = 10.0
"""Seconds that other processes get to end by themselves, with their own message, before they are ended."""


class FullyShardedStrategy(ModelParallelStrategy):
    """Student, gradients and optimiser state sharded over all processes (FSDP2).

    A checkpoint is one file with whole tensors, of the same form as DDP's, written and read through the run's
    `CheckpointIO`: a run may go on under another strategy or with another number of processes.
    """

    def __init__(self) -> None:
        super().__init__(data_parallel_size=1, tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes  # known only now
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return whole_state(self.lightning_module, keep=self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer._optimizer
        return tree_map(lambda value: gather(value, keep=self.is_global_zero), optimizer.state_dict())

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_checkpoint(self, checkpoint_path: _PATH, weights_only: bool | None = None) -> dict[str, Any]:
        # Lightning would read the file past the CheckpointIO, and with it past the check of its hash.
        return self.checkpoint_io.load_checkpoint(Path(self.broadcast(checkpoint_path)), weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module = self.lightning_module
        assert module is not None
        own = module.state_dict(keep_vars=True)
        saved = {name: spread_like(value, own.get(name)) for name, value in checkpoint["state_dict"].items()}
        module.load_state_dict(saved, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                index: {name: spread_like(value, parameters[index]) for name, value in values.items()}
                for index, values in saved["state"].items()
            }
            optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def strategy_options(name: str) -> dict[str, Any]:
    """The Trainer's options for `--trainer.strategy`; names other than fsdp2 are Lightning's own."""
    if name == "fsdp2":
        # What is gathered in inference mode could not be used in training afterwards.
        return {"strategy": FullyShardedStrategy(), "inference_mode": False}
    return {"strategy": name}


def end_with_main(trainer: Trainer) -> None:
    """See to it that the processes which Lightning started for this run end when the first one does.

    It ends all when one of them fails, but nobody watches the first: on GPUs they would wait for it until torch's time
    limit of 30 minutes. Processes of torchrun or SLURM are ended by those.
    """
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        atexit.register(_end, trainer.strategy.launcher)


def _end(launcher: _SubprocessScriptLauncher) -> None:
    deadline = time.monotonic() + GRACE
    for process in launcher.procs:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
