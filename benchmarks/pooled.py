"""Scores over the outputs of several seeds, with what chance could have made of them.

The outputs of all seeds for one input are drawn together: seeds are no independent evidence of an input.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.metrics.corpus import rouge_per_example
from seq2seq_distill.metrics.significance import Mean, resampled_scores, score_of, statistics

RESAMPLES, SEED = EvaluateConfig.resamples, EvaluateConfig.seed
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
        self._name, self._references = metric, list(references)
        self._metric: Metric = {"bleu": BLEU, "chrf": CHRF}.get(metric, Mean)()

    def score(self, outputs: Outputs) -> float:
        """Over the outputs of all seeds."""
        return score_of(self._metric, self._statistics(outputs))

    def kept(self, outputs: Outputs, teacher: Outputs) -> Kept:
        """The score as a share of the teacher's, with its percentile interval."""
        ratios = self._resampled(outputs) / self._resampled(teacher)
        return Kept(self.score(outputs) / self.score(teacher), *map(float, np.quantile(ratios, (0.025, 0.975))))

    def p(self, outputs: Outputs, baseline: Outputs) -> float:
        """Of a difference as large as that between two systems by chance alone (Koehn 2004, as in sacrebleu)."""
        differences = self._resampled(outputs) - self._resampled(baseline)
        found = abs(self.score(outputs) - self.score(baseline))
        return float((np.sum(np.abs(differences - differences.mean()) >= found) + 1) / (RESAMPLES + 1))

    def _statistics(self, outputs: Outputs) -> NDArray[np.float64]:
        """Summed over seeds, for each input."""
        return np.sum([self._of_seed(texts) for texts in outputs], axis=0)

    def _of_seed(self, texts: list[str]) -> NDArray[np.float64]:
        if isinstance(self._metric, Mean):
            values = rouge_per_example(texts, self._references, [self._name])[self._name]
            return statistics(self._metric, values, None)
        return statistics(self._metric, texts, self._references)

    def _resampled(self, outputs: Outputs) -> NDArray[np.float64]:
        return resampled_scores(self._metric, self._statistics(outputs), RESAMPLES, SEED)
