"""A run that is killed at any moment and started again ends with the same student, bit for bit.

pytest tests/system/test_resume.py            three kills
make soak                                     24 kills, on one process and on two
"""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from seq2seq_distill.cli.main import main
from seq2seq_distill.training.checkpoints import read_checkpoint
from tests.processes import Job
from tests.system import killed_run

KILLED = -signal.SIGKILL
# Aimed at what is going on: at least four each. The order lets the run get further between them.
AIMED = """
cache:1 cache:2 cache:4 cache:3 start:0 start:1 start:2 start:3
train:0 save:0,1 train:2 train:4 val:7 save:1,1 save:2,2 val:7 train:9 save:3,1 val:14 train:16 val:21 train:23
""".split()
FEW = ["cache:2", "val:7", "save:2,2"]
RANDOM = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the teachers and the data of all runs."""
    folder = tmp_path_factory.mktemp("resume")
    killed_run.prepared(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    assert start(place / "undisturbed") == 0
    return place / "undisturbed" / "run"


def launch(folder: Path, fault: str, processes: int = 1) -> Job:
    changes = {"trainer": {**killed_run.RUN["trainer"], "devices": processes}} if processes > 1 else {}
    log = folder.parent / f"{folder.name}.log"
    return Job(killed_run.main, folder, fault, changes, log=log, processes=processes)


def start(folder: Path, fault: str = "none", processes: int = 1) -> int:
    return launch(folder, fault, processes).wait()


def results(run: Path) -> dict[str, bytes]:
    """What must be equal to the last byte."""
    files = [*(run / "best").glob("*.safetensors"), run / "metrics.jsonl", run / "test_generations.jsonl"]
    assert len(files) == 3
    return {path.name: path.read_bytes() for path in files}


def survive(folder: Path, faults: list[str], processes: int = 1, at_random: int = 0) -> None:
    """Kill the run by each fault in turn, then at random moments, then let it end."""
    for fault in faults:
        code = start(folder, fault, processes)
        assert code == KILLED, f"{fault} did not strike: exit code {code}"
    chance = random.Random(0)
    for _ in range(at_random):
        job = launch(folder, "none", processes)
        time.sleep(chance.uniform(0, 8))
        job.kill()
    assert start(folder, "none", processes) == 0


def test_three_kills_leave_no_trace(place, undisturbed):
    survive(place / "killed", FEW)
    assert results(place / "killed" / "run") == results(undisturbed)


def test_a_signal_ends_with_a_checkpoint_and_the_run_goes_on_from_there(place, undisturbed):
    folder = place / "stopped"
    for fault, step in (("term:train,4", 5), ("term:val,7", 7), ("term:val,7", 7), ("term:train,16", 17)):
        assert start(folder, fault) == 128 + signal.SIGTERM
        last = read_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
        assert last["global_step"] == step
    assert start(folder) == 0
    assert results(folder / "run") == results(undisturbed)


def test_the_command_reports_a_damaged_checkpoint_and_goes_on_from_the_one_before(place, undisturbed):
    """One bit is enough; damages of every kind are in test_checkpoints.py."""
    stopped = place / "damaged"
    assert start(stopped, "term:train,16") == 128 + signal.SIGTERM
    run = Path(shutil.move(stopped / "run", place / "moved"))
    checkpoint = run / "checkpoints" / "last.ckpt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    command = ["--config", str(run / "run.yaml"), "--output_dir", str(run)]
    cache = {"SEQ2SEQ_DISTILL_CACHE": str(stopped / "cache")}
    job = Job(main, command, log=place / "command.log", environment=cache)
    job.succeed()
    assert "last.ckpt is damaged: resuming from previous.ckpt" in job.output()
    assert results(run) == results(undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_24_kills_leave_no_trace(place, processes):
    assert start(place / f"undisturbed-{processes}", "none", processes) == 0
    survive(place / f"killed-{processes}", AIMED, processes, RANDOM)
    assert results(place / f"killed-{processes}" / "run") == results(place / f"undisturbed-{processes}" / "run")
