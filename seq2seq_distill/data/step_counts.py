"""How many optimiser steps each data epoch has, kept beside the cache: a plan takes seconds where rows are many."""

import json
import logging
from pathlib import Path

from seq2seq_distill.utils.files import write_json

logger = logging.getLogger(__name__)


class StepCounts:
    """Steps of each epoch of one plan of batches.

    Args:
        path: file that holds them; None keeps them in memory alone. A file that is missing, damaged or cannot be
            written costs the time to count again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._counts = _read(path) if path is not None else {}

    def get(self, epoch: int) -> int | None:
        """Steps of an epoch, if they are known."""
        return self._counts.get(epoch)

    def set(self, epoch: int, steps: int) -> None:
        """Keep the steps of an epoch."""
        self._counts[epoch] = steps
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {str(number): count for number, count in self._counts.items()}, concurrent=True)
        except OSError as error:
            logger.info("%s: the steps of epochs cannot be kept (%s)", self._path, error.strerror or error)


def _read(path: Path) -> dict[int, int]:
    try:
        return {int(epoch): int(steps) for epoch, steps in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
