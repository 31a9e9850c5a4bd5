"""Scores of every model with intervals and p-values, and of every example for itself."""

from collections.abc import Mapping, Sequence

from seq2seq_distill.metrics.corpus import rouge_per_example, score_per_example, translation_metrics
from seq2seq_distill.metrics.significance import Mean, ScoreWithInterval, compare_systems

EXAMPLE_SCORE = {"summarization": "ROUGE-L", "translation": "chrF2"}
"""What an output by itself is scored by."""


def corpus_scores(
    task: str,
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    tgt_lang: str | None,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, ScoreWithInterval]]:
    """By metric and system: ROUGE for task "summarization", BLEU and chrF2 for "translation"."""
    if task == "translation":
        metrics = translation_metrics(tgt_lang)
        return {name: compare_systems(metric, systems, references, resamples, seed) for name, metric in metrics.items()}
    values = {name: rouge_per_example(texts, references) for name, texts in systems.items()}
    keys = next(iter(values.values()))
    return {key: mean_scores({name: own[key] for name, own in values.items()}, resamples, seed) for key in keys}


def mean_scores(values: Mapping[str, Sequence[float]], resamples: int, seed: int) -> dict[str, ScoreWithInterval]:
    """By system, of a number for each of its outputs."""
    return compare_systems(Mean(), values, None, resamples, seed)


def example_scores(task: str, texts: Sequence[str], references: Sequence[str]) -> list[float]:
    """`EXAMPLE_SCORE` of each output, 0 to 100."""
    return score_per_example("rougeL" if task == "summarization" else "chrf", texts, references)
