"""Options of a smaller vocabulary, and what they do not go together with."""

from collections.abc import Iterator
from dataclasses import dataclass

from seq2seq_distill.config.bounds import Range, at_least, option
from seq2seq_distill.config.problems import Problem, join_values


@dataclass(frozen=True)
class TrimConfig:
    """A smaller vocabulary for teacher and student; --trim.coverage or --trim.size enables it.

    Examples:
        >>> from seq2seq_distill import TrimConfig
        >>> TrimConfig().is_on, TrimConfig(coverage=0.9999).is_on
        (False, True)
    """

    coverage: float | None = option(None, Range(0, 1, excludes_low=True))
    """Keep the most frequent pieces of the training texts until this fraction of them is covered on each side, such as
    0.9999."""
    size: int | None = option(None, at_least(16))
    """Keep at most this many tokens, the most frequent ones, in place of --trim.coverage."""
    separate: bool = False
    """Give sources and targets a vocabulary each; for Marian models."""
    languages: list[str] | None = None
    """Languages whose tokens are kept in addition to those of the run (default: all)."""

    @property
    def is_on(self) -> bool:
        """Whether a vocabulary is to be trimmed."""
        return self.coverage is not None or self.size is not None


def trim_conflicts(trim: TrimConfig) -> Iterator[Problem]:
    """How much is kept, and options that say nothing by themselves."""
    if trim.coverage is not None and trim.size is not None:
        yield Problem(
            ("trim.coverage", "trim.size"),
            f"`trim.coverage` {trim.coverage} and `trim.size` {trim.size} both say how much is kept: give one",
        )
    given = {
        "trim.separate": ("true", trim.separate),
        "trim.languages": (join_values(trim.languages or ()), trim.languages),
    }
    for name, (shown, is_given) in given.items():
        if is_given and not trim.is_on:
            yield Problem(
                (name, "trim.coverage", "trim.size"),
                f"`{name}` {shown} says how a vocabulary is trimmed, not how far: add `trim.coverage` or `trim.size`",
            )
