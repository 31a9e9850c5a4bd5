"""ROUGE, BLEU and chrF over a whole corpus: strings in, numbers from 0 to 100 out."""

import logging
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import fmean

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric
from sentencex import segment

from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

ROUGE = TASKS["summarization"].metrics
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
    predictions: Sequence[str], references: Sequence[str], keys: Sequence[str] = ROUGE
) -> dict[str, list[float]]:
    """The F-measures of `rouge`, 0 to 100, example by example, for each of `keys`."""
    _check_corpus(predictions, references)
    predictions, references = [_line_breaks(p) for p in predictions], [_line_breaks(r) for r in references]
    _warn_of_dropped_text(references)
    if "rougeLsum" in keys:
        # The other three do not see line breaks.
        predictions = [_sentence_per_line(p) for p in predictions]
        references = [_sentence_per_line(r) for r in references]
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
    if name in ROUGE:
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


def signature(task: str, tgt_lang: str | None) -> str:
    """How the scores of a task were computed, in one line, to be published with them."""
    if task == "translation":
        return ", ".join(f"{name}: {text}" for name, text in bleu_signature(tgt_lang).items())
    return f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer"


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


def _sentence_per_line(text: str) -> str:
    """ROUGE reads English letters alone, so ends of sentences are those of English."""
    # sentencex 1.0.32 panics at a no-break space behind an initial; which space it is makes no difference to ROUGE.
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(sentence for line in lines for sentence in segment("en", line))


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
