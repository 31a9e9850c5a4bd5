"""A mistake in a config, and how its values stand in a message."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from seq2seq_distill.utils.errors import format_value


@dataclass(frozen=True)
class Problem:
    """A mistake that can be seen without loading anything."""

    options: tuple[str, ...]
    """The options that it comes from: where one of these is wrong in itself, this problem may only follow from that."""
    message: str
    """One line: what is wrong, and what to do. Options stand in it as `loss.temperature`, in backticks."""


def join_values(values: Iterable[Any]) -> str:
    """The values of a list as one writes them after its option."""
    return " ".join(format_value(value) for value in values)
