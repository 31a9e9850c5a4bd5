"""Scores of every model with intervals and p-values, and of every example for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from seq2seq_distill import metrics
from seq2seq_distill.config.tasks import TASKS

if TYPE_CHECKING:
    from seq2seq_distill.config.tasks import RougeTokenizer
    from seq2seq_distill.metrics import Loss, ScoreWithInterval


def corpus_scores(
    task: str,
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    language: str | None,
    rouge_tokenizer: RougeTokenizer,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, ScoreWithInterval]]:
    """By metric and system: ROUGE for task "summarization", BLEU and chrF2 for "translation"."""
    if task == "translation":
        return {
            name: metrics.compare_systems(metric, systems, references, resamples, seed)
            for name, metric in metrics.translation_metrics(language).items()
        }
    values = {
        name: metrics.rouge_per_example(texts, references, tokenizer=rouge_tokenizer) for name, texts in systems.items()
    }
    keys = next(iter(values.values()))
    return {key: mean_scores({name: own[key] for name, own in values.items()}, resamples, seed) for key in keys}


def loss_of_main_score(
    task: str,
    before: Sequence[str],
    after: Sequence[str],
    references: Sequence[str],
    language: str | None,
    resamples: int,
    seed: int,
) -> Loss:
    """How much of the task's main score the outputs `after` lose, compared with those `before`."""
    main = TASKS[task].main
    if task == "translation":
        metric = metrics.translation_metrics(language)[main]
        return metrics.loss_of_score(metric, before, after, references, resamples, seed)
    tokenizer = metrics.rouge_tokenizer_for(references)
    first, second = (
        metrics.rouge_per_example(texts, references, tokenizer=tokenizer)[main] for texts in (before, after)
    )
    return metrics.loss_of_score(metrics.Mean(), first, second, None, resamples, seed)


def mean_scores(values: Mapping[str, Sequence[float]], resamples: int, seed: int) -> dict[str, ScoreWithInterval]:
    """By system, of a number for each of its outputs."""
    return metrics.compare_systems(metrics.Mean(), values, None, resamples, seed)


def example_scores(
    task: str, texts: Sequence[str], references: Sequence[str], rouge_tokenizer: RougeTokenizer = "default"
) -> list[float]:
    """The task's `per_example` score of each output, 0 to 100."""
    return metrics.score_per_example(TASKS[task].per_example, texts, references, rouge_tokenizer=rouge_tokenizer)
