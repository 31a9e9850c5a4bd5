"""What runs in a worker process; it starts in a second, since nothing here imports torch."""

import os
import pickle
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seq2seq_distill.training.runners.work import Fill
from seq2seq_distill.utils.errors import ConfigError


class Worker:
    """An actor of Ray: fills one shard after the other."""

    def open(self, variables: Mapping[str, str], make: bytes, folder: str, mark: Path, option: str) -> None:
        """Make what fills a shard, in the folder in which the command was started, where the worker has it.

        Args:
            variables: of the environment, set before `make` is unpickled and imports what reads them.
            make: pickled, as `Work.make`.
            folder: in which the command was started.
            mark: a file in the folder of the shards.
            option: that names the folder of the shards.

        Raises:
            ConfigError: the worker does not see that folder.
        """
        os.environ.update(variables)
        try:
            os.chdir(folder)
        except OSError:
            os.chdir("/")
        if not mark.exists():
            raise ConfigError(
                f"{option} {mark.parent}: the worker on {socket.gethostname()} does not see this folder: choose a path "
                "on a disk that all machines of the cluster share"
            )
        self._fill: Fill[Any] = pickle.loads(make)()

    def fill(self, shard: Any) -> None:
        """Fill a shard."""
        self._fill(shard)
