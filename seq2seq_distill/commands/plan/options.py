"""The options of `distill plan`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from seq2seq_distill.config.bounds import above, at_least, option
from seq2seq_distill.config.conflicts import run_conflicts
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.utils.errors import format_value


@dataclass(frozen=True)
class PlanConfig(RunConfig):
    """Find the largest student that meets a speed target, before any is trained; takes all options of a run."""

    speedup: float | None = option(None, above(0))
    """Speed target: how many times faster than the teacher the student must generate a token."""
    max_latency_ms: float | None = option(None, above(0))
    """Speed target: maximum milliseconds to decode a batch."""
    rows: int = option(1, at_least(1))
    """Number of rows in the batch that is decoded."""
    source_length: int | None = option(None, at_least(2))
    """Length of each source in tokens (default: the mean of the data, or 256 without data)."""
    output_length: int | None = option(None, at_least(2))
    """Length of each output in tokens (default: the mean of the data's targets, or 64 without data)."""
    encoder_depths: list[int] | None = None
    """Encoder depths to try (default: the teacher's, halved down to a quarter)."""
    decoder_depths: list[int] | None = None
    """Decoder depths to try (default: the teacher's, halved down to one layer)."""
    repeats: int = option(10, at_least(1))
    """Number of batches on which each student is timed."""
    write: str | None = None
    """File to write the config of a run to that trains the chosen student; needs a speed target."""

    @property
    def run(self) -> RunConfig:
        """The run that is planned."""
        return RunConfig(**{field.name: getattr(self, field.name) for field in fields(RunConfig)})

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together; unlike a run, a plan needs no data."""
        if self.tasks:
            yield Problem(
                ("tasks",),
                "`tasks`: a plan is for one teacher: name that of one task in `teacher`, and its data in `data`",
            )
            return
        yield from run_conflicts(replace(self.run, data=self.data or ["(none)"]))
        if self.teacher is None:
            yield Problem(
                ("teacher", "data"), "`teacher` is missing: name one, or leave out `data` too, for the built-in demo"
            )
        if self.write and self.speedup is None and self.max_latency_ms is None:
            yield Problem(
                ("write", "speedup", "max_latency_ms"),
                f"`write` {format_value(self.write)} needs a speed target: add `speedup` or `max_latency_ms`",
            )
        for name in ("path", "config"):
            if value := getattr(self.student, name):
                yield Problem(
                    (f"student.{name}",),
                    f"`student.{name}` {format_value(value)}: a plan is for students cut from a teacher: leave it out",
                )
