"""`distill label` as a process of its own: killed, then gone on with by two processes that torchrun starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seq2seq_distill.cli.main import main
from tests.tiny_runs import save_teacher, write_data

TIME_LIMIT = 240
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_teacher(tmp_path / "teacher")
    write_data(tmp_path / "data", rows=60)
    return tmp_path


def arguments(place: Path, folder: str) -> list[str]:
    own = {"--model": place / "teacher", "--data": place / "data", "--output_dir": place / folder, "--shard_rows": 2}
    own |= {"--engine": "transformers", "--beams": 2, "--max_target_length": 8, "--task": "translation"}
    own |= {"--tgt_lang": "de", "--n_best": 2, "--keep": "all"}
    return ["label", *(str(word) for pair in own.items() for word in pair)]


def start(place: Path, *launcher: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, *launcher, "-m", "seq2seq_distill", *arguments(place, "killed")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def shards(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_killed_and_gone_on_with_by_two(place: Path) -> None:
    assert main(arguments(place, "undisturbed")) == 0
    raw = place / "killed" / "raw"
    for wanted in (1, 6):
        process = start(place)
        deadline = time.monotonic() + TIME_LIMIT
        while len(list(raw.glob("*.parquet"))) < wanted:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        assert process.wait(TIME_LIMIT) == -signal.SIGKILL
    done = len(list(raw.glob("*.parquet")))
    assert 6 <= done < 30
    both = start(place, *TORCHRUN)
    _, errors = both.communicate(timeout=TIME_LIMIT)
    assert both.returncode == 0, errors.decode()
    assert shards(place / "killed") == shards(place / "undisturbed")
    assert len(shards(place / "killed")) == 60
