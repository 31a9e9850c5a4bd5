"""Locks between processes, which tell those who wait what they wait for."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from seq2seq_distill.utils.distributed import is_first_of_machine

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""After which a process that waits says so."""


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold a lock file. Of the processes of a machine the first says that it waits, if it does so for long.

    Args:
        path: of the lock file; its folder exists.
        work: what the process that holds the lock does, as a present participle ("encoding the data").
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        if is_first_of_machine():
            logger.info("waiting for another process, which is %s", work)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
