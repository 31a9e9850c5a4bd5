"""The options of `distill plan`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from seq2seq_distill.commands.plan.layouts import Target
from seq2seq_distill.config.bounds import Range, above, at_least, for_each, option
from seq2seq_distill.config.conflicts import run_conflicts
from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.utils.errors import format_value
from seq2seq_distill.utils.optional import missing_problem

FRACTIONS = (1.0, 0.5, 0.25)
"""Of the teacher's feed-forward blocks and vocabulary that are tried by default."""


def fractions_or_sizes(values: Sequence[float]) -> str | None:
    """Bound of numbers that are a fraction of the teacher's size up to 1, and above it a size."""
    if all(value > 0 and (value <= 1 or value == int(value)) for value in values):
        return None
    return ": choose fractions above 0 and up to 1, or numbers of tokens"


@dataclass(frozen=True)
class PlanConfig(RunConfig):
    """Find, before any training, the best student among those that are fast and small enough; takes all options of a
    run."""

    speedup: float | None = option(None, above(0))
    """Speed target: how many times faster than the teacher the student must generate a token."""
    max_latency_ms: float | None = option(None, above(0))
    """Speed target: maximum milliseconds to decode a batch."""
    max_mb: float | None = option(None, above(0))
    """Size target: maximum megabytes of the student's weights, as --engine and --quantization store them."""
    engine: Literal["transformers", "ctranslate2"] = "transformers"
    """Engine with which teacher and students are measured."""
    quantization: Literal["int8", "float32"] | None = None
    """Precision of the weights with --engine ctranslate2 (default: int8)."""
    rows: int = option(1, at_least(1))
    """Number of rows in the batch whose decoding is timed."""
    source_length: int | None = option(None, at_least(2))
    """Length of each source in tokens (default: the mean of the data, or 256 without data)."""
    output_length: int | None = option(None, at_least(2))
    """Length of each output in tokens (default: the mean of the data's targets, or 64 without data)."""
    encoder_depths: list[int] | None = None
    """Encoder depths to try (default: the teacher's, halved down to a quarter)."""
    decoder_depths: list[int] | None = None
    """Decoder depths to try (default: the teacher's, halved down to one layer)."""
    ffn: list[float] | None = option(None, for_each(Range(0, 1, excludes_low=True)))
    """Fractions of the teacher's feed-forward blocks to try (default: 1 0.5 0.25, or what --student sets)."""
    heads: list[int] | None = option(None, for_each(at_least(1)))
    """Numbers of attention heads to try; only for T5 and its relatives (default: the teacher's and half of it, or what
    --student sets)."""
    vocabulary: list[float] | None = option(None, fractions_or_sizes)
    """Sizes of the vocabulary to try, as fractions of the teacher's up to 1 or as numbers of tokens (default: 1 0.5
    0.25 where it can be trimmed, or what --trim sets)."""
    trial_steps: int = option(100, at_least(0))
    """Number of training steps after which the losses of the contenders are compared; with 0, only students of one
    depth are compared, without training."""
    contenders: int = option(5, at_least(1))
    """Maximum number of layouts that meet the target and whose losses are compared."""
    repeats: int = option(10, at_least(1))
    """Number of batches on which each student is timed."""
    write: str | None = None
    """File for the config of a run that trains the chosen student; needs a target."""

    @property
    def run(self) -> RunConfig:
        """The run that is planned."""
        return RunConfig(**{field.name: getattr(self, field.name) for field in fields(RunConfig)})

    @property
    def target(self) -> Target:
        """What the student must be."""
        return Target(self.speedup, self.max_latency_ms, self.max_mb)

    @property
    def precision(self) -> str:
        """Precision of the weights that are measured."""
        return "float32" if self.engine == "transformers" else self.quantization or "int8"

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together; unlike a run, a plan needs no data."""
        if self.tasks:
            yield Problem(
                ("tasks",),
                "`tasks`: a plan is for one teacher: name that of one task in `teacher`, and its data in `data`",
            )
            return
        # `vocabulary` says how far a vocabulary is trimmed, so that the other options of `trim` can do without.
        trim = self.trim
        if (trim.separate or trim.languages) and not trim.is_on and self.vocabulary != [1.0]:
            trim = replace(trim, coverage=1.0)
        yield from run_conflicts(replace(self.run, trim=trim, data=self.data or ["(none)"]))
        if self.teacher is None:
            yield Problem(
                ("teacher", "data"), "`teacher` is missing: name one, or leave out `data` too, for the built-in demo"
            )
        if self.write and not self.target.is_set:
            yield Problem(
                ("write", "speedup", "max_latency_ms", "max_mb"),
                f"`write` {format_value(self.write)} needs a target: add `speedup`, `max_latency_ms` or `max_mb`",
            )
        for name in ("path", "config"):
            if value := getattr(self.student, name):
                yield Problem(
                    (f"student.{name}",),
                    f"`student.{name}` {format_value(value)}: a plan is for students cut from a teacher: leave it out",
                )
        if self.student.d_model is not None:
            yield Problem(
                ("student.d_model",),
                f"`student.d_model` {self.student.d_model}: a plan does not change the width of the hidden states: "
                "leave it out",
            )
        yield from self._twice()
        yield from self._engine_conflicts()

    def _twice(self) -> Iterator[Problem]:
        """A dimension that is set in two ways, or cannot be varied."""
        fixed = {
            "ffn": [name for name in ("encoder_ffn_dim", "decoder_ffn_dim") if getattr(self.student, name) is not None],
            "heads": ["num_heads"] if self.student.num_heads is not None else [],
        }
        for name, others in fixed.items():
            for other in others if getattr(self, name) is not None else ():
                yield self._given_twice(name, f"student.{other}", getattr(self.student, other))
        if self.vocabulary is None:
            return
        for other in ("size", "coverage"):
            if (value := getattr(self.trim, other)) is not None:
                yield self._given_twice("vocabulary", f"trim.{other}", value)
        if self.ensemble.teachers and self.vocabulary != [1.0]:
            yield Problem(
                ("vocabulary", "ensemble.teachers"),
                f"`vocabulary` {join_values(self.vocabulary)} cannot be combined with `ensemble.teachers`, whose "
                "tokens would stay as they are: leave one of the two out",
            )

    def _given_twice(self, name: str, other: str, value: float) -> Problem:
        return Problem(
            (name, other),
            f"`{name}` {join_values(getattr(self, name))} and `{other}` {value:g} both say what is tried: leave one "
            "out",
        )

    def _engine_conflicts(self) -> Iterator[Problem]:
        if self.engine == "ctranslate2":
            if problem := missing_problem("ctranslate2", "`engine` ctranslate2"):
                yield Problem(("engine",), problem)
        elif self.quantization is not None:
            yield Problem(
                ("quantization", "engine"),
                f"`quantization` {self.quantization} needs `engine` ctranslate2: add it",
            )
