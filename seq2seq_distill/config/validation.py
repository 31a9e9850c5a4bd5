"""All mistakes of a config at once, of every command."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from seq2seq_distill.config.conflicts import run_conflicts
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.config.values import Dataclass, option_problems
from seq2seq_distill.utils.errors import raise_config_error


@runtime_checkable
class CommandConfig(Dataclass, Protocol):
    """The options of a command, as a dataclass that knows which of them contradict each other."""

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        ...


def find_problems(config: RunConfig | CommandConfig) -> list[Problem]:
    """Every mistake that can be seen without loading anything.

    Where the value of an option is impossible in itself, conflicts that it takes part in are left out: they may follow
    from it.
    """
    problems = option_problems(config)
    wrong = {option for problem in problems for option in problem.options}
    conflicts = config.conflicts() if isinstance(config, CommandConfig) else run_conflicts(config)
    return [*problems, *(problem for problem in conflicts if wrong.isdisjoint(problem.options))]


def validate(config: RunConfig | CommandConfig) -> None:
    """Raise one `ConfigError` with every mistake of `find_problems`, a line each; return if there is none.

    Examples:
        >>> from seq2seq_distill import RunConfig, validate
        >>> validate(RunConfig(task="translation", seed=-1))
        Traceback (most recent call last):
        seq2seq_distill.utils.errors.ConfigError: `seed` -1 is too small: choose 0 to 4294967295
    """
    raise_config_error([problem.message for problem in find_problems(config)])
