"""How far a long piece of work is: a bar on a terminal, a line of the log now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import timedelta
from typing import Self, TypeVar

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.terminal import console, shows_bars

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch", bound=Sized)

LOG_SECONDS = 30.0
"""Between two lines of the log."""
BAR_SECONDS = 0.2
"""Between two states of a bar."""


class Progress:
    """Shows how far the work within its context is.

    On a terminal it is a bar, which process 0 draws and which disappears at the end; with NO_COLOR, in a file or pipe
    and on other processes it is a line of the log every `LOG_SECONDS`. `stop` and `start` again for an interruption,
    whose time counts in no rate.

    Args:
        phase: what is done, as a present participle ("encoding").
        total: number of units; None where nobody knows it.
        unit: what is counted, in the plural.
        figures: what to show in place of the units a second. It is called only when something is shown.
        shown: false shows nothing.
    """

    def __init__(
        self,
        phase: str,
        total: int | None,
        unit: str = "rows",
        *,
        figures: Callable[[], Iterable[str]] | None = None,
        shown: bool = True,
    ) -> None:
        self._phase, self._total, self._unit = phase, total, unit
        self._figures = figures
        self._shown = shown and total != 0
        self._live: Live | None = None
        self._skipped = 0
        self._before = 0.0  # seconds up to the last `stop`
        self._started: float | None = None
        self._last = 0.0
        self.done = 0
        """Units done so far."""
        self.extra_seconds = 0.0
        """Time that other work between the units still takes; it is added to the time left."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def seconds(self) -> float:
        """Time between each `start` and its `stop`, or now."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    @property
    def seconds_left(self) -> float | None:
        """Time that the units left take at the mean rate so far, with `extra_seconds`; None where it is unknown."""
        if self._total is None or not self._new:
            return None
        return max(0, self._total - self.done) * self.seconds / self._new + self.extra_seconds

    def start(self) -> None:
        """Begin, or go on after `stop`."""
        self._started = self._last = time.monotonic()
        if self._shown and shows_bars() and is_rank_zero():
            self._live = Live(
                self._bar(),
                console=console(stderr=True),
                auto_refresh=False,  # a thread would ask for figures in the middle of a step, and survive no fork
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # what goes into a file or pipe stays what it is
            )
            self._live.start(refresh=True)

    def skip(self, units: int) -> None:
        """Count units that had been done before, and took no time."""
        self._skipped += units
        self.done += units

    def advance(self, units: int = 1) -> None:
        """Count units that are done."""
        self.done += units
        now = time.monotonic()
        if not self._shown or now - self._last < (LOG_SECONDS if self._live is None else BAR_SECONDS):
            return
        self._last = now
        if self._live is not None:
            self._live.update(self._bar(), refresh=True)
        else:
            of = "" if self._total is None else f" of {self._total:,}"
            figures = self._rate() if self._figures is None else self._figures()
            logger.info(", ".join([f"{self._phase}: {self.done:,}{of} {self._unit}", *figures, *self._time_left()]))

    def counted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; each is counted when the next one is asked for."""
        for batch in batches:
            yield batch
            self.advance(len(batch))

    def stop(self) -> None:
        """End, or pause until `start`; does nothing if it has ended."""
        self._before, self._started = self.seconds, None
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _bar(self) -> RenderableType:
        """A line, and below it the figures."""
        line = Table.grid(padding=(0, 1), expand=self._total is not None)
        cells: list[RenderableType] = [self._phase]
        line.add_column(no_wrap=True)
        if self._total is None:
            cells.append(f"{self.done:,} {self._unit}")
        else:
            line.add_column(ratio=1)
            cells.append(ProgressBar(self._total, min(self.done, self._total)))
            cells.append(f"{self.done:,}/{self._total:,} {self._unit}")
        if self._figures is None:
            line.add_row(*cells, *self._rate(), *self._time_left())
            return line
        line.add_row(*cells, *self._time_left())
        return Group(line, Text("  ".join(self._figures()))) if self._new else line

    @property
    def _new(self) -> int:
        """Units done here."""
        return self.done - self._skipped

    def _time_left(self) -> Iterator[str]:
        if self.seconds_left is not None:
            yield f"{timedelta(seconds=round(self.seconds_left))} left"

    def _rate(self) -> Iterator[str]:
        if self._new:
            rate = self._new / max(self.seconds, 1e-9)
            yield f"{rate:,.0f} a second" if rate >= 10 else f"{rate:.2g} a second"


def format_duration(seconds: float) -> str:
    """A time in the unit that suits it: "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
