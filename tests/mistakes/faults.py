"""Failures outside the input, and what is said of them: more can be added where they are tested."""

import errno
import os

from seq2seq_distill.cli.main import with_flags
from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.failures import MORE_MEMORY
from seq2seq_distill.utils.failures import describe_failure


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/checkpoints/last.ckpt")


def not_allowed() -> OSError:
    return OSError(errno.EACCES, os.strerror(errno.EACCES), "run/metrics.jsonl")


# What fails, and what is raised then.
FAULTS: tuple[tuple[str, Exception], ...] = (
    ("the disk is full", no_space()),
    ("a file of the run is no longer writable", not_allowed()),
    ("memory is exhausted", MemoryError()),
    ("a data loader process is killed", RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed.")),
)


def messages() -> list[tuple[str, str]]:
    """Each fault with its message on the command line, for a run in the folder `run`."""
    config = RunConfig(output_dir="run")
    found = [(title, describe_failure(error, config.folder, MORE_MEMORY)) for title, error in FAULTS]
    return [(title, with_flags(message or "", RunConfig)) for title, message in found]
