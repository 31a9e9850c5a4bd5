"""Time the sides of a comparison in turn, so that other work on the machine affects all of them alike."""

import time
from collections.abc import Callable, Mapping
from operator import truediv
from statistics import median


def interleaved(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round, after a warm-up round.

    Each round starts with a different side.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds + 1):
        for name in [*names[turn % len(names) :], *names[: turn % len(names)]]:
            start = time.perf_counter()
            sides[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in seconds.items()}


def ratio(seconds: Mapping[str, list[float]], above: str, below: str) -> float:
    """Median over the rounds of one side's seconds divided by another's."""
    return round(median(map(truediv, seconds[above], seconds[below])), 3)
