"""What runs in a worker process; it starts in a second, since nothing here imports torch."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seq2seq_distill.training.runners.work import Fill
from seq2seq_distill.utils.errors import ConfigError


class Worker:
    """An actor of Ray: fills one shard after the other."""

    def open(self, make: Callable[[], Fill[Any]], folder: str, mark: Path, option: str) -> None:
        """Make what fills a shard, in the folder in which the command was started, where the worker has it."""
        try:
            os.chdir(folder)
        except OSError:
            os.chdir("/")
        if not mark.exists():
            raise ConfigError(
                f"{option} {mark.parent}: the worker on {socket.gethostname()} does not see this folder: choose a path "
                "on a disk that all machines of the cluster share"
            )
        self._fill = make()

    def fill(self, shard: Any) -> None:
        """Fill a shard."""
        self._fill(shard)
