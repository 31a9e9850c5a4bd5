"""Scores over the outputs of several seeds, with what chance could have made of them.

The outputs of all seeds for one input are drawn together: seeds are no independent evidence of an input.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from seq2seq_distill.metrics.corpus import rouge_per_example
from seq2seq_distill.metrics.significance import Mean

RESAMPLES, SEED = 1000, 12345
"""Of the paired bootstrap."""
Outputs = list[list[str]]
"""A list of texts for each seed."""


class Kept(NamedTuple):
    """A score as a share of another."""

    share: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end."""


class PooledScores:
    """The scores of a metric on the same resamples of the test inputs, for as many systems as there are.

    Args:
        metric: bleu, chrf, or a kind of ROUGE.
        references: one for each input.
    """

    def __init__(self, metric: str, references: Sequence[str]) -> None:
        self._name, self._references = metric, references
        self._metric: Metric = {"bleu": BLEU, "chrf": CHRF}.get(metric, Mean)()
        rows = len(references)
        self._draws = np.random.default_rng(SEED).choice(rows, size=(RESAMPLES, rows), replace=True)

    def score(self, outputs: Outputs) -> float:
        """Over the outputs of all seeds."""
        return self._compute(self._statistics(outputs).sum(0))

    def kept(self, outputs: Outputs, teacher: Outputs) -> Kept:
        """The score as a share of the teacher's, with its percentile interval."""
        ratios = self._resampled(outputs) / self._resampled(teacher)
        return Kept(self.score(outputs) / self.score(teacher), *map(float, np.quantile(ratios, (0.025, 0.975))))

    def p(self, outputs: Outputs, baseline: Outputs) -> float:
        """Of a difference as large as that between two systems by chance alone (Koehn 2004, as in sacrebleu)."""
        differences = self._resampled(outputs) - self._resampled(baseline)
        found = abs(self.score(outputs) - self.score(baseline))
        return float((np.sum(np.abs(differences - differences.mean()) >= found) + 1) / (RESAMPLES + 1))

    def _statistics(self, outputs: Outputs) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        return np.sum([self._of_seed(texts) for texts in outputs], axis=0)

    def _of_seed(self, texts: list[str]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        if isinstance(self._metric, Mean):
            values = rouge_per_example(texts, list(self._references), [self._name])[self._name]
            return np.array(self._metric._extract_corpus_statistics(values, None), np.float64)
        return np.array(self._metric._extract_corpus_statistics(texts, [self._references]), np.float64)

    def _resampled(self, outputs: Outputs) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        statistics = self._statistics(outputs)
        return np.array([self._compute(statistics[rows].sum(0)) for rows in self._draws])

    def _compute(self, statistics: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
        return float(self._metric._compute_score_from_stats(statistics.tolist()).score)
