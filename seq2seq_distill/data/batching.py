"""The plan of a run's batches: which rows every optimiser step sees, known before the first step.

Global batches are a pure function of (seed, data epoch, options). The number of processes and accumulated batches only
deals out their rows, so every process has equally many batches, and any step can be found again when a run resumes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from seq2seq_distill.data.length_batches import Rows
from seq2seq_distill.data.noise.forms import Forms

ARRAYS = ("source_lengths", "target_lengths", "chunk_counts", "forms", "drawn", "distilled")
"""Fields of a plan that are no options."""
PLAN = 1
"""Raised when the same options give other batches."""
POOL = 1000
"""Batches in a pool inside which rows are grouped by length."""
BAND = 8
"""Batches in a band: rows of like source length, which are sorted by target length."""


def weights_by_size(sizes: Sequence[int], exponent: float) -> list[float]:
    """Weights of a `BatchPlan`: sources are drawn by their size to the power of `exponent`.

    An epoch has as many rows as all sources together, and of each its share of sum(size ** exponent) (the sampling of
    T5's mixtures, arXiv 1910.10683, where the exponent is 1 / T).
    """
    shares = [size**exponent for size in sizes]
    # Rounded, so that an exponent of 1 gives 1, each row once.
    return [round(sum(sizes) * share / sum(shares) / size, 9) for size, share in zip(sizes, shares, strict=True)]


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
    """Which noisy form each row has, from 1 on; without any, the rows are as they are."""
    distilled: tuple[bool, ...] = ()
    """Whether the teacher knows the target of each row, where there are noisy forms."""
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
        forms: noisy forms of the rows, one of which takes the place of each row in an epoch.
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
        """The plan with the forms that the rows have in a data epoch; without noisy forms, itself."""
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
