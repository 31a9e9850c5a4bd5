"""The optimiser steps of a whole run, data epoch after data epoch."""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from seq2seq_distill.data.batching import BatchPlan, MicroBatch
from seq2seq_distill.data.length_batches import Rows
from seq2seq_distill.data.step_counts import StepCounts

ALL = slice(None)


class RunPlan:
    """All optimiser steps of a run, data epoch after data epoch."""

    def __init__(
        self,
        batches: BatchPlan,
        *,
        max_steps: int = -1,
        max_epochs: float = 1.0,
        limit: float = 1.0,
        val_interval: float = 1.0,
        counts_folder: Path | None = None,
    ) -> None:
        """
        Args:
            batches: the plan of a data epoch.
            max_steps: optimiser steps of the run; -1 asks `max_epochs`.
            max_epochs: data epochs of the run; the last may be a fraction.
            limit: share of a data epoch's steps to use (a float up to 1.0), or their number.
            val_interval: validate every so many data epochs (up to 1.0), or steps.
            counts_folder: where the numbers of steps of epochs are kept from start to start.
        """
        self.batches = batches
        self._limit = limit
        self._counts = StepCounts(None if counts_folder is None else counts_folder / f"{batches.key}.json")
        self._plan_of = lru_cache(maxsize=2)(batches.in_epoch)
        self._epoch = lru_cache(maxsize=2)(self._steps_of_epoch)
        self._starts = [0]  # first step of each data epoch, as far as known
        self.total_steps = max_steps if max_steps > 0 else self._steps_until(max_epochs)
        """Optimiser steps of the whole run."""
        interval = val_interval if val_interval > 1 else val_interval * self._count(0)
        self.steps_between_validations = min(self.total_steps, max(1, round(interval)))
        """Optimiser steps from one validation to the next; the run's end validates in any case."""

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows after `step` optimiser steps."""
        return step % self.steps_between_validations == 0 or step == self.total_steps

    def rows(self, step: int) -> Rows:
        """Rows of the `step`-th optimiser step, counted from 0."""
        epoch, within = self._locate(step)
        return self._epoch(epoch)[within]

    def batches_of(self, step: int) -> BatchPlan:
        """The plan of the data epoch of the `step`-th optimiser step, with the lengths that its rows have there."""
        return self._plan_of(self._locate(step)[0])

    def micro_batch(self, step: int, share: slice = ALL) -> MicroBatch:
        """A share of the rows of the `step`-th optimiser step; by default all."""
        rows = self.rows(step)
        return self.batches_of(step).micro_batch(rows, rows[share])

    def data_epoch(self, step: int) -> float:
        """How many data epochs have been completed after `step` optimiser steps."""
        epoch, within = self._locate(step)
        return epoch + within / self._count(epoch)

    def micro_batches(
        self, start: int = 0, *, rank: int = 0, world: int = 1, accumulate: int = 1
    ) -> Iterator[MicroBatch]:
        """Micro-batches of one process from the `start`-th on, to the end of the run.

        Row i of a step goes to micro-batch i modulo (world * accumulate): sorted rows are spread evenly.
        """
        parts = world * accumulate
        for number in range(start, self.total_steps * accumulate):
            step, turn = divmod(number, accumulate)
            yield self.micro_batch(step, slice(turn * world + rank, None, parts))

    def _steps_of_epoch(self, epoch: int) -> list[Rows]:
        steps = self._plan_of(epoch).steps(epoch)
        if self._counts.get(epoch) is None:
            self._counts.set(epoch, len(steps))
        return steps[: self._limited(len(steps))]

    def _limited(self, steps: int) -> int:
        return min(steps, int(self._limit)) if self._limit > 1 else max(1, round(self._limit * steps))

    def _count(self, epoch: int) -> int:
        """Steps of a data epoch, without its plan where they are known."""
        steps = self._counts.get(epoch)
        return len(self._epoch(epoch)) if steps is None else self._limited(steps)

    def _steps_until(self, epochs: float) -> int:
        whole, fraction = int(epochs), epochs % 1
        while len(self._starts) <= whole:
            self._extend()
        return max(1, self._starts[whole] + (round(fraction * self._count(whole)) if fraction else 0))

    def _extend(self) -> None:
        self._starts.append(self._starts[-1] + self._count(len(self._starts) - 1))

    def _locate(self, step: int) -> tuple[int, int]:
        while self._starts[-1] <= step:
            self._extend()
        epoch = bisect_right(self._starts, step) - 1
        return epoch, step - self._starts[epoch]
