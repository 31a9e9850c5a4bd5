"""Agreement of candidates with each other, for minimum Bayes risk decoding (Kumar and Byrne 2004).

The utility of a candidate is the mean of its scores against all candidates, itself included, each taken as a reference
(Freitag et al. 2022, "High quality rather than high model probability", equation 3). N-grams of each candidate are
counted once; all pairs are then compared at once, and memory grows linearly with the number of candidates.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.config.tasks import RougeTokenizer
from seq2seq_distill.metrics.corpus import bleu_tokenizer, rouge_per_example

CHRF_ORDER, CHRF_BETA = 6, 2
BLEU_ORDER = 4

Utilities = NDArray[np.float64]


def utilities(
    metric: str, texts: Sequence[str], language: str | None = None, rouge_tokenizer: RougeTokenizer = "default"
) -> Utilities:
    """The mean score of each text against all of them, 0 to 100, [texts].

    Args:
        metric: chrf, bleu (of a sentence, see `score_per_example`) or rougeL.
        texts: candidates for one row; a text that occurs twice counts twice.
        language: chooses BLEU's tokenizer.
        rouge_tokenizer: that of ROUGE.
    """
    if metric == "chrf":
        return _mean_chrf(texts)
    if metric == "bleu":
        tokenize = bleu_tokenizer(language)
        return _mean_bleu([tokenize(text.rstrip()).split() for text in texts])
    means = []
    for text in texts:
        scores = rouge_per_example([text] * len(texts), texts, [metric], rouge_tokenizer)[metric]
        means.append(float(np.mean(scores)))
    return np.array(means)


def _mean_chrf(texts: Sequence[str]) -> Utilities:
    """As sacrebleu's chrF2: the harmonic mean of precision and recall, each averaged over the orders that both have."""
    letters = ["".join(text.split()) for text in texts]
    counts = [_counts(letters, order) for order in range(1, CHRF_ORDER + 1)]

    def of_row(row: int) -> Utilities:
        hypothesis_has = [count[row].sum() for count in counts]
        precision, recall, orders = np.zeros(len(texts)), np.zeros(len(texts)), np.zeros(len(texts))
        for count, total in zip(counts, hypothesis_has, strict=True):
            totals = count.sum(axis=1)
            both = (totals > 0) & (total > 0)
            matches = np.minimum(count, count[row]).sum(axis=1)
            precision += np.where(both, matches / max(total, 1), 0)
            recall += np.where(both, matches / np.maximum(totals, 1), 0)
            orders += both
        precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
        below = CHRF_BETA**2 * precision + recall
        return 100 * (1 + CHRF_BETA**2) * precision * recall / np.where(below > 0, below, 1)

    return _mean_over_pairs(of_row, len(texts))


def _mean_bleu(texts: Sequence[list[str]]) -> Utilities:
    """As sacrebleu's BLEU of a sentence: orders without n-grams are left out, and those without a match count half, a
    quarter, ... of one (Chen and Cherry 2014, smoothing 3)."""
    counts = [_counts(texts, order) for order in range(1, BLEU_ORDER + 1)]
    lengths = np.array([len(text) for text in texts])

    def of_row(row: int) -> Utilities:
        totals = [count[row].sum() for count in counts]
        orders = sum(total > 0 for total in totals)
        if not orders:
            return np.zeros(len(texts))
        logs, smoothed, first = np.zeros(len(texts)), np.ones(len(texts)), np.zeros(len(texts))
        for count, total in zip(counts[:orders], totals[:orders], strict=True):
            matches = np.minimum(count, count[row]).sum(axis=1)
            first = first if count is not counts[0] else matches
            smoothed = np.where(matches > 0, smoothed, smoothed * 2)
            logs += np.log(np.where(matches > 0, matches, 1 / smoothed) / total)
        brevity = np.minimum(1 - lengths / lengths[row], 0)
        return np.where(first > 0, 100 * np.exp(brevity + logs / orders), 0)

    return _mean_over_pairs(of_row, len(texts))


def _mean_over_pairs(of_row: Callable[[int], Utilities], rows: int) -> Utilities:
    return np.array([of_row(row).mean() for row in range(rows)])


def _counts(texts: Sequence[Sequence[str]], order: int) -> NDArray[np.int32]:
    """How often each text has each n-gram of any of them, [texts, n-grams]."""
    grams = [Counter(zip(*(text[start:] for start in range(order)), strict=False)) for text in texts]
    number = {gram: place for place, gram in enumerate(dict.fromkeys(gram for each in grams for gram in each))}
    counts = np.zeros((len(texts), len(number)), dtype=np.int32)
    for row, each in enumerate(grams):
        counts[row, [number[gram] for gram in each]] = list(each.values())
    return counts
