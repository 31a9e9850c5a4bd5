"""Processes that wait for a lock say so, once."""

import logging
import threading
import time

import pytest
from filelock import FileLock

from seq2seq_distill.utils import locks
from seq2seq_distill.utils.locks import locked


@pytest.mark.parametrize(("local_rank", "told"), [("0", ["waiting for another process, which is encoding"]), ("1", [])])
def test_the_first_process_of_a_machine_says_what_it_waits_for(tmp_path, monkeypatch, caplog, local_rank, told):
    caplog.set_level(logging.INFO, "seq2seq_distill")
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    held = threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / "lock"):
            held.set()
            time.sleep(0.3)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    with locked(tmp_path / "lock", "encoding"):
        pass
    other.join()
    assert [record.getMessage() for record in caplog.records] == told


def test_who_need_not_wait_says_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO, "seq2seq_distill")
    for _ in range(2):  # it is free again afterwards
        with locked(tmp_path / "lock", "encoding"):
            pass
    assert not caplog.records
