"""The options of `distill plan`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from seq2seq_distill.config.bounds import option_problems
from seq2seq_distill.config.schema import RunConfig
from seq2seq_distill.utils.errors import format_value, raise_config_error


@dataclass(frozen=True)
class PlanConfig(RunConfig):
    """Measure which students are as fast as they have to be, before any is trained; the options are those of a run."""

    speedup: float | None = None
    """How many times as fast as the teacher the student is to generate a token."""
    max_latency_ms: float | None = None
    """The most milliseconds that decoding a batch may take."""
    rows: int = 1
    """Rows of a batch that is decoded."""
    source_length: int | None = None
    """Tokens of each source; by default the mean of the data, without data 256."""
    output_length: int | None = None
    """Tokens of each output; by default the mean of the data's targets, without data 64."""
    encoder_depths: list[int] | None = None
    """Encoder depths to try; by default the teacher's, halved down to a quarter."""
    decoder_depths: list[int] | None = None
    """Decoder depths to try; by default the teacher's, halved down to one layer."""
    repeats: int = 10
    """Batches on which each layout is timed."""
    write: str | None = None
    """File for the config of the run that trains the chosen student."""

    @property
    def run(self) -> RunConfig:
        """The run that is planned."""
        return RunConfig(**{each.name: getattr(self, each.name) for each in fields(RunConfig)})

    def check(self) -> None:
        """Raise `ConfigError` with every mistake; unlike a run, a plan needs no data."""
        if self.tasks:
            raise_config_error(["--tasks: a plan is for one teacher: give that of a task by --teacher, and its --data"])
        replace(self.run, data=self.data or ["(none)"]).check()
        raise_config_error([*option_problems(self), *_plan_problems(self)])


def _plan_problems(config: PlanConfig) -> Iterator[str]:
    if config.teacher is None:
        yield "--teacher is missing: name one, or leave out --data too, for the built-in demo"
    if config.write and config.speedup is None and config.max_latency_ms is None:
        yield f"--write {format_value(config.write)} needs a choice: add --speedup or --max_latency_ms"
    for name in ("path", "config"):
        if value := getattr(config.student, name):
            yield f"--student.{name} {format_value(value)}: a plan is for students cut from a teacher: leave it out"
