"""Which candidates of a row stay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seq2seq_distill import metrics
from seq2seq_distill.config.tasks import RougeTokenizer

CLOSEST_BY = {"best-chrf": "chrf", "best-bleu": "bleu", "best-rouge": "rougeL"}
CONSENSUS_BY = {"mbr-chrf": "chrf", "mbr-bleu": "bleu", "mbr-rouge": "rougeL"}


@dataclass(frozen=True)
class Candidate:
    """One target for a row."""

    text: str
    score: float | None
    """Mean log-probability of its tokens under the model that wrote it, or scored it; None if a server gives none."""
    gain: float | None = None
    """By how much the score is above that of the same target for another row's source, where that was asked for."""
    source_cut: bool | None = None
    """Whether the source was longer than the model reads; None in folders of before this was written down."""
    target_cut: bool | None = None
    """Whether the target reached the limit of tokens before it ended; as above."""
    token_logprobs: tuple[float, ...] | None = None
    """Log-probability of each token that the model wrote, where that was asked for and the text is as it wrote it."""
    token_ends: tuple[int, ...] | None = None
    """Where each of them ends, in bytes of the text in UTF-8; the end of the sequence is one byte behind the text."""


def choose(
    keep: str,
    texts: Sequence[str],
    reference: str,
    language: str | None = None,
    rouge_tokenizer: RougeTokenizer = "default",
) -> list[int]:
    """Numbers of the candidates that stay, in order.

    Args:
        keep: `top1`, the first; `best-chrf`, `best-bleu`, `best-rouge`, the one with the highest score against the
            reference, of equal ones the first; `mbr-chrf`, `mbr-bleu`, `mbr-rouge`, the one with the highest mean score
            against all candidates of the row (minimum Bayes risk); `all`, each text once.
        texts: the candidates of one row, the likeliest first.
        reference: the row's own target.
        language: chooses BLEU's tokenizer.
        rouge_tokenizer: that of ROUGE.
    """
    if keep == "all":
        return [number for number, text in enumerate(texts) if text not in texts[:number]]
    if keep == "top1" or len(texts) == 1:
        return [0]
    if keep in CONSENSUS_BY:
        means = metrics.utilities(CONSENSUS_BY[keep], texts, language, rouge_tokenizer)
        return [int(np.argmax(means.round(9)))]  # of equal ones the first, whatever their last bits
    closeness = metrics.score_per_example(CLOSEST_BY[keep], texts, [reference] * len(texts), language, rouge_tokenizer)
    return [max(range(len(texts)), key=closeness.__getitem__)]
