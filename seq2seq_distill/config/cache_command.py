"""The options of `distill cache`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from seq2seq_distill.config.conflicts import run_conflicts
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.config.runner import RunnerOptions


@dataclass(frozen=True)
class CacheCommandConfig(RunConfig, RunnerOptions):
    """Compute the teacher's outputs once, for runs with --teacher_cache; takes all options of a run."""

    @property
    def run(self) -> RunConfig:
        """The run that the cache is for."""
        return RunConfig(**{field.name: getattr(self, field.name) for field in fields(RunConfig)})

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        yield from run_conflicts(self.run)
        yield from self.runner_conflicts()
