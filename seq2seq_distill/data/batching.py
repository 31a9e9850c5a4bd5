"""The plan of a run's batches: which rows every optimiser step sees, known before the first step.

Global batches are a pure function of (seed, data epoch, options). The number of processes and accumulated batches only
deals out their rows, so every process has equally many batches, and any step can be found again when a run resumes.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.compute as pc
import xxhash
from datasets import Dataset
from numpy.typing import NDArray

from seq2seq_distill.data.noise.forms import Forms
from seq2seq_distill.data.step_counts import StepCounts
from seq2seq_distill.data.token_columns import list_column

Row = TypeVar("Row")
Result = TypeVar("Result")
Rows = NDArray[np.int32]
"""Numbers of rows, or lengths; a data set has fewer than 2**31 rows."""
ARRAYS = ("source_lengths", "target_lengths", "chunk_counts", "forms", "drawn", "distilled")
"""Fields of a plan that are no options."""
PLAN = 1
"""Raised when the same options give other batches."""
POOL = 1000
"""Batches in a pool inside which rows are grouped by length."""
ALL = slice(None)
BAND = 8
"""Batches in a band: rows of like source length, which are sorted by target length."""


def lengths(dataset: Dataset, column: str) -> Rows:
    """Tokens of each row of a column of lists, [rows]; from Arrow's offsets, so that no token is read."""
    return np.asarray(pc.list_value_length(list_column(dataset, column)), dtype=np.int32)


def weights_by_size(sizes: Sequence[int], exponent: float) -> list[float]:
    """Weights of a `BatchPlan`: sources are drawn by their size to the power of `exponent`.

    An epoch has as many rows as all sources together, and of each its share of sum(size ** exponent) (the sampling of
    T5's mixtures, arXiv 1910.10683, where the exponent is 1 / T).
    """
    shares = [size**exponent for size in sizes]
    # Rounded, so that an exponent of 1 gives 1, each row once.
    return [round(sum(sizes) * share / sum(shares) / size, 9) for size, share in zip(sizes, shares, strict=True)]


def batches_by_length(
    lengths: Sequence[int], *, size: int | None = None, max_tokens: int | None = None
) -> list[list[int]]:
    """Indices of batches of like length, the longest first.

    Args:
        lengths: of each row, in tokens.
        size: rows of a batch; or
        max_tokens: most tokens of a batch, padding counted. A longer row stands alone.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        last = batches[-1] if batches else []
        is_full = len(last) == size
        if max_tokens is not None and last:
            is_full = (len(last) + 1) * lengths[last[0]] > max_tokens
        if not last or is_full:
            batches.append([])
        batches[-1].append(index)
    return batches


def map_by_length(
    function: Callable[[list[Row]], Sequence[Result]],
    rows: Sequence[Row],
    lengths: Sequence[int],
    *,
    size: int | None = None,
    max_tokens: int | None = None,
) -> list[Result]:
    """What a function of a batch gives for each row, in the order of the rows; batches as of `batches_by_length`."""
    results: dict[int, Result] = {}
    for batch in batches_by_length(lengths, size=size, max_tokens=max_tokens):
        results.update(zip(batch, function([rows[index] for index in batch]), strict=True))
    return [results[index] for index in range(len(rows))]


@dataclass(frozen=True)
class MicroBatch:
    """What one process computes in one step; without rows it is padding and counts nowhere."""

    rows: tuple[int, ...]
    source_tokens: int
    """Of the whole optimiser step, over all processes and accumulated batches."""
    target_tokens: int
    """Likewise."""
    chunks: int = 0
    """Chunks of targets with a likelihood, likewise."""
    forms: tuple[int, ...] = ()
    """Which disturbed form each row has, from 1 on; without any, the rows are as they are."""
    distilled: tuple[bool, ...] = ()
    """Whether the teacher knows the target of each row, where there are disturbed forms."""
    distill_tokens: int | None = None
    """Tokens of the targets that the teacher knows, of the whole optimiser step; None if it knows all."""


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Global batches of every data epoch.

    Args:
        source_lengths, target_lengths: [rows], in tokens.
        size: rows of an optimiser step, unless `max_tokens` is given.
        max_tokens: most source plus target tokens of an optimiser step, padding counted. A longer row stands alone.
        group_by_length: inside pools of `POOL` batches, sort by source length, and bands of `BAND` batches of these
            by target length, so that neither side has much padding; the longest batch first.
        seed: of the order.
        sizes, weights: rows of each joined source in order, and how often a row of it comes in an epoch: 2 is twice,
            0.5 is half of the rows, drawn anew in each epoch. By default every row comes once.
        apart: an optimiser step has rows of one source alone.
        chunk_counts: [rows], the number of chunks of each target, where chunks have likelihoods.
        forms: disturbed forms of the rows, one of which takes the place of each row in an epoch.
        drawn, distilled: [rows], of the plan of an epoch: which form each row has, and whether the teacher knows it.
    """

    source_lengths: Rows
    target_lengths: Rows
    size: int
    max_tokens: int | None = None
    group_by_length: bool = True
    seed: int = 0
    sizes: Sequence[int] | None = None
    weights: Sequence[float] | None = None
    homogeneous_batches: bool = False
    chunk_counts: Rows | None = None
    forms: Forms | None = None
    drawn: Rows | None = None
    distilled: NDArray[np.bool_] | None = None

    @property
    def key(self) -> str:
        """Stands for all that the plan depends on."""
        digest = xxhash.xxh3_128()
        for side in (self.source_lengths, self.target_lengths):
            digest.update(np.ascontiguousarray(side, dtype=np.int32).data)
        options = [getattr(self, field.name) for field in fields(self) if field.name not in ARRAYS]
        digest.update(json.dumps([PLAN, *options]).encode())
        if self.forms is not None:
            for lengths_of_forms in (self.forms.source_lengths, self.forms.target_lengths):
                digest.update(np.ascontiguousarray(lengths_of_forms, dtype=np.int32).data)
        return digest.hexdigest()

    def in_epoch(self, epoch: int) -> "BatchPlan":
        """The plan with the forms that the rows have in a data epoch; without disturbed forms, itself."""
        if self.forms is None:
            return self
        drawn = self.forms.draw(self.seed, epoch)
        place = (drawn - 1, np.arange(len(drawn)))
        return replace(
            self,
            source_lengths=self.forms.source_lengths[place],
            target_lengths=self.forms.target_lengths[place],
            forms=None,
            drawn=drawn,
            distilled=self.forms.distilled[place],
        )

    def steps(self, epoch: int) -> list[Rows]:
        """Rows of every optimiser step of a data epoch, in order."""
        if self.forms is not None:
            return self.in_epoch(epoch).steps(epoch)
        rng = np.random.default_rng([self.seed, epoch])
        groups = self._rows_of_epoch(rng)
        if not self.homogeneous_batches and len(groups) > 1:
            groups = [np.concatenate(groups)]
        batches: list[Rows] = []
        while groups:  # each array of rows is freed when the next one is made: of many rows, they are large
            rows = groups.pop(0)
            if len(rows):
                rows = rng.permutation(rows)
                batches += self._batches(rows)
        if not self.group_by_length and not self.homogeneous_batches:
            return batches
        order = rng.permutation(len(batches))
        if not self.group_by_length:
            return [batches[i] for i in order]
        # The longest batch comes first, so that memory errors come at the first step.
        longest = int(np.argmax(self._widths(batches)))
        return [batches[longest], *(batches[i] for i in order if i != longest)]

    def _batches(self, rows: Rows) -> list[Rows]:
        """These rows, in random order, as batches."""
        if not self.group_by_length:
            return self._cut(rows)
        pool = POOL * self._rows_per_step(rows)
        parts = [rows[start : start + pool] for start in range(0, len(rows), pool)]
        return self._cut(*map(self._by_length, parts))

    def tokens(self, rows: Rows) -> tuple[int, int]:
        """Source and target tokens of these rows."""
        return int(self.source_lengths[rows].sum()), int(self.target_lengths[rows].sum())

    def micro_batch(self, rows: Rows, share: Rows) -> MicroBatch:
        """A share of the rows of an optimiser step."""
        chunks = 0 if self.chunk_counts is None else int(self.chunk_counts[rows].sum())
        batch = MicroBatch(tuple(share.tolist()), *self.tokens(rows), chunks)
        if self.drawn is None or self.distilled is None:
            return batch
        return replace(
            batch,
            forms=tuple(self.drawn[share].tolist()),
            distilled=tuple(self.distilled[share].tolist()),
            distill_tokens=int(self.target_lengths[rows[self.distilled[rows]]].sum()),
        )

    def _rows_of_epoch(self, rng: np.random.Generator) -> list[Rows]:
        """The rows of each source that occur in an epoch."""
        if self.sizes is None:
            return [np.arange(len(self.source_lengths), dtype=np.int32)]
        ends = np.cumsum(self.sizes)
        sources = [np.arange(end - size, end, dtype=np.int32) for size, end in zip(self.sizes, ends, strict=True)]
        if self.weights is None:
            return sources
        drawn = []
        for rows, weight in zip(sources, self.weights, strict=True):
            whole, share = divmod(weight, 1)
            part = max(1, round(share * len(rows))) if share else 0  # an epoch without rows would never end
            drawn.append(np.concatenate([rows] * int(whole) + [rng.permutation(rows)[:part]]))
        return drawn

    def _rows_per_step(self, rows: Rows) -> int:
        if self.max_tokens is None:
            return self.size
        mean = (self.source_lengths[rows].mean() + self.target_lengths[rows].mean()) if len(rows) else 1
        return max(1, int(self.max_tokens / mean))

    def _by_length(self, rows: Rows) -> Rows:
        rows = rows[np.argsort(-self.source_lengths[rows], kind="stable")]
        target = self.target_lengths[rows]
        if self.max_tokens is None:
            band = np.arange(len(rows)) // (BAND * self.size)
        else:
            band = np.cumsum(self.source_lengths[rows] + target) // (BAND * self.max_tokens)
        # Down and up in turn: where two bands meet, target lengths do not jump.
        return rows[np.lexsort((np.where(band % 2, target, -target), band))]

    def _widths(self, batches: list[Rows]) -> Rows:
        """Of each batch, the longest source plus the longest target."""
        rows = np.concatenate(batches)
        starts = np.cumsum([0, *map(len, batches[:-1])])
        longest = (np.maximum.reduceat(side[rows], starts) for side in (self.source_lengths, self.target_lengths))
        return np.add(*longest)

    def _cut(self, *pools: Rows) -> list[Rows]:
        """Each pool as batches, in order."""
        if self.max_tokens is None:
            return [rows[start : start + self.size] for rows in pools for start in range(0, len(rows), self.size)]
        whole, pool_ends = np.concatenate(pools), np.cumsum([len(rows) for rows in pools])
        sides = self.source_lengths[whole], self.target_lengths[whole]
        del whole
        ends = _batch_ends(*sides, pool_ends, self.max_tokens)
        return [
            rows[start:end]
            for rows, of_pool in zip(pools, ends, strict=True)
            for start, end in zip([0, *of_pool], of_pool, strict=False)
        ]


def _batch_ends(source: Rows, target: Rows, pool_ends: NDArray[np.int64], max_tokens: int) -> list[list[int]]:
    """Where the batches of each pool end, counted from the pool's start, if each takes as many rows as fit.

    The pools are cut in lockstep, a batch of each at a time: from its first row on, the widths so far are running
    maxima, and the batch ends before the first row with which it would be too large.

    Args:
        source, target: lengths of the rows of all pools, one pool after the other.
        pool_ends: the row behind the last one of each pool.
        max_tokens: most rows x (longest source + longest target) of a batch; a longer row stands alone.
    """
    pool_starts = np.concatenate([[0], pool_ends[:-1]])
    ends: list[list[int]] = [[] for _ in pool_ends]
    starts, open_pools = pool_starts.copy(), np.flatnonzero(pool_ends > pool_starts)
    window = 16
    while len(open_pools):
        found = np.zeros(len(open_pools), dtype=np.int64)
        searched = np.arange(len(open_pools))
        while len(searched):
            first, last = starts[open_pools[searched]], pool_ends[open_pools[searched]]
            places = first[:, None] + np.arange(window)
            inside = np.minimum(places, last[:, None] - 1)
            widths = np.maximum.accumulate(source[inside], axis=1) + np.maximum.accumulate(target[inside], axis=1)
            too_large = widths * np.arange(1, window + 1) > max_tokens
            too_large[:, 0] = False
            too_large |= places >= last[:, None]
            is_found = too_large.any(axis=1)
            found[searched] = first + np.argmax(too_large, axis=1)
            searched = searched[~is_found]
            window *= 2 if len(searched) else 1
        sizes = found - starts[open_pools]
        window = max(16, int(sizes.max()) + 8)
        for pool, end in zip(open_pools.tolist(), (found - pool_starts[open_pools]).tolist(), strict=True):
            ends[pool].append(end)
        starts[open_pools] = found
        open_pools = open_pools[found < pool_ends[open_pools]]
    return ends


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
