"""The place of this process among those of the run: rank, world size, device, share of the cores.

All is read from the environment, so that it is known before `torch.distributed` is initialised: torchrun sets RANK,
WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; srun sets SLURM_PROCID, SLURM_NTASKS and SLURM_STEP_ID; Lightning gives the
processes that it starts their LOCAL_RANK.
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
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # The script of sbatch has the number of tasks too, but only srun starts them.
    if {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"} <= os.environ.keys():
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
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


def local_device(accelerator: str = "auto", devices: int | str = "auto") -> torch.device:
    """This process's GPU; the CPU where there is no GPU or `accelerator` is "cpu".

    The processes of a machine take its GPUs in order, or those whose ids `devices` lists ("0,2"). Under SLURM a task
    may see the GPU that it was given alone.
    """
    if accelerator == "cpu" or not torch.cuda.is_available():
        return CPU
    local = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
    ids = [int(part) for part in str(devices).split(",") if part] if "," in str(devices) else []
    if ids:
        return torch.device("cuda", ids[local % len(ids)])
    return torch.device("cuda", local if "LOCAL_RANK" in os.environ else local % torch.cuda.device_count())


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
