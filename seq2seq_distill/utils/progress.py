"""How far a long piece of work is: a bar on a terminal, a line of the log now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

LOG_SECONDS = 30
"""Between two lines of the log."""


@contextmanager
def progress(verb: str, total: int | None, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """Show how far the block is; it is given a function that takes the number of units done since the last call.

    Args:
        verb: what happens to the units, as a past participle ("encoded").
        total: number of units; None where nobody knows it.
        unit: what is counted, in the plural.
    """
    if sys.stderr.isatty():
        with _bar(verb, total, unit) as advance:
            yield advance
    else:
        yield _log_lines(verb, total, unit)


@contextmanager
def _bar(verb: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn(f"{unit} {verb}"),
        *(BarColumn(), MofNCompleteColumn()),
        TextColumn("{task.speed:,.0f} a second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda units: bar.advance(task, units)


def _log_lines(verb: str, total: int | None, unit: str) -> Callable[[int], None]:
    start = logged = time.monotonic()
    done = 0

    def advance(units: int) -> None:
        nonlocal done, logged
        done += units
        now = time.monotonic()
        if now - logged > LOG_SECONDS:
            logged, rate = now, done / (now - start)
            if total is None:
                logger.info("%s %d %s, %d a second", verb, done, unit, rate)
            else:
                line = "%s %d of %d %s, %d a second, %.0f minutes left"
                logger.info(line, verb, done, total, unit, rate, (total - done) / rate / 60)

    return advance


def format_duration(seconds: float) -> str:
    """A time in the unit that suits it: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
