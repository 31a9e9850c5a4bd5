"""Fields of a config with bounds: `lr: float = option(3e-4, above(0))`.

The parser of the command line must not see the bounds (as it would in `Annotated`): it stops at the first mistake, and
explains it in several lines. `option_problems` applies them, to all fields at once.
"""

import copy
import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field
from typing import Any, TypeVar, cast

from seq2seq_distill.utils.errors import format_value

Value = TypeVar("Value")
Bound = Callable[[Any], str | None]
"""From a value of the field's type, never None, to what is wrong with it: the end of a message that opens with the
option and the value. None where nothing is wrong."""


@dataclass(frozen=True)
class Rules:
    """What holds for the values of a field besides its type."""

    bounds: tuple[Bound, ...] = ()
    required: bool = False
    """Whether the option must be given; its default is then empty."""
    free_text: bool = False
    """Whether a text may be empty and hold line breaks and tabs."""

    @property
    def has_maximum(self) -> bool:
        """Whether a bound limits how large a number can be."""
        return any(isinstance(bound, Range) and bound.high is not None for bound in self.bounds)


def option(default: Value, *bounds: Bound, required: bool = False, free_text: bool = False) -> Value:
    """A dataclass field with this default and these bounds, of which the first that is broken is reported."""
    metadata = {"rules": Rules(bounds, required, free_text)}
    if isinstance(default, list | dict):
        return cast(Value, field(default_factory=functools.partial(copy.copy, default), metadata=metadata))
    return field(default=default, metadata=metadata)


def rules_of(config_field: "Field[Any]") -> Rules:
    """The rules of a field; none where it was not made by `option`."""
    return config_field.metadata.get("rules", Rules())


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; None leaves an end open."""

    low: float | None = None
    high: float | None = None
    excludes_low: bool = False
    excludes_high: bool = False

    def __call__(self, value: float) -> str | None:
        if self.low is not None and (value < self.low or (self.excludes_low and value == self.low)):
            return f" is too small: choose {self}"
        if self.high is not None and (value > self.high or (self.excludes_high and value == self.high)):
            return f" is too large: choose {self}"
        return None

    def __str__(self) -> str:
        low = f"more than {self.low}" if self.excludes_low else f"at least {self.low}"
        high = f"less than {self.high}" if self.excludes_high else f"at most {self.high}"
        if self.high is None:
            return low if self.excludes_low else f"{self.low} or more"
        if self.low is None:
            return high if self.excludes_high else f"{self.high} or less"
        return f"{low} and {high}" if self.excludes_low or self.excludes_high else f"{self.low} to {self.high}"


def at_least(low: float) -> Range:
    return Range(low)


def at_most(high: float) -> Range:
    return Range(high=high)


def between(low: float, high: float) -> Range:
    """Both ends included."""
    return Range(low, high)


def above(low: float) -> Range:
    return Range(low, excludes_low=True)


def fraction() -> Range:
    """From 0 up to, but not including, 1."""
    return Range(0, 1, excludes_high=True)


def inside(low: float, high: float) -> Range:
    """Both ends excluded."""
    return Range(low, high, excludes_low=True, excludes_high=True)


def for_each(bound: Range) -> Bound:
    """The bound of every value in a list."""

    def problem(values: Sequence[float]) -> str | None:
        return f": choose {bound} for every value" if any(map(bound, values)) else None

    return problem


def one_of(*choices: str) -> Bound:
    """For names that no `Literal` lists, since the type would then be spelt out in the help."""
    return lambda value: None if value in choices else f": choose one of {', '.join(choices)}"


def matching(pattern: str, remedy: str) -> Bound:
    """The whole value, as text, must match this regular expression."""
    return lambda value: None if re.fullmatch(pattern, str(value)) else f": {remedy}"


def without_repeats(values: Sequence[Any]) -> str | None:
    """Bound of lists."""
    return ": name each value once" if len(set(values)) < len(values) else None


def increasing_from_zero(values: Sequence[int]) -> str | None:
    """Bound of lists of layers."""
    if values and values[0] >= 0 and all(left < right for left, right in zip(values, values[1:], strict=False)):
        return None
    return ": give each layer once, in increasing order, counted from 0"


def share_or_count(value: float) -> str | None:
    """Bound of numbers that are a share of an epoch up to 1.0, and above it a count of steps."""
    if value <= 1 or value == int(value):
        return None
    return " is neither a share nor a whole number of steps: choose a share up to 1.0, or 2, 3, ... steps"


def steps_or_unlimited(value: int) -> str | None:
    """Bound of a number of steps that may be -1, for no limit."""
    return None if value >= 1 or value == -1 else " is too small: choose 1 or more, or -1 to count epochs"


def ascending_above_zero(values: Sequence[float]) -> str | None:
    """Bound of ranges."""
    low, high = values
    return None if 0 < low <= high else ": give two numbers above 0, the smaller one first"


def some_above_zero(values: Sequence[float]) -> str | None:
    """Bound of the weights of data sources."""
    return ": no training data is left: set at least one weight above 0" if not any(values) and values else None


def weights_of(names: Sequence[str]) -> Bound:
    """Bound of a name among these, or a mapping from some of them to weights above 0."""

    def problem(value: str | dict[str, float]) -> str | None:
        weights = {value: 1.0} if isinstance(value, str) else value
        if unknown := sorted(weights.keys() - names):
            choices = ", ".join(names)
            return f": {format_value(unknown[0])} is unknown: choose one of {choices}, or map some of these to weights"
        return None if weights and min(weights.values()) > 0 else ": give at least one, each with a weight above 0"

    return problem


def fraction_or_size(value: float) -> str | None:
    """Bound of numbers that are a fraction of the teacher's size below 1, and from 1 on a size."""
    if value < 1 or value == int(value):
        return None
    return " is neither a fraction nor a whole number: choose a fraction below 1, or 1, 2, 3, ..."
