"""Which layouts a student can have, what they cost, and which of them are worth a closer look: numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")

FEWEST_ENCODER_LAYERS = 4
"""Candidates have at least this part of the teacher's encoder: a quarter."""
MB = 1_000_000
"""Bytes."""


@dataclass(frozen=True)
class Layout:
    """The shape of a student."""

    encoder_layers: int
    decoder_layers: int
    encoder_ffn_dim: int
    decoder_ffn_dim: int
    num_heads: int | None
    """Of T5 and its relatives; None where the number follows from the width of the model."""
    vocabulary: int
    """Tokens; of two vocabularies, those of targets."""

    @property
    def depths(self) -> tuple[int, int]:
        """Encoder and decoder layers."""
        return self.encoder_layers, self.decoder_layers

    @property
    def ffn(self) -> tuple[int, int]:
        """Inner widths of the feed-forward blocks of encoder and decoder."""
        return self.encoder_ffn_dim, self.decoder_ffn_dim

    def sizes(self) -> tuple[int, ...]:
        """All numbers."""
        return tuple(getattr(self, field.name) or 0 for field in fields(self))

    def holds(self, other: Layout) -> bool:
        """Whether the other is nowhere larger than this one."""
        return all(mine >= theirs for mine, theirs in zip(self.sizes(), other.sizes(), strict=True))

    def name(self, teacher: Layout) -> str:
        """As in `12-3`, and what else is smaller than in the teacher, as in `12-3, feed-forward 1024`."""
        parts = [f"{self.encoder_layers}-{self.decoder_layers}"]
        if self.ffn != teacher.ffn:
            parts.append(f"feed-forward {in_words(self.ffn)}")
        if self.num_heads != teacher.num_heads:
            parts.append(f"heads {self.num_heads}")
        if self.vocabulary != teacher.vocabulary:
            parts.append(f"vocabulary {self.vocabulary}")
        return ", ".join(parts)


STEP_OF: Mapping[str, Callable[[Layout], Any]] = {
    "encoder layers": attrgetter("encoder_layers"),
    "decoder layers": attrgetter("decoder_layers"),
    "feed-forward": attrgetter("ffn"),
    "heads": attrgetter("num_heads"),
    "vocabulary": attrgetter("vocabulary"),
}
"""By dimension, the step of a layout in it."""


def in_words(step: Any) -> str:
    """A step: two widths as one if they are equal."""
    return "/".join(map(str, dict.fromkeys(step))) if isinstance(step, tuple) else str(step)


@dataclass(frozen=True)
class Axes:
    """The steps of each dimension, the largest first."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    ffn: tuple[tuple[int, int], ...]
    heads: tuple[int | None, ...]
    vocabulary: tuple[int, ...]

    def including(self, teacher: Layout) -> Axes:
        """The same with the sizes of the teacher among the steps."""

        def descending(steps: tuple[T, ...], size: T) -> tuple[T, ...]:
            return steps if size in steps else (size, *steps)

        return Axes(
            descending(self.encoder, teacher.encoder_layers),
            descending(self.decoder, teacher.decoder_layers),
            descending(self.ffn, teacher.ffn),
            descending(self.heads, teacher.num_heads),
            descending(self.vocabulary, teacher.vocabulary),
        )

    def layouts(self, teacher: Layout) -> list[Layout]:
        """All combinations but the teacher's."""
        steps = product(self.encoder, self.decoder, self.ffn, self.heads, self.vocabulary)
        found = [Layout(encoder, decoder, *ffn, heads, tokens) for encoder, decoder, ffn, heads, tokens in steps]
        return [layout for layout in found if layout != teacher]

    def alone(self, teacher: Layout) -> dict[str, list[Layout]]:
        """By dimension, the teacher with each of its steps alone."""
        encoder, decoder, ffn, heads, tokens = (*teacher.depths, teacher.ffn, teacher.num_heads, teacher.vocabulary)
        found = {
            "encoder layers": [Layout(step, decoder, *ffn, heads, tokens) for step in self.encoder],
            "decoder layers": [Layout(encoder, step, *ffn, heads, tokens) for step in self.decoder],
            "feed-forward": [Layout(encoder, decoder, *step, heads, tokens) for step in self.ffn],
            "heads": [Layout(encoder, decoder, *ffn, step, tokens) for step in self.heads],
            "vocabulary": [Layout(encoder, decoder, *ffn, heads, step) for step in self.vocabulary],
        }
        smaller = {name: [each for each in layouts if each != teacher] for name, layouts in found.items()}
        return {name: layouts for name, layouts in smaller.items() if layouts}


@dataclass(frozen=True)
class Cost:
    """What a layout costs, or is expected to cost."""

    layout: Layout
    parameters: int
    bytes: int
    """Of the weights as they are served."""
    latency_ms: float
    """Time of the fastest batch; all have the same shapes."""
    speedup: float
    """How many times as fast as the teacher it generates a token."""


@dataclass(frozen=True)
class Measured(Cost):
    """What a layout costs, measured."""

    tokens_per_second: float
    memory_bytes: int | None
    """Weights, and what decoding a batch needs besides at its peak; None where nobody can count it."""


@dataclass(frozen=True)
class Target:
    """What a student must be."""

    speedup: float | None = None
    max_latency_ms: float | None = None
    max_mb: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return self != Target()

    def is_met(self, cost: Cost, slack: float = 1.0) -> bool:
        """Whether a layout meets it, or would if it were faster by the factor `slack`."""
        return (
            cost.speedup * slack >= (self.speedup or 0)
            and (self.max_latency_ms is None or cost.latency_ms <= self.max_latency_ms * slack)
            and (self.max_mb is None or cost.bytes <= self.max_mb * MB)
        )


def halved(size: int) -> list[int]:
    """The size, half of it, and so on down to 1, rounded up."""
    sizes = [size]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def encoder_steps(depth: int) -> list[int]:
    """The depth halved down to a quarter: a source is encoded once, and a shallow encoder costs more quality than a
    shallow decoder (Kasai et al. 2021, arXiv 2006.10369)."""
    return [step for step in halved(depth) if step * FEWEST_ENCODER_LAYERS >= depth]


def frontier(costs: Iterable[Cost]) -> list[Cost]:
    """Those to which no other is preferable in both parameters and speed, the largest first."""
    best: list[Cost] = []
    for cost in sorted(costs, key=lambda each: (-each.parameters, -each.speedup)):
        if not best or cost.speedup > best[-1].speedup or _equal(cost, best[-1]):
            best.append(cost)
    return best


def _equal(one: Cost, other: Cost) -> bool:
    return (one.parameters, one.speedup) == (other.parameters, other.speedup)


def evenly(costs: Sequence[Cost], count: int) -> list[Cost]:
    """So many of them, evenly spaced, the first and the last among them."""
    if len(costs) <= count:
        return list(costs)
    return [costs[round(index * (len(costs) - 1) / (count - 1))] for index in range(count)]
