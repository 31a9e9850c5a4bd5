"""A run that is killed at any moment and started again ends with the same student, bit for bit.

pytest tests/system/test_resume.py            three kills
make soak                                     24 kills, on one process and on two
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq_distill.training.checkpoints import read_checkpoint
from tests.system import killed_run

KILLED = -signal.SIGKILL
# Aimed at what is going on: at least four each. The order lets the run get further between them.
AIMED = """
cache:1 cache:2 cache:4 cache:3 start:0 start:1 start:2 start:3
train:0 save:0,1 train:2 train:4 val:7 save:1,1 save:2,2 val:7 train:9 save:3,1 val:14 train:16 val:21 train:23
""".split()
FEW = ["cache:2", "val:7", "save:2,2"]
RANDOM = 2
HARMS: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: content[: len(content) * 2 // 3],
    lambda content: flipped(content, 8 * (len(content) // 2)),
    lambda content: flipped(content, 8 * len(content) - 3),
]
TIME_LIMIT = 300


def flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit of it turned over."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


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


def command(folder: Path, fault: str, processes: int, changes: dict) -> list[str]:
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*python, "-m", "tests.system.killed_run", str(folder), fault, json.dumps(changes)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launch(folder: Path, fault: str, processes: int = 1, **changes: object) -> subprocess.Popen:
    if processes > 1:
        changes = {**changes, "trainer": {**killed_run.RUN["trainer"], "devices": processes}}
    with open(folder.parent / f"{folder.name}.log", "ab") as log:
        return subprocess.Popen(
            command(folder, fault, processes, changes),
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
        )


def start(folder: Path, fault: str = "none", processes: int = 1) -> int:
    code = launch(folder, fault, processes).wait(timeout=TIME_LIMIT)
    wait_for_end(folder)
    return code


def wait_for_end(folder: Path) -> None:
    """A launcher returns before the last of its workers is gone; the next start must not meet it."""
    deadline = time.monotonic() + TIME_LIMIT
    while killed_run.processes_of(folder) and time.monotonic() < deadline:
        killed_run.kill_all(folder)
        time.sleep(0.05)


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
        process = launch(folder, "none", processes)
        time.sleep(chance.uniform(1, 15))
        wait_for_end(folder)
        process.wait()
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
    stopped = place / "damaged"
    assert start(stopped, "term:train,16") == 128 + signal.SIGTERM
    for number, harm in enumerate(HARMS):
        run = Path(shutil.copytree(stopped / "run", place / f"damaged-{number}"))
        checkpoint = run / "checkpoints" / "last.ckpt"
        checkpoint.write_bytes(harm(checkpoint.read_bytes()))
        done = subprocess.run(
            [sys.executable, "-m", "seq2seq_distill", "--config", run / "run.yaml", "--output_dir", run],
            capture_output=True,
            text=True,
            env=environment() | {"SEQ2SEQ_DISTILL_CACHE": str(stopped / "cache")},
            timeout=TIME_LIMIT,
        )
        assert done.returncode == 0, done.stderr
        assert "last.ckpt is damaged: the run goes on from previous.ckpt" in done.stderr
        assert results(run) == results(undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_24_kills_leave_no_trace(place, processes):
    assert start(place / f"undisturbed-{processes}", "none", processes) == 0
    survive(place / f"killed-{processes}", AIMED, processes, RANDOM)
    assert results(place / f"killed-{processes}" / "run") == results(place / f"undisturbed-{processes}" / "run")
