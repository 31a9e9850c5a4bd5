"""Work without a model, for the tests of workers; a worker that imports this starts without torch."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seq2seq_distill.utils.errors import DataError


@dataclass(frozen=True)
class Toy:
    """A shard is a file, and what befalls its worker stands in its name."""

    folder: Path

    def __call__(self) -> Callable[[str], None]:
        return self.fill

    def fill(self, shard: str) -> None:
        if "dies" in shard or shard.startswith("once") and not self.has_been_here(shard):
            os.kill(os.getpid(), signal.SIGKILL)
        if "wrong" in shard:
            raise DataError(f"`data` d: {shard} is wrong: mend it")
        if "bug" in shard:
            raise ZeroDivisionError(shard)
        if "large" in shard and not self.has_been_here(shard):
            raise MemoryError
        deadline = time.monotonic() + 60
        while shard.startswith("third") and len(self.workers()) < 3 and time.monotonic() < deadline:
            (self.folder / f"worker-{os.getpid()}").touch()
            time.sleep(0.05)
        (self.folder / f"worker-{os.getpid()}").touch()
        variables = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES")
        (self.folder / shard).write_text(f"{Path.cwd()} {[os.environ.get(name) for name in variables]}")

    def has_been_here(self, shard: str) -> bool:
        try:
            (self.folder / f"been-{shard}").touch(exist_ok=False)
        except FileExistsError:
            return True
        return False

    def workers(self) -> list[Path]:
        return list(self.folder.glob("worker-*"))
