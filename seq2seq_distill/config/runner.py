"""The options of commands whose work can be dealt out to worker processes on many machines."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from seq2seq_distill.config.bounds import at_least, between, option
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.utils.errors import format_value
from seq2seq_distill.utils.optional import missing_problem


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """Which processes do the work of a command. No option here changes a result."""

    runner: Literal["local", "ray"] = "local"
    """What distributes the work: local uses this process, or those started by torchrun or SLURM; ray uses the workers
    of a Ray cluster."""
    ray_address: str | None = None
    """Address of a running Ray cluster, such as HOST:6379, or auto for the one on this machine (default: start Ray on
    this machine for this command). Needs --runner ray."""
    workers: int | None = option(None, at_least(1))
    """Number of Ray workers; workers that do not fit on the cluster yet start when machines join (default: as many as
    fit). Needs --runner ray."""
    cpus_per_worker: int = option(1, at_least(1))
    """Number of CPU cores and threads of each Ray worker. Needs --runner ray."""
    gpus_per_worker: float = option(0.0, between(0, 1))
    """Number of GPUs of each Ray worker; with a fraction, several workers share one. Needs --runner ray."""

    def runner_conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        if self.runner == "ray":
            if problem := missing_problem("ray", "`runner` ray"):
                yield Problem(("runner",), problem)
            return
        defaults = RunnerOptions()
        for name in ("ray_address", "workers", "cpus_per_worker", "gpus_per_worker"):
            if (value := getattr(self, name)) != getattr(defaults, name):
                yield Problem((name, "runner"), f"`{name}` {format_value(value)} needs `runner` ray: add it")
