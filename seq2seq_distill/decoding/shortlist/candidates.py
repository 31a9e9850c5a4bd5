"""Which target pieces a source may be translated by: the most frequent ones, the best by p(target | source), copies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.data.tokenization.token_rows import TokenRows
from seq2seq_distill.decoding.shortlist.model1 import Lexicon

FREQUENT = (50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10_000, 20_000, 50_000, 100_000)
"""Numbers of most frequent target pieces that are tried."""
BEST = (0, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
"""Numbers of best target pieces of a source piece that are tried."""
NEVER = np.iinfo(np.int32).max
"""Rank of a piece that is no candidate."""
SEPARATORS = frozenset(" \t\n")
"""What no piece of CTranslate2's file can hold."""

Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Shortlist:
    """How many candidates there are, and what they cover."""

    frequent: int
    """Most frequent target pieces, which are candidates for every source (F)."""
    best: int
    """Target pieces of each source piece (B)."""
    coverage: float
    """Share of the pieces of the outputs that are among their source's candidates."""
    mean_candidates: float
    """Candidates of a source, special tokens included."""


class CandidateRanks:
    """Target pieces ranked by frequency, and by p(target | source) for each source piece.

    A shortlist holds the pieces whose rank is below F or B: to choose these, the ranks are enough. Pieces that
    CTranslate2's file cannot hold, those with a space, are no candidates, and have none.

    Args:
        lexicon: of the training pairs.
        targets: pieces of the training targets, which are counted.
        vocabularies: the tokens of sources and of targets, by id.
        special: ids of targets that are candidates always, of no rank.
    """

    def __init__(
        self, lexicon: Lexicon, targets: TokenRows, vocabularies: tuple[Sequence[str], Sequence[str]], special: Ints
    ) -> None:
        source_tokens, target_tokens = vocabularies
        can_be_key, can_stand = _writable(source_tokens), _writable(target_tokens)
        self.vocabulary, self.special = len(target_tokens), special[can_stand[special]]
        counts = np.bincount(targets.values, minlength=self.vocabulary)
        counts[special] = counts[~can_stand] = -1
        self.order = np.argsort(-counts, kind="stable")[: int((counts >= 0).sum())]
        """Target pieces, the most frequent first."""
        self.frequency = np.full(self.vocabulary, NEVER)
        """Rank of each target by frequency, [targets]; special ones are below all."""
        self.frequency[self.order] = np.arange(len(self.order))
        self.frequency[self.special] = -1
        ids = {token: number for number, token in enumerate(target_tokens) if can_stand[number]}
        self.copies = np.array([ids.get(token, -1) for token in source_tokens])
        """The same piece as a target, -1 for none, [sources]; what can be no key is no target either."""
        stays = can_stand[lexicon.targets] & can_be_key[lexicon.sources]
        self._targets = lexicon.targets[stays]
        self._starts = np.searchsorted(lexicon.sources[stays], np.arange(len(source_tokens) + 1))

    def best(self, source: int, count: int = NEVER) -> Ints:
        """The `count` best targets of a source piece, or all."""
        start, end = self._starts[source : source + 2]
        return self._targets[start : min(end, start + count)]

    def ranks(self, sources: Collection[int]) -> Ints:
        """The best rank of each target by p(target | source) among some source pieces, copies below all, [targets]."""
        ranks = np.full(self.vocabulary, NEVER)
        for source in sources:
            best = self.best(source, max(BEST))
            ranks[best] = np.minimum(ranks[best], np.arange(len(best)))
        copies = self.copies[list(sources)]
        ranks[copies[copies >= 0]] = -1
        return ranks

    def lines(self, frequent: int, best: int) -> Iterator[tuple[int, Ints]]:
        """For each source piece its candidates, without those that every source has; source pieces without are left
        out."""
        for source, copy in enumerate(self.copies.tolist()):
            found = self.best(source, best)
            if copy >= 0 and copy not in found:
                found = np.append(found, copy)
            found = found[self.frequency[found] >= frequent]
            if len(found):
                yield source, found

    def always(self, frequent: int) -> Ints:
        """The candidates of every source: special tokens, and the most frequent pieces."""
        return np.concatenate([self.special, self.order[:frequent]])


def _writable(tokens: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each token can stand in the file."""
    return np.array([bool(token) and not SEPARATORS.intersection(token) for token in tokens])


def measure(
    ranks: CandidateRanks,
    sources: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    frequent: Sequence[int],
    best: Sequence[int],
) -> list[Shortlist]:
    """What the candidates of each combination of `frequent` and `best` cover, and how many there are.

    Args:
        ranks: of the pieces.
        sources: token ids of texts.
        outputs: token ids that their candidates should cover; special tokens do not count.
        frequent, best: in rising order, `best` at most the last of `BEST`.
    """
    shape = len(frequent) + 1, len(best) + 1
    covered, candidates, total = np.zeros(shape, int), np.zeros(shape, int), 0
    by_frequency = np.searchsorted(frequent, ranks.frequency, "right")
    for source, output in zip(sources, outputs, strict=True):
        by_rank = np.searchsorted(best, ranks.ranks(set(source)), "right")
        pieces = np.array(output, int)
        pieces = pieces[ranks.frequency[pieces] >= 0]
        total += len(pieces)
        covered += _counts(by_frequency[pieces], by_rank[pieces], shape)
        candidates += _counts(by_frequency, by_rank, shape)
    return [
        Shortlist(f, b, _within(covered, i, j) / total if total else 1.0, _within(candidates, i, j) / len(sources))
        for i, f in enumerate(frequent)
        for j, b in enumerate(best)
    ]


def _counts(rows: Ints, columns: Ints, shape: tuple[int, int]) -> Ints:
    """How many pieces need the i-th number of frequent, or else the j-th number of best pieces, [i, j]."""
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def _within(counts: Ints, row: int, column: int) -> int:
    """Those that need no more than one of the two."""
    return int(counts.sum() - counts[row + 1 :, column + 1 :].sum())


def choose(shortlists: Sequence[Shortlist], coverage: float, least_frequent: int = 0) -> Shortlist:
    """The shortlist with the fewest candidates among those that cover enough; if none does, one that covers most.

    Args:
        shortlists: to choose from.
        coverage: least share of the outputs' pieces.
        least_frequent: the fewest frequent pieces, if there are so many.
    """
    most = max(each.frequent for each in shortlists)
    large = [each for each in shortlists if each.frequent >= min(least_frequent, most)]
    enough = min(coverage, max(each.coverage for each in large))
    return min(
        (each for each in large if each.coverage >= enough),
        key=lambda each: (each.mean_candidates, each.frequent + each.best),
    )
