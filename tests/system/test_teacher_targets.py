"""A run whose teacher writes the targets: killed and gone on with, or on two processes, it is the same run."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.processes import Job
from tests.system import killed_run
from tests.system import test_two_processes as two_processes_test
from tests.system.test_resume import results

SHORT, FOREVER = 0.0, 1e9
"""Seconds that labelling is estimated to take."""
TRAINER = {"max_steps": 9, "val_check_interval": 5, "save_every_n_steps": 2}
CHANGES: dict[str, Any] = {
    "targets": "auto",
    "label": {"engine": "transformers", "shard_rows": 5},
    "loss": {"temperature": None, "alpha_ce": None},
    "ensemble": {"teachers": []},
    "matches": [],
    # As in test_two_processes.py: nothing is random, and a small eps would make steps of rounding.
    "student": two_processes_test.CHANGES["student"],
    "optim": {"lr": 0.01, "eps": 1e-2},
    "batch": {"size": 8},
    "trainer": TRAINER,
}


def start(folder: Path, fault: str = "none", seconds: float = SHORT, processes: int = 1) -> int:
    changes = {**CHANGES, "trainer": {**TRAINER, "devices": processes}}
    log = folder.parent / f"{folder.name}.log"
    return Job(killed_run.with_estimate, folder, fault, changes, seconds, log=log, processes=processes).wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("targets")
    killed_run.prepared(place)
    assert start(place / "undisturbed") == 0
    return place / "undisturbed" / "run"


def labels(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "labels").glob("train-*.parquet")}


def test_killed_while_labelling_and_while_training(undisturbed: Path) -> None:
    """What was decided stays, whatever a second measurement would say."""
    folder = undisturbed.parents[1] / "killed"
    for fault, seconds in (("labels:3", SHORT), ("train:4", FOREVER)):
        assert start(folder, fault, seconds) == -signal.SIGKILL
        assert yaml.safe_load((folder / "run" / "run.yaml").read_text("utf-8"))["targets"] == "teacher"
    assert start(folder, seconds=FOREVER) == 0
    assert len(labels(undisturbed)) == 5 and labels(folder / "run") == labels(undisturbed)
    assert results(folder / "run") == results(undisturbed)


def test_two_processes_take_the_choice_of_the_first(undisturbed: Path) -> None:
    folder = undisturbed.parents[1] / "two"
    assert start(folder, processes=2) == 0
    assert labels(folder / "run") == labels(undisturbed)
    ours, theirs = (load_file(run / "best" / "model.safetensors") for run in (folder / "run", undisturbed))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-4, atol=1e-4, msg=name)
    options = [yaml.safe_load((run / "run.yaml").read_text("utf-8")) for run in (folder / "run", undisturbed)]
    assert options[0]["loss"] == options[1]["loss"] and options[0]["loss"]["temperature"] == 0.5
