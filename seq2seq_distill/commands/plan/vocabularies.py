"""The vocabularies that a student can have, and the teacher trimmed to each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.commands.plan.options import FRACTIONS, PlanConfig
from seq2seq_distill.config import RunConfig, TrimConfig
from seq2seq_distill.data.texts import load_texts
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.models import forward
from seq2seq_distill.shrink.trimming import ParallelTexts
from seq2seq_distill.training.components import teacher_of, teacher_path
from seq2seq_distill.training.trimming import parallel, trim_teacher
from seq2seq_distill.utils.errors import ConfigError, ModelError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

ENOUGH_KEPT = 0.9
"""Of the tokens of held-out targets: with fewer, a vocabulary is tried only if asked for."""


@dataclass(frozen=True)
class Vocabulary:
    """The teacher with all or some of its tokens."""

    tokens: int
    trim: TrimConfig
    """What a run sets to get it."""
    teacher: str
    """Folder or hub id."""
    length_growth: float | None = None
    """Tokens of held-out targets, over those of the whole vocabulary; None for the whole one and without data."""
    kept: float | None = None
    """The share of the tokens of held-out targets that it still has; None as above."""

    def in_run(self, run: RunConfig) -> RunConfig:
        """The run with this teacher, which is not trimmed again."""
        return replace(run, teacher=self.teacher, trim=TrimConfig())

    def load(self, run: RunConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The teacher, ready to decode as in the run, and its tokenizer."""
        run = self.in_run(run)
        tokenizer = load_tokenizer(str(teacher_path(run)), run.src_lang, run.tgt_lang)
        teacher = teacher_of(run, tokenizer)
        assert teacher is not None
        return teacher.model, tokenizer


def number_of_tokens(model: PreTrainedModel) -> int:
    """Size of a model's vocabulary."""
    return len(forward.output_head(model).weight)


def whole_vocabulary(config: RunConfig, teacher: PreTrainedModel) -> Vocabulary:
    """The teacher's."""
    return Vocabulary(number_of_tokens(teacher), TrimConfig(), str(config.teacher))


def make_vocabularies(
    config: PlanConfig, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> dict[int, Vocabulary]:
    """The vocabularies to try, by their numbers of tokens, the largest first; trimmed teachers are saved in `folder`.

    Without data, tokens are kept in the order of their ids: only time and size are known then.

    Raises:
        UserError: the vocabulary cannot be cut, or not so far; unless nothing asked for that.
    """
    whole = whole_vocabulary(config, teacher)
    by_default = config.vocabulary is None and not config.trim.is_on
    found = {}
    texts: tuple[ParallelTexts, ParallelTexts | None] | None = None
    for trim in _wanted(config, whole.tokens):
        if not trim.is_on:
            found[whole.tokens] = whole
            continue
        texts = texts or _texts(config, tokenizer)
        place = folder / f"vocabulary_{len(list(folder.iterdir()))}"
        try:
            report = trim_teacher(replace(config.run, trim=trim), place, *texts)
        except UserError as error:
            if isinstance(error, ModelError) and by_default:
                logger.info("the vocabulary stays whole: %s", error)
                break
            if isinstance(error, ConfigError) and not config.trim.is_on:
                if config.vocabulary is not None:
                    raise ConfigError(f"`vocabulary`: {error}") from None
                logger.info("a vocabulary of %s tokens is too small: it is left out", trim.size)
                continue
            raise
        made = _made(trim, place, report)
        if by_default and made.kept is not None and made.kept < ENOUGH_KEPT:
            logger.info(
                "a vocabulary of %d tokens is left out: %.1f%% of the tokens of held-out targets stay, and %.0f%% "
                "should; --vocabulary 1 %d tries it all the same",
                *(made.tokens, 100 * made.kept, 100 * ENOUGH_KEPT, made.tokens),
            )
            continue
        found.setdefault(made.tokens, made)
    return dict(sorted(found.items(), reverse=True))


def _wanted(config: PlanConfig, whole: int) -> Iterator[TrimConfig]:
    if config.trim.is_on:
        yield config.trim
        return
    values = config.vocabulary or ((1.0,) if config.ensemble.teachers else FRACTIONS)
    for size in dict.fromkeys(round(value * whole) if value <= 1 else int(value) for value in values):
        yield TrimConfig() if size >= whole else replace(config.trim, size=size)


def _texts(config: PlanConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[ParallelTexts, ParallelTexts | None]:
    """The texts to count pieces in, and those on which to say what is lost."""
    if config.data:
        texts = load_texts(config.run, [demo.data_source(name) for name in config.data])
        return parallel(texts, "train"), parallel(texts, "val")
    pieces = tokenizer.batch_decode(torch.arange(len(tokenizer))[:, None].tolist())
    return ParallelTexts(pieces, pieces), None


def _made(trim: TrimConfig, folder: Path, report: Mapping[str, Any]) -> Vocabulary:
    targets = (report["held_out"] or {}).get("target", {})
    tokens = report["vocabulary"]["after"]["target"]
    return Vocabulary(tokens, trim, str(folder), targets.get("length_growth"), targets.get("coverage"))
