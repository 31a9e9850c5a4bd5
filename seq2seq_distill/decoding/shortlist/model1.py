"""IBM Model 1 (Brown et al. 1993): the probability that a source piece is translated by a target piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.data.tokenization.token_rows import TokenRows

MAX_LINKS = 2**26
"""Pairs of a source and a target token of one example, over all examples: about 2 GB at the most. Of larger data, every
n-th example is read."""
_CHUNK = 2**22
"""Links that are expanded at a time."""

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lexicon:
    """p(target | source) of the N pairs of pieces that occur together; by source, the most probable target first."""

    sources: Ints
    """[N]"""
    targets: Ints
    """[N]"""
    probabilities: Floats
    """[N]"""


@dataclass(frozen=True)
class _Links:
    """The links of some examples: each target token with each token of its source."""

    pairs: Ints
    """Pairs of pieces that are linked, as indices of the lexicon, each once."""
    pair_of_link: Ints
    """[links], an index of `pairs`."""
    starts: Ints
    """Where the links of each target token begin, [target tokens]."""
    widths: Ints
    """Links of each target token, [target tokens]."""

    def expected_counts(self, probabilities: Floats) -> Floats:
        """How often each of `pairs` is expected to be a translation."""
        weights: Floats = probabilities[self.pairs][self.pair_of_link]
        weights /= np.repeat(np.add.reduceat(weights, self.starts), self.widths)
        return np.bincount(self.pair_of_link, weights, minlength=len(self.pairs)).astype(np.float64)


def learn_lexicon(sources: TokenRows, targets: TokenRows, rounds: int = 6, max_links: int = MAX_LINKS) -> Lexicon:
    """Fit Model 1 by expectation-maximisation, from equal probabilities.

    Each source has an empty token (NULL) besides, for targets that translate nothing in it; it is left out of what
    comes back.

    Args:
        sources, targets: pieces of examples, without special tokens.
        rounds: of expectation-maximisation.
        max_links: bounds memory and time: the most links, NULL's included; beyond, every n-th example is read.
    """
    null = 1 + int(sources.values.max(initial=0))
    width = 1 + int(targets.values.max(initial=0))
    sources, targets = _thinned(sources.between([null], []), targets, max_links)
    keys, links = _linked(sources, targets, width)
    owners = keys // width
    probabilities = np.ones(len(keys))
    for _ in range(rounds):
        counts = np.zeros(len(keys))
        for part in links:
            counts[part.pairs] += part.expected_counts(probabilities)
        probabilities = counts / np.bincount(owners, counts)[owners]
    kept = owners < null
    order = np.lexsort((-probabilities[kept], owners[kept]))
    return Lexicon(owners[kept][order], (keys % width)[kept][order], probabilities[kept][order])


def _thinned(sources: TokenRows, targets: TokenRows, max_links: int) -> tuple[TokenRows, TokenRows]:
    """Every n-th example, evenly spaced, so that there are about `max_links` links at most."""
    step = -(-int((sources.lengths * targets.lengths).sum()) // max_links)
    if step <= 1:
        return sources, targets
    return sources.every(step), targets.every(step)


def _linked(sources: TokenRows, targets: TokenRows, width: int) -> tuple[Ints, list[_Links]]:
    """The pairs of pieces, as source * width + target, in order; and the links, in parts."""
    parts = []
    for keys, widths in _expanded(sources, targets, width):
        found, inverse = np.unique(keys, return_inverse=True)
        parts.append((found, inverse.astype(np.int32), widths))
    pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *(found for found, *_ in parts)]))
    links = [
        _Links(np.searchsorted(pairs, found).astype(np.int32), inverse, np.cumsum(widths) - widths, widths)
        for found, inverse, widths in parts
    ]
    return pairs, links


def _expanded(sources: TokenRows, targets: TokenRows, width: int) -> Iterator[tuple[Ints, Ints]]:
    """In parts, the key of each link; and the number of links of each target token."""
    row_of_token = np.repeat(np.arange(len(targets.lengths)), targets.lengths)
    widths = sources.lengths[row_of_token]
    firsts = (sources.ends - sources.lengths)[row_of_token]
    part_of_token = np.cumsum(widths) // _CHUNK
    cuts = [0, *(np.flatnonzero(np.diff(part_of_token)) + 1).tolist(), len(widths)]
    for start, end in zip(cuts, cuts[1:], strict=False):
        if start == end:
            continue
        links = widths[start:end]
        offsets = np.arange(links.sum()) - np.repeat(np.cumsum(links) - links, links)
        linked = sources.values[np.repeat(firsts[start:end], links) + offsets].astype(np.int64)
        yield linked * width + np.repeat(targets.values[start:end], links), links
