"""How processes wait for each other: by lock files, and for what another one makes."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from seq2seq_distill.utils.distributed import is_first_of_machine, is_rank_zero

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""After which a process that waits for a lock says so."""
POLL_SECONDS = 0.5
"""Between two looks at what other processes make."""


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


def wait_until(is_done: Callable[[], bool], work: str | None = None) -> None:
    """Wait for what other processes make.

    Args:
        is_done: whether it is there.
        work: what the others do, as a present participle ("labelling"), which process 0 logs if it has to wait.
    """
    if work is not None and is_rank_zero() and not is_done():
        logger.info("waiting for the other processes, which are %s", work)
    while not is_done():
        time.sleep(POLL_SECONDS)
