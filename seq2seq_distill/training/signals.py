"""Signals that ask a run to end: Ctrl-C, preemption, SLURM's warning before the time limit."""

import logging
import os
import shutil
import signal
import subprocess
from types import FrameType
from typing import Any

from seq2seq_distill.utils.errors import Stopped

logger = logging.getLogger(__name__)

# SLURM sends SIGUSR1 when it is asked to (sbatch --signal=SIGUSR1@90).
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class SignalHandler:
    """Turns signals into a `Stopped` that is raised where nothing is lost.

    Used as a context around a run. At first a signal ends the run at once. After `wait` it is only noted in
    `received`, for the training loop to end at the next good place; a second one ends the run at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that came, if any."""
        self._waiting = False
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> "SignalHandler":
        self._earlier = {number: signal.getsignal(number) for number in STOPPING}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals, also from Lightning, whose own handler starts a collective inside the handler."""
        for number in STOPPING:
            signal.signal(number, self._handle)

    def wait(self) -> None:
        """From now on only note a signal."""
        self._waiting = True
        self.install()

    def stop_at_once(self) -> None:
        """From now on end the run at a signal, wherever it is."""
        self._waiting = False
        if self.received is not None:
            raise Stopped(self.received, "stopped after the training: the same command goes on with the test")

    def stop(self, step: int) -> None:
        """End the run; a checkpoint of this step is written."""
        number = self.received or signal.SIGTERM  # without one of our own, another process got it
        if number == signal.SIGUSR1:
            _requeue()
        raise Stopped(number, f"stopped after step {step}, checkpoint written: the same command goes on from there")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._waiting and self.received is None:
            self.received = number
            logger.warning("%s: the run ends after this step, with a checkpoint", signal.Signals(number).name)
            return
        raise Stopped(number, "stopped: the same command goes on from the last checkpoint, or starts again")


def _requeue() -> None:
    """Put the SLURM job back into its queue, if it is one."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID")
    if array is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0" or shutil.which("scontrol") is None:
        return
    code = subprocess.run(["scontrol", "requeue", job], check=False).returncode
    logger.warning(
        "job %s %s", job, "is queued again" if code == 0 else f"could not be queued again (scontrol: {code})"
    )
