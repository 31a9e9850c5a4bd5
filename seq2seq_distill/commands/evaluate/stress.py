"""Scores on noisy sources: what the models still make of capitals, typing errors and the like."""

import logging
from collections.abc import Callable, Sequence
from random import Random

from datasets import Dataset

from seq2seq_distill import metrics
from seq2seq_distill.commands.evaluate.comparison import Candidate
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.config.noise import CHANGES_TARGETS, NoiseKind
from seq2seq_distill.data.noise.kinds import KINDS
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder

logger = logging.getLogger(__name__)

UNWRITABLE = 0.01
"""Share of examples with more unknown tokens than their own texts have, above which a kind is left out."""
StressScores = dict[str, dict[str, dict[str, float]]]
"""By kind, model and metric; "clean" is the data as it is."""


def stress_scores(
    config: EvaluateConfig,
    candidates: Sequence[Candidate],
    rows: Dataset,
    decode: Callable[[Candidate, list[str]], list[str]],
) -> StressScores:
    """The models' scores on sources with each kind of noise, in every example.

    References are changed as noise changes the targets of training examples. A kind that the vocabulary of a model
    cannot write is left out, and the log names it. Files of outputs are left out.

    Args:
        config: of the evaluation.
        candidates: with their outputs for the clean sources.
        rows: sources and targets.
        decode: gives a model's outputs.
    """
    models = [candidate for candidate in candidates if candidate.opened is not None]
    sources, references = rows["source"][:], rows["target"][:]
    language = metrics.bleu_language(config.tgt_lang, references) if config.task == "translation" else None

    def scores(texts: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
        return metrics.score(str(config.task), texts, targets, language, config.rouge_tokenizer)

    found = {"clean": {model.name: scores(model.texts, references) for model in models}}
    for kind in config.stress:
        inputs, targets = _with_noise(kind, sources, references, config)
        if model := next((model for model in models if not _can_write(kind, model, rows, inputs, targets)), None):
            logger.warning("stress %s is left out: the vocabulary of %s cannot write it", kind, model.name)
            continue
        found[kind] = {}
        for model in models:
            found[kind][model.name] = scores(decode(model, inputs), targets)
            logger.info("%s: decoded %d examples with %s", model.name, len(inputs), kind)
    return found


def _with_noise(
    kind: NoiseKind, sources: Sequence[str], targets: Sequence[str], config: EvaluateConfig
) -> tuple[list[str], list[str]]:
    languages = (config.src_lang, config.tgt_lang)
    pairs = [
        KINDS[kind]((source, target), Random(f"{kind} {config.seed} {row}"), languages)
        for row, (source, target) in enumerate(zip(sources, targets, strict=True))
    ]
    return [source for source, _ in pairs], [target for _, target in pairs]


def _can_write(kind: NoiseKind, candidate: Candidate, rows: Dataset, sources: list[str], targets: list[str]) -> bool:
    """Whether the noisy texts have tokens in a model's vocabulary, as far as the clean ones have them."""
    if kind not in CHANGES_TARGETS or candidate.opened is None:
        return True
    worse = [False] * len(sources)
    for side, column, texts in (("text", "source", sources), ("text_target", "target", targets)):
        encoder = TextEncoder(candidate.opened.tokenizer, side)  # type: ignore[arg-type]
        before, after = (encoder.encode(each).unknown for each in (rows[column][:], texts))
        worse = [was or now > then for was, then, now in zip(worse, before, after, strict=True)]
    return sum(worse) <= UNWRITABLE * len(worse)
