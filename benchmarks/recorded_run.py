"""A training run in a process of its own, whose steps and memory are recorded.

    python -m benchmarks.recorded_run STEPS_FILE KILLED_AT ARGUMENTS...

runs `distill ARGUMENTS`, writes a line with the start and end of each step, and kills itself before step KILLED_AT.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

from benchmarks.trial import parse_run
from seq2seq_distill.training.run import run_config


@dataclass(frozen=True)
class RecordedRun:
    """What was seen of a run."""

    seconds: float
    """From the command to the end of the process."""
    first_step: float
    """Seconds from the command to the end of the first step."""
    steps: list[tuple[float, float]]
    """Start and end of each step."""
    main_mb: int
    """Peak of the main process's memory that is not mapped from files (RssAnon)."""
    workers_mb: int
    """The same of the largest of its processes."""


class StepRecorder(Callback):
    """Writes when each step starts and ends, and kills the process before one."""

    def __init__(self, path: Path, killed_at: int) -> None:
        self._file, self._killed_at = path.open("w"), killed_at

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self._killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._start = time.time()

    def on_train_batch_end(self, *_: Any) -> None:
        self._file.write(json.dumps([self._start, time.time()]) + "\n")
        self._file.flush()


def record(arguments: list[str], folder: Path, cache: Path, killed_at: int = -1) -> RecordedRun:
    """Run `distill` with these arguments; `folder` holds its log and the times of its steps."""
    folder.mkdir(parents=True, exist_ok=True)
    steps_file, log = folder / "steps.jsonl", folder / "log"
    command = [sys.executable, "-m", "benchmarks.recorded_run", str(steps_file), str(killed_at), *arguments]
    environment = {**os.environ, "SEQ2SEQ_DISTILL_CACHE": str(cache)}
    begin, main, workers = time.time(), 0, 0
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        while process.poll() is None:
            main = max(main, anonymous_memory(process.pid))
            workers = max(workers, *map(anonymous_memory, children(process.pid)), 0)
            time.sleep(0.05)
    if process.returncode != (-signal.SIGKILL if killed_at >= 0 else 0):
        raise SystemExit(log.read_text("utf-8"))
    steps = [tuple(json.loads(line)) for line in steps_file.read_text().splitlines()]
    return RecordedRun(time.time() - begin, steps[0][1] - begin, steps, main // 1024, workers // 1024)


def anonymous_memory(pid: int) -> int:
    """RssAnon of a process in KiB; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run."""
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for line in lists for child in line.split()]


if __name__ == "__main__":
    run_config(parse_run(sys.argv[3:]), [StepRecorder(Path(sys.argv[1]), int(sys.argv[2]))])
