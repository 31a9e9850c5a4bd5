"""The place of this process among those of the run: rank, world size, device, share of the cores.

All is read from the environment, so that it is known before `torch.distributed` is initialised: torchrun sets RANK,
WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; SLURM sets SLURM_PROCID and SLURM_NTASKS; Lightning gives the processes
that it starts their LOCAL_RANK.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from seq2seq_distill.utils.errors import ConfigError

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""The first that is set tells whether a process is process 0."""
CPU = torch.device("cpu")


def rank_and_world_size() -> tuple[int, int]:
    """Rank and number of the processes that torchrun or SLURM has started; (0, 1) where neither has.

    Processes that Lightning starts are not counted: it starts them when the first one calls its Trainer.
    """
    for rank, world_size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if rank in os.environ and world_size in os.environ:
            return int(os.environ[rank]), int(os.environ[world_size])
    return 0, 1


def is_rank_zero() -> bool:
    """Whether this is process 0, also of processes that Lightning has started."""
    ranks = [os.environ[name] for name in RANK_VARIABLES if name in os.environ]
    return not ranks or int(ranks[0]) == 0


def is_first_of_machine() -> bool:
    """Whether this is the first of the processes that a launcher has started on this machine."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))) == 0


def init_process_group(timeout: timedelta) -> tuple[int, int]:
    """Connect the processes that torchrun has started, by gloo; a single process stays by itself.

    Args:
        timeout: how long a process waits for the slowest one.

    Returns:
        Rank and number of the processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timeout)
    return dist.get_rank(), dist.get_world_size()


def destroy_process_group() -> None:
    """Disconnect the processes, if they are connected."""
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device(accelerator: str = "auto") -> torch.device:
    """This process's GPU, by LOCAL_RANK; the CPU where there is no GPU or `accelerator` is "cpu"."""
    if accelerator == "cpu" or not torch.cuda.is_available():
        return CPU
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def device_of(name: str) -> torch.device:
    """The device of the option `device`: auto is a GPU where there is one, this process's own among several.

    Raises:
        ConfigError: there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` cuda: torch sees no GPU here: choose cpu, or auto")
    return local_device(name)


def num_local_cores() -> int:
    """CPU cores for this process, at least 1: the processes that torchrun starts on a machine share its cores."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
