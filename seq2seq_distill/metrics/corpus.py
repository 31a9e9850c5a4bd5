"""ROUGE, BLEU and chrF over a whole corpus: strings in, numbers from 0 to 100 out."""

import logging
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from pysbd import Segmenter
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from seq2seq_distill.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

ROUGE_KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
BLEU_KEYS = ("bleu", "chrf")
MONITORS = {**dict.fromkeys((*ROUGE_KEYS, *BLEU_KEYS), "max"), "loss": "min"}
"""The usual values to choose the best model by, and which end of the scale is the better one."""

# sacrebleu's tokenizer by the first part of a language code; every other language takes 13a.
_BLEU_TOKENIZER = {
    **dict.fromkeys(("zh", "zho", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    # Written without spaces between words: with 13a a whole sentence would be one word.
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya"), "char"),
}


def means_of_all(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure that all have."""
    shared = [name for name in figures[0] if all(name in own for own in figures)]
    return {name: sum(own[name] for own in figures) / len(figures) for name in shared}


def monitor_mode(name: str) -> str:
    """Whether a larger or a smaller `name` is better: "max" or "min". A leading "val_" is ignored.

    Raises ConfigError for a name that is neither a score nor a loss.
    """
    bare = name.removeprefix("val_")
    if bare in MONITORS:
        return MONITORS[bare]
    if "loss" in bare.split("_"):
        return "min"
    raise ConfigError(f"`eval.monitor` {name} is not known: choose one of {', '.join(MONITORS)}")


def score(
    task: str, predictions: Sequence[str], references: Sequence[str], tgt_lang: str | None = None
) -> dict[str, float]:
    """`rouge` for task "summarization", `bleu` for task "translation"."""
    if task == "summarization":
        return rouge(predictions, references)
    if task == "translation":
        return bleu(predictions, references, tgt_lang)
    raise ConfigError(f"`task` {task} is not known: choose summarization or translation")


def rouge(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, -2, -L and -Lsum (Lin 2004): the plain mean over the corpus of F-measures with the stemmer.

    Pegasus writes `<n>` for a line break; it counts as one. For ROUGE-Lsum a text is split at line breaks and
    at ends of sentences. The tokenizer keeps a-z and 0-9 only: text in another script scores zero, which is
    logged as a warning.

    Returns {"rouge1", "rouge2", "rougeL", "rougeLsum"} from 0 to 100.
    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    return {key: fmean(values) for key, values in rouge_per_example(predictions, references).items()}


def rouge_per_example(
    predictions: Sequence[str], references: Sequence[str], keys: Sequence[str] = ROUGE_KEYS
) -> dict[str, list[float]]:
    """The F-measures of `rouge`, 0 to 100, example by example, for each of `keys`."""
    _check_corpus(predictions, references)
    predictions, references = [_line_breaks(p) for p in predictions], [_line_breaks(r) for r in references]
    _warn_of_dropped_text(references)
    if "rougeLsum" in keys:
        segmenter = Segmenter(language="en", clean=False)
        # The other three do not see line breaks.
        predictions = [_sentence_per_line(p, segmenter) for p in predictions]
        references = [_sentence_per_line(r, segmenter) for r in references]
    scorer = RougeScorer(list(keys), tokenizer=DefaultTokenizer(use_stemmer=True))
    scores = [scorer.score(r, p) for p, r in zip(predictions, references, strict=True)]
    return {key: [100 * s[key].fmeasure for s in scores] for key in keys}


def bleu(predictions: Sequence[str], references: Sequence[str], tgt_lang: str | None = None) -> dict[str, float]:
    """Corpus BLEU (Papineni et al. 2002) and chrF2 (Popovic 2015) by sacrebleu.

    `tgt_lang` (de, zh_CN, zho_Hans, ja_XX, ...) chooses BLEU's tokenizer; `bleu_signature` tells which one.

    Returns {"bleu", "chrf"} from 0 to 100.
    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    _check_corpus(predictions, references)
    metrics = translation_metrics(tgt_lang)
    return {key: metric.corpus_score(predictions, [references]).score for key, metric in metrics.items()}


def translation_metrics(tgt_lang: str | None = None) -> dict[str, Metric]:
    """sacrebleu's metrics of the numbers in `bleu`."""
    return {"bleu": _bleu_metric(tgt_lang), "chrf": CHRF()}


def score_per_example(
    name: str, predictions: Sequence[str], references: Sequence[str], tgt_lang: str | None = None
) -> list[float]:
    """One of the scores (rouge1, ..., bleu, chrf) of each example by itself, 0 to 100.

    BLEU leaves out the orders of n-grams that a text is too short for, and smooths the others.
    """
    if not references:
        return []
    if name in ROUGE_KEYS:
        return rouge_per_example(predictions, references, [name])[name]
    metric = CHRF() if name == "chrf" else _bleu_metric(tgt_lang, effective_order=True)
    return [metric.sentence_score(p, [r]).score for p, r in zip(predictions, references, strict=True)]


def bleu_signature(tgt_lang: str | None = None) -> dict[str, str]:
    """sacrebleu's signatures of the numbers in `bleu`, to be published with them."""
    metrics = translation_metrics(tgt_lang)
    for metric in metrics.values():
        # A signature states the number of references, which is known after a first score.
        metric.corpus_score(["a"], [["a"]])
    return {key: str(metric.get_signature()) for key, metric in metrics.items()}


def paired_bootstrap(
    task: str,
    system: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[str],
    *,
    n: int = 1000,
    seed: int = 12345,
    tgt_lang: str | None = None,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """Is `system` better than `baseline`? Paired bootstrap resampling (Koehn 2004), one-sided.

    The test set is drawn `n` times with replacement and both are scored on each draw: mean ROUGE-L for task
    "summarization", corpus BLEU for "translation". p = (1 + draws in which `system` is not ahead) / (1 + n).
    Where the outputs of several runs on one test set are pooled, `groups` (each row's number in that test
    set, say) keeps the rows of one input together, since these are not independent.

    Returns {"score", "baseline", "p"}: both scores on the whole set, 0 to 100, and p.
    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    _check_corpus(system, references)
    _check_corpus(baseline, references)
    if groups is not None and len(groups) != len(references):
        raise ValueError(f"{len(groups)} groups for {len(references)} references")
    statistics, total = _sufficient_statistics(task, tgt_lang)
    names = list(range(len(references))) if groups is None else list(groups)
    ours, theirs = (_sum_by_group(statistics(texts, references), names) for texts in (system, baseline))
    rng = np.random.default_rng(seed)
    not_ahead = 0
    for _ in range(n):
        times_drawn = np.bincount(rng.integers(len(ours), size=len(ours)), minlength=len(ours))
        not_ahead += total(times_drawn @ ours) <= total(times_drawn @ theirs)
    return {
        "score": total(ours.sum(axis=0)),
        "baseline": total(theirs.sum(axis=0)),
        "p": (1 + not_ahead) / (1 + n),
    }


Statistics = NDArray[np.float64]


def _sufficient_statistics(
    task: str, tgt_lang: str | None
) -> tuple[Callable[[Sequence[str], Sequence[str]], Statistics], Callable[[Statistics], float]]:
    """A function from texts to a row of numbers per example, and one from a sum of such rows to the score."""
    if task == "summarization":
        return _rouge_statistics, lambda sums: float(sums[0] / sums[1])
    if task != "translation":
        raise ConfigError(f"`task` {task} is not known: choose summarization or translation")
    # The effective order is what sacrebleu asks for with single sentences; the counts do not depend on it.
    metric = _bleu_metric(tgt_lang, effective_order=True)

    def statistics(texts: Sequence[str], references: Sequence[str]) -> Statistics:
        scores = [metric.sentence_score(t, [r]) for t, r in zip(texts, references, strict=True)]
        return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], dtype=np.float64)

    return statistics, _bleu_of_sums


def _rouge_statistics(texts: Sequence[str], references: Sequence[str]) -> Statistics:
    values = np.array(rouge_per_example(texts, references, ["rougeL"])["rougeL"])
    return np.stack([values, np.ones_like(values)], axis=1)


def _bleu_of_sums(sums: Statistics) -> float:
    """BLEU from [length, reference length, matches of orders 1 to 4, n-grams of orders 1 to 4]."""
    sys_len, ref_len, *counts = (int(x) for x in sums)
    return float(BLEU.compute_bleu(counts[:4], counts[4:], sys_len, ref_len, smooth_method="exp").score)


def _sum_by_group(rows: Statistics, groups: Sequence[Hashable]) -> Statistics:
    number: dict[Hashable, int] = {}
    index = [number.setdefault(group, len(number)) for group in groups]
    sums = np.zeros((len(number), rows.shape[1]))
    np.add.at(sums, index, rows)
    return sums


def _bleu_metric(tgt_lang: str | None, effective_order: bool = False) -> BLEU:
    code = re.split("[_-]", (tgt_lang or "").strip("<>").lower())[0]
    tokenizer = _BLEU_TOKENIZER.get(code, "13a")
    try:
        return BLEU(tokenize=tokenizer, effective_order=effective_order)
    except RuntimeError:
        logger.warning(
            "BLEU splits %s into characters, because %s is not installed (pip install 'sacrebleu[%s]'): "
            "not comparable with published scores",
            tgt_lang,
            tokenizer,
            tokenizer[:2],
        )
        return BLEU(tokenize="char", effective_order=effective_order)


def _check_corpus(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    if not references:
        raise DataError("there is nothing to score: give at least one prediction and its reference")


def _line_breaks(text: str) -> str:
    return text.replace("<n>", "\n")


def _sentence_per_line(text: str, segmenter: Segmenter) -> str:
    return "\n".join(s for line in text.splitlines() for s in _sentences(line.strip(), segmenter))


def _sentences(line: str, segmenter: Segmenter) -> list[str]:
    # Most one-line summaries have no mark before their end, and pysbd is slow: 3 ms for 350 characters.
    if not re.search(r"[^\w\s,'-].*\w", line):
        return [line]
    sentences = segmenter.segment(line)
    # pysbd finds its sentences again in the text and leaves out, without a word, one that it has changed.
    return sentences if "".join("".join(sentences).split()) == "".join(line.split()) else [line]


def _warn_of_dropped_text(references: Sequence[str]) -> None:
    """Cyrillic, Japanese, ... would score zero without a word."""
    dropped = sum(_is_mostly_dropped(text) for text in references)
    if dropped:
        logger.warning(
            "ROUGE keeps only a-z and 0-9: it drops most letters of %.1f%% of the references, "
            "whose scores mean nothing",
            100 * dropped / len(references),
        )


def _is_mostly_dropped(text: str) -> bool:
    letters = [c for c in text.lower() if c.isalnum()]
    return 2 * sum(c.isascii() for c in letters) < len(letters)
