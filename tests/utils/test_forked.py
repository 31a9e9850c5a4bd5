"""Work that forked processes share."""

import os
import signal
import time
from pathlib import Path

import pytest

from seq2seq_distill.utils.errors import RunError
from seq2seq_distill.utils.forked import map_forked


def test_each_item_is_done_once_in_other_processes(tmp_path: Path) -> None:
    def work(item: int) -> None:
        with (tmp_path / str(item)).open("x") as file:
            file.write(str(os.getpid()))

    assert sorted(map_forked(work, range(7), 3)) == list(range(7))
    processes = {path.read_text() for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 7 and len(processes) == 3 and str(os.getpid()) not in processes
    assert list(map_forked(work, [], 3)) == []


def test_an_error_arrives_and_ends_the_others() -> None:
    def work(item: int) -> None:
        if item:
            raise OSError(28, "No space left on device", "the file")
        time.sleep(60)

    start = time.monotonic()
    with pytest.raises(OSError, match="No space left on device"):
        list(map_forked(work, [0, 1], 2))
    assert time.monotonic() - start < 30


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(RunError, match=r"died \(SIGKILL\): check the machine's memory"):
        list(map_forked(lambda _: os.kill(os.getpid(), signal.SIGKILL), [0], 1))


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    def work(_: int) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)

    parent = os.fork()
    if not parent:
        list(map_forked(work, [0], 1))
        os._exit(0)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    worker = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not is_running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
