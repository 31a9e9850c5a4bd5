"""Where the marks of pictures stand; the macros of charts.html draw them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 440, 46, 26, 14, 40
"""Of a picture and its margins, in units of its own; small, so that its letters can be read on a telephone."""
LETTER, LINE = 7.2, 15
"""Width and height that a letter takes, about."""
BINS = 24
DOT = 5.0
"""Radius of a model's mark."""
TEMPLATES = Environment(
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    loader=PackageLoader(__package__, ""),
)
TEMPLATES.globals["chart"] = {"WIDTH": WIDTH, "LEFT": LEFT, "RIGHT": RIGHT, "BOTTOM": BOTTOM}


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """From numbers to places in the picture."""

    start: float
    """Place of `low`."""
    end: float
    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place of a number."""
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return round(self.start + (self.end - self.start) * (value - low) / (high - low), 2)

    @property
    def ticks(self) -> list[Tick]:
        """At round numbers within the axis."""
        if self.log:
            found = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5) if self.low <= m * 10.0**e <= self.high]
        else:
            step = _round_step((self.high - self.low) / 6)
            first = math.ceil(self.low / step - 1e-9)
            found = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [Tick(self(value), f"{value:.6g}") for value in found]


@dataclass(frozen=True)
class Point:
    """A model in `scatter`."""

    name: str
    index: int
    """Of the model, which chooses its colour."""
    x: float
    y: float
    low: float
    high: float
    label_x: float
    label_y: float
    anchor: str
    radius: float = DOT


@dataclass(frozen=True)
class Scatter:
    """Models by two numbers."""

    x: Axis
    y: Axis
    points: list[Point]
    height: int


def scatter(
    rows: Sequence[tuple[str, int, float, float, float, float]],
    height: int = 300,
    *,
    radii: Sequence[float] | None = None,
    start: float | None = None,
    level: float | None = None,
) -> Scatter:
    """Of rows (name, index, x, y, lower end of y, upper end), with labels that do not cover each other.

    Args:
        rows: of the models.
        height: of the picture.
        radii: of the marks (default: all alike).
        start: where x begins (default: 0, or below the smallest number if the axis is logarithmic).
        level: a value of y that the axis includes.
    """
    sizes = radii or [DOT] * len(rows)
    xs, lows, highs = [row[2] for row in rows], [row[4] for row in rows], [row[5] for row in rows]
    if level is not None:
        lows, highs = [*lows, level], [*highs, level]
    log = max(xs) > 10 * min(xs)
    low, high = (min(xs) / 1.3, max(xs) * 1.6) if log else _widened(0, max(xs))
    room = max(radii) if radii else 0.0
    x = Axis(LEFT, WIDTH - RIGHT - room, low if start is None else start, high, log)
    y = Axis(height - BOTTOM - room, TOP + room, *_widened(min(lows), max(highs)))
    taken = [
        (x(row[2]) - size, min(y(row[5]) - 2, y(row[3]) - size), x(row[2]) + size, max(y(row[4]) + 2, y(row[3]) + size))
        for row, size in zip(rows, sizes, strict=True)
    ]
    marks = list(taken)
    points: list[Point] = []
    for (name, index, across, up, lower, upper), size, mark in zip(rows, sizes, marks, strict=True):
        label_x, label_y, anchor = _place(x(across), y(up), size, mark, len(name), taken)
        points.append(Point(name, index, x(across), y(up), y(lower), y(upper), label_x, label_y, anchor, size))
    return Scatter(x, y, points, height)


def _place(
    x: float,
    y: float,
    radius: float,
    mark: tuple[float, float, float, float],
    letters: int,
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float, str]:
    """Where a name stands beside its mark: the first place that is free, else the first."""
    width, beside, (_, top, _, bottom) = letters * LETTER, radius + 3, mark
    middle = max(LEFT + width / 2, min(x, WIDTH - width / 2))
    places = [
        (x + beside, y + 4, "start"),
        (x - beside, y + 4, "end"),
        (middle, top - 4, "middle"),
        (middle, bottom + LINE - 2, "middle"),
        (x + beside, y + 4 + LINE, "start"),
        (x + beside, y + 4 - LINE, "start"),
        (x - beside, y + 4 + LINE, "end"),
        (x - beside, y + 4 - LINE, "end"),
    ]
    boxes = []
    for across, down, anchor in places:
        start = across - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        boxes.append((start, down - LINE + 3, start + width, down + 3))
    inside = [i for i, box in enumerate(boxes) if box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0]
    free = [i for i in inside if not any(_overlap(boxes[i], other) for other in taken)]
    chosen = (free or inside or [0])[0]
    taken.append(boxes[chosen])
    return places[chosen]


@dataclass(frozen=True)
class Histogram:
    """How often a number comes, of several models under one axis."""

    x: Axis
    names: list[str]
    bars: list[list[tuple[float, float, float, float]]]
    """Of each model: x, y, width and height."""
    bases: list[float]
    """Of each model, where its bars stand."""
    medians: list[tuple[float, str]]
    height: int


def histogram(groups: Sequence[tuple[str, Sequence[float]]], row: int = 72) -> Histogram:
    """Of (name, numbers), one below the other, all at one scale."""
    everything = np.concatenate([np.asarray(values, dtype=float) for _, values in groups])
    low, high = float(everything.min()), float(everything.max())
    whole = bool(np.all(everything == everything.round())) and high - low < BINS
    edges = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high if high > low else low + 1, BINS + 1)
    x = Axis(LEFT, WIDTH - RIGHT, float(edges[0]), float(edges[-1]))
    counts = [np.histogram(values, edges)[0] / max(1, len(values)) for _, values in groups]
    tallest = max(float(count.max()) for count in counts)
    bars, bases = [], []
    for i, count in enumerate(counts):
        base = TOP + (i + 1) * row
        bases.append(float(base))
        tops = [round(float(share) / tallest * (row - 26), 2) for share in count]
        places = [x(float(edge)) for edge in edges]
        bars.append([(places[j], base - top, round(places[j + 1] - places[j], 2), top) for j, top in enumerate(tops)])
    medians = [float(np.median(values)) for _, values in groups]
    return Histogram(
        x,
        [name for name, _ in groups],
        bars,
        bases,
        [(x(median), f"{median:.4g}") for median in medians],
        TOP + len(groups) * row + BOTTOM,
    )


@dataclass(frozen=True)
class Curves:
    """Numbers over training steps."""

    x: Axis
    y: Axis
    lines: list[tuple[int, str]]
    """Index of the model, and its points as SVG takes them."""
    height: int


def curves(series: Sequence[tuple[int, Sequence[tuple[float, float]]]], height: int = 260) -> Curves:
    """Of (index of the model, points)."""
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    x = Axis(LEFT, WIDTH - RIGHT, min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    y = Axis(height - BOTTOM, TOP, *_widened(min(ys), max(ys)))
    return Curves(x, y, [(index, " ".join(f"{x(a)},{y(b)}" for a, b in points)) for index, points in series], height)


def _widened(low: float, high: float) -> tuple[float, float]:
    room = 0.08 * (high - low) or 1.0
    return low if low == 0 else low - room, high + room


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)


def _overlap(a: Iterable[float], b: Iterable[float]) -> bool:
    left, top, right, bottom = a
    other_left, other_top, other_right, other_bottom = b
    return left < other_right and other_left < right and top < other_bottom and other_top < bottom
