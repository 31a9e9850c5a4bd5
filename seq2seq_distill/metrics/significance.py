"""95% intervals and p-values by sacrebleu's bootstrap, for its own metrics and for plain means."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric, Score
from sacrebleu.significance import PairedTest

SEED = "SACREBLEU_SEED"


@dataclass(frozen=True)
class ScoreWithInterval:
    """A score with what chance could have made of it."""

    score: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end."""
    p: float | None
    """Of a difference from the first system as large as this by chance alone; None of the first."""


@dataclass(frozen=True)
class Loss:
    """By how much a score is lower than another."""

    loss: float
    """Negative where it is higher."""
    low: float
    """Lower end of the 95% interval."""
    high: float
    """Upper end."""


class Mean(Metric):
    """The plain mean of numbers that are there already, one for each example, as a metric of sacrebleu."""

    def _extract_corpus_statistics(self, hypotheses: Sequence[Any], references: Any) -> list[list[float]]:
        return [[float(value), 1.0] for value in hypotheses]

    def _aggregate_and_compute(self, stats: list[list[float]]) -> Score:
        return self._compute_score_from_stats(np.sum(stats, axis=0))

    def _compute_score_from_stats(self, stats: Any) -> Score:
        return Score("mean", float(stats[0] / stats[1]))

    def _preprocess_segment(self, sent: str) -> str:
        raise NotImplementedError  # the numbers are made already

    _extract_reference_info = _compute_segment_statistics = _preprocess_segment  # type: ignore[assignment]

    def get_signature(self) -> Any:
        """The parts of a signature that a test adds to."""
        return self._SIGNATURE_TYPE({"num_refs": 1, "version": None})


def compare_systems(
    metric: Metric, systems: Mapping[str, Sequence[Any]], references: Sequence[str] | None, resamples: int, seed: int
) -> dict[str, ScoreWithInterval]:
    """Score each system and compare it with the first by paired bootstrap resampling (Koehn 2004).

    It is `sacrebleu.significance.PairedTest`: every system is scored on the same `resamples` samples of the examples.
    The interval is its mean over these with its half-width on either side; p is the share of samples in which the
    difference, less its mean, is above the one that was found. Outputs that equal the first's are given p = 1, since
    that share of no sample, 1 / (resamples + 1), would call a model different from itself.

    Args:
        metric: of sacrebleu, or `Mean`.
        systems: texts, or for `Mean` numbers, in the order of the examples.
        references: a text for each example; None for `Mean`.
        resamples: number of samples.
        seed: of their random numbers.

    Returns:
        By system's name.
    """
    with _seed(seed):
        named = list(systems.items())
        test = PairedTest(named, {"": metric}, references and [references], test_type="bs", n_samples=resamples)
        _, columns = test()
    [results] = [column for name, column in columns.items() if name != "System"]
    first = list(named[0][1])
    return {
        name: ScoreWithInterval(
            score=float(result.score),  # type: ignore[union-attr]
            low=float(result.mean - result.ci),  # type: ignore[union-attr, operator]
            high=float(result.mean + result.ci),  # type: ignore[union-attr, operator]
            p=None if index == 0 else 1.0 if list(outputs) == first else float(result.p_value),  # type: ignore
        )
        for index, ((name, outputs), result) in enumerate(zip(named, results, strict=True))
    }


def loss_of_score(
    metric: Metric,
    before: Sequence[Any],
    after: Sequence[Any],
    references: Sequence[str] | None,
    resamples: int,
    seed: int,
) -> Loss:
    """The score of the outputs `before` less that of those `after`, with the percentile interval of the paired
    bootstrap: both are scored on the same samples, those of `compare_systems`. Arguments as there."""
    stats = [statistics(metric, outputs, references) for outputs in (before, after)]
    scores = [score_of(metric, each) for each in stats]
    first, second = (resampled_scores(metric, each, resamples, seed) for each in stats)
    low, high = np.quantile(first - second, (0.025, 0.975))
    return Loss(scores[0] - scores[1], float(low), float(high))


def statistics(metric: Metric, outputs: Sequence[Any], references: Sequence[str] | None) -> NDArray[np.float64]:
    """What the metric counts in each example, [examples, counts]; its score follows from their sums."""
    return np.array(metric._extract_corpus_statistics(outputs, references and [references]), np.float64)


def score_of(metric: Metric, stats: NDArray[np.float64]) -> float:
    """The score of all examples together, from the statistics of each."""
    return float(metric._compute_score_from_stats(stats.sum(0)).score)


def resampled_scores(metric: Metric, stats: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """The scores of samples of the examples, [resamples]: the same samples for each system, as in `compare_systems`."""
    draws = np.random.default_rng(seed).choice(len(stats), size=(resamples, len(stats)), replace=True)
    return np.array([score_of(metric, stats[rows]) for rows in draws])


@contextmanager
def _seed(seed: int) -> Iterator[None]:
    """sacrebleu takes its seed from the environment alone."""
    before = os.environ.get(SEED)
    os.environ[SEED] = str(seed)
    try:
        yield
    finally:
        del os.environ[SEED]
        if before is not None:
            os.environ[SEED] = before
