"""The place of a process among others, as the launchers tell it in the environment."""

import pytest
import torch

from seq2seq_distill.utils import distributed

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "2"}
SBATCH = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}
LIGHTNING = {"LOCAL_RANK": "1"}


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of a launcher, and none of another's."""

    def set_variables(variables: dict[str, str]) -> None:
        for name in {*TORCHRUN, *SLURM, *distributed.RANK_VARIABLES}:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "place", "first"),
    [
        ({}, (0, 1), True),
        (TORCHRUN, (3, 4), False),
        ({**TORCHRUN, **SLURM}, (3, 4), False),
        ({**TORCHRUN, "RANK": "0"}, (0, 4), True),
        (SLURM, (2, 8), False),
        ({**SLURM, "SLURM_PROCID": "0"}, (0, 8), True),
        (SBATCH, (0, 1), True),  # without srun: it waited for seven others for ever
        (LIGHTNING, (0, 1), False),
    ],
)
def test_rank_and_world_size(launched, variables, place, first):
    launched(variables)
    assert distributed.rank_and_world_size() == place
    assert distributed.is_rank_zero() == first


def test_the_device_is_the_local_rank_s_own_gpu(launched, monkeypatch):
    launched(TORCHRUN)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert distributed.local_device() == torch.device("cuda", 1)
    assert distributed.local_device("cpu") == torch.device("cpu")
    assert distributed.local_device("gpu", "4,6") == torch.device("cuda", 6)
    assert distributed.local_device("auto", "3,") == torch.device("cuda", 3)  # once GPU 0, which another uses
    launched(SLURM)
    for count, index in ((8, 2), (1, 0)):  # it was GPU 0 for all tasks of a machine; a task may see its own alone
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert distributed.local_device() == torch.device("cuda", index)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.local_device() == torch.device("cpu")


def test_processes_of_one_machine_share_its_cores(launched, monkeypatch):
    monkeypatch.setattr(distributed.os, "sched_getaffinity", lambda _: set(range(6)))
    for variables, cores in (({}, 6), (TORCHRUN, 3), ({"LOCAL_WORLD_SIZE": "100"}, 1)):
        launched(variables)
        assert distributed.num_local_cores() == cores


def test_a_process_alone_needs_no_group(launched):
    launched({})
    assert distributed.init_process_group(distributed.timedelta(seconds=1)) == (0, 1)
    distributed.destroy_process_group()
