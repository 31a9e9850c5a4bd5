"""ROUGE, BLEU and chrF over a whole corpus: strings in, numbers from 0 to 100 out."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from statistics import fmean

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from seq2seq_distill.config.tasks import TASKS, RougeTokenizer
from seq2seq_distill.data.languages import plain_code
from seq2seq_distill.metrics.rouge import rouge_fmeasures
from seq2seq_distill.metrics.scripts import MOSTLY_DROPPED, NAMES, language_without_spaces
from seq2seq_distill.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

ROUGE = TASKS["summarization"].metrics
# sacrebleu's tokenizer by the first part of a language code; every other language takes 13a.
_BLEU_TOKENIZER = {
    **dict.fromkeys(("zh", "zho", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    # Written without spaces between words: with 13a a whole sentence would be one word.
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"), "char"),
}


def means_of_all(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure that all have."""
    shared = [name for name in figures[0] if all(name in own for own in figures)]
    return {name: sum(own[name] for own in figures) / len(figures) for name in shared}


def score(
    task: str,
    predictions: Sequence[str],
    references: Sequence[str],
    tgt_lang: str | None = None,
    rouge_tokenizer: RougeTokenizer = "default",
) -> dict[str, float]:
    """`rouge` for task "summarization", `bleu` for task "translation"."""
    if task == "summarization":
        return rouge(predictions, references, rouge_tokenizer)
    if task == "translation":
        return bleu(predictions, references, tgt_lang)
    raise ConfigError(f"`task` {task} is not known: choose summarization or translation")


def rouge(
    predictions: Sequence[str], references: Sequence[str], tokenizer: RougeTokenizer = "default"
) -> dict[str, float]:
    """ROUGE-1, -2, -L and -Lsum (Lin 2004): the plain mean over the corpus of F-measures with the stemmer.

    Pegasus writes `<n>` for a line break; it counts as one. For ROUGE-Lsum a text is split at line breaks and
    at ends of sentences. The default tokenizer keeps a-z and 0-9 only: text in another script scores zero, which is
    logged as a warning; "unicode" keeps all letters, and does not stem.

    Returns {"rouge1", "rouge2", "rougeL", "rougeLsum"} from 0 to 100.
    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    warn_of_dropped_text(references, tokenizer)
    scores = rouge_per_example(predictions, references, tokenizer=tokenizer)
    return {key: fmean(values) for key, values in scores.items()}


def rouge_per_example(
    predictions: Sequence[str],
    references: Sequence[str],
    keys: Sequence[str] = ROUGE,
    tokenizer: RougeTokenizer = "default",
) -> dict[str, list[float]]:
    """The F-measures of `rouge`, 0 to 100, example by example, for each of `keys`."""
    _check_corpus(predictions, references)
    predictions, references = ([text.replace("<n>", "\n") for text in side] for side in (predictions, references))
    scores = rouge_fmeasures(predictions, references, keys, tokenizer)
    return {key: [100 * value for value in values] for key, values in scores.items()}


def dropped_by_rouge(references: Sequence[str]) -> float:
    """Share (0 to 1) of references that ROUGE's default tokenizer drops most letters of: Cyrillic, Japanese, ..."""
    return sum(map(_is_mostly_dropped, references)) / len(references) if references else 0.0


def rouge_tokenizer_for(references: Sequence[str]) -> RougeTokenizer:
    """ROUGE's tokenizer where no option names one: unicode, if the default would drop most of the references."""
    return "unicode" if dropped_by_rouge(references) > MOSTLY_DROPPED else "default"


def bleu_language(tgt_lang: str | None, references: Sequence[str]) -> str | None:
    """The language that chooses BLEU's tokenizer: `tgt_lang` or, where it is not given, that of a script without
    spaces that the references are written in, which is logged."""
    if tgt_lang is not None:
        return tgt_lang
    language = language_without_spaces(references)
    if language is not None:
        _log_language(language)
    return language


@cache  # a run scores at each validation, and `label` shard by shard
def _log_language(language: str) -> None:
    logger.info(
        "BLEU splits words as in %s, which the references are written in: set `tgt_lang` for another language",
        NAMES[language],
    )


def bleu(predictions: Sequence[str], references: Sequence[str], tgt_lang: str | None = None) -> dict[str, float]:
    """Corpus BLEU (Papineni et al. 2002) and chrF2 (Popovic 2015) by sacrebleu.

    `tgt_lang` (de, zh_CN, zho_Hans, ja_XX, ...), by default `bleu_language`, chooses BLEU's tokenizer;
    `bleu_signature` tells which one.

    Returns {"bleu", "chrf"} from 0 to 100.
    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    _check_corpus(predictions, references)
    metrics = translation_metrics(bleu_language(tgt_lang, references))
    return {key: metric.corpus_score(predictions, [references]).score for key, metric in metrics.items()}


def translation_metrics(tgt_lang: str | None = None) -> dict[str, Metric]:
    """sacrebleu's metrics of the numbers in `bleu`."""
    return {"bleu": _bleu_metric(tgt_lang), "chrf": CHRF()}


def score_per_example(
    name: str,
    predictions: Sequence[str],
    references: Sequence[str],
    tgt_lang: str | None = None,
    rouge_tokenizer: RougeTokenizer = "default",
) -> list[float]:
    """One of the scores (rouge1, ..., bleu, chrf) of each example by itself, 0 to 100.

    BLEU leaves out the orders of n-grams that a text is too short for, and smooths the others. `tgt_lang` chooses its
    tokenizer; where it is not given, the caller asks `bleu_language`, which looks at more than some examples.
    """
    if not references:
        return []
    if name in ROUGE:
        return rouge_per_example(predictions, references, [name], rouge_tokenizer)[name]
    metric = CHRF() if name == "chrf" else _bleu_metric(tgt_lang, effective_order=True)
    return [metric.sentence_score(p, [r]).score for p, r in zip(predictions, references, strict=True)]


def bleu_signature(tgt_lang: str | None = None) -> dict[str, str]:
    """sacrebleu's signatures of the numbers in `bleu`, to be published with them."""
    metrics = translation_metrics(tgt_lang)
    for metric in metrics.values():
        # A signature states the number of references, which is known after a first score.
        metric.corpus_score(["a"], [["a"]])
    return {key: str(metric.get_signature()) for key, metric in metrics.items()}


def signature(task: str, tgt_lang: str | None, rouge_tokenizer: RougeTokenizer = "default") -> str:
    """How the scores of a task were computed, in one line, to be published with them."""
    if task == "translation":
        return ", ".join(f"{name}: {text}" for name, text in bleu_signature(tgt_lang).items())
    if rouge_tokenizer == "unicode":
        return "ROUGE, F-measure, letters of all scripts, no stemmer"
    return f"rouge-score {version('rouge-score')}, F-measure, Porter stemmer"


def bleu_tokenizer(tgt_lang: str | None = None) -> Callable[[str], str]:
    """Splits a text into BLEU's words, joined by spaces."""
    return _bleu_metric(tgt_lang).tokenizer


def _bleu_metric(tgt_lang: str | None, effective_order: bool = False) -> BLEU:
    code = re.split("[_-]", plain_code(tgt_lang or "").lower())[0]
    return BLEU(tokenize=_available(_BLEU_TOKENIZER.get(code, "13a")), effective_order=effective_order)


@cache  # the warning is for all rows
def _available(tokenizer: str) -> str:
    """The tokenizer, or where it is not installed that of characters."""
    try:
        BLEU(tokenize=tokenizer)
    except RuntimeError:
        logger.warning(
            "BLEU splits texts into characters, because %s is not installed (pip install 'sacrebleu[%s]'): "
            "not comparable with published scores",
            tokenizer,
            tokenizer[:2],
        )
        return "char"
    return tokenizer


def _check_corpus(predictions: Sequence[str], references: Sequence[str]) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    if not references:
        raise DataError("there is nothing to score: give at least one prediction and its reference")


def warn_of_dropped_text(references: Sequence[str], tokenizer: RougeTokenizer = "default") -> None:
    """Cyrillic, Japanese, ... would score zero without a word."""
    if tokenizer == "default" and (dropped := dropped_by_rouge(references)):
        _warn_once(f"{100 * dropped:.1f}%")


@cache  # a run scores at each validation
def _warn_once(share: str) -> None:
    logger.warning(
        "ROUGE keeps only a-z and 0-9: it drops most letters of %s of the references, whose scores mean nothing: set "
        "`rouge_tokenizer` unicode",
        share,
    )


def _is_mostly_dropped(text: str) -> bool:
    letters = [c for c in text.lower() if c.isalnum()]
    return 2 * sum(c.isascii() for c in letters) < len(letters)
