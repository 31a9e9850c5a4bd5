"""How good layouts would be, by the loss on val of their students."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from seq2seq_distill import training
from seq2seq_distill.commands.plan.layouts import STEP_OF, Axes, Layout
from seq2seq_distill.commands.plan.vocabularies import Vocabulary
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.models import architectures

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

logger = logging.getLogger(__name__)


SHOWN_UNTRAINED = {"feed-forward", "heads", "vocabulary"}
"""Dimensions whose cost in loss shows without training."""


class Judge:
    """Takes the losses of layouts on the same rows of val, in nats per token of the whole vocabulary.

    Args:
        run: what is planned; it has data.
        teacher: the teacher's layout.
        config: the teacher's config.
        tokenizer: the teacher's, with the whole vocabulary.
        vocabularies: by their numbers of tokens.
        references: the targets of val.
    """

    def __init__(
        self,
        run: RunConfig,
        teacher: Layout,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        vocabularies: Mapping[int, Vocabulary],
        references: Sequence[str],
    ) -> None:
        self._run, self._teacher, self._vocabularies = run, teacher, vocabularies
        trimmed = [
            load_tokenizer(vocabulary.teacher, run.src_lang, run.tgt_lang)
            for tokens, vocabulary in vocabularies.items()
            if tokens != teacher.vocabulary
        ]
        positions = architectures.max_positions(config)[1]
        self._val = training.ValidationRows.of(references, tokenizer, trimmed, positions)
        self._added: dict[str, dict[Any, float]] = {}
        """By dimension and step, the loss that the step alone adds to the teacher's."""

    def loss(self, layout: Layout, steps: int = 0) -> float:
        """The loss of a layout's student after so many steps of training; it is cut and repaired before."""
        vocabulary = self._vocabularies[layout.vocabulary]
        run = vocabulary.in_run(with_layout(self._run, layout, self._teacher, vocabulary))
        with _warnings_alone():  # each would report the data again
            return training.trial_loss(run, self._val, steps)

    def losses_alone(self, axes: Axes) -> dict[Layout, float]:
        """By layout, the losses of the teacher and of the teacher with each width and each vocabulary alone."""
        whole = self.loss(self._teacher)
        losses = {self._teacher: whole}
        logger.info("the teacher's loss on val is %.3f", whole)
        alone = axes.alone(self._teacher)
        for name in SHOWN_UNTRAINED & alone.keys():
            losses |= {layout: self.loss(layout) for layout in alone[name]}
            self._added[name] = {STEP_OF[name](layout): losses[layout] - whole for layout in alone[name]}
        return losses

    def excess(self, layout: Layout) -> float:
        """What the widths and the vocabulary of a layout add to the loss, if each adds what it adds alone."""
        return sum(steps.get(STEP_OF[name](layout), 0.0) for name, steps in self._added.items())


@contextmanager
def _warnings_alone() -> Iterator[None]:
    """Within this context, the package logs no details."""
    package = logging.getLogger("seq2seq_distill")
    level = package.level
    package.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        package.setLevel(level)


def with_layout(run: RunConfig, layout: Layout, teacher: Layout, vocabulary: Vocabulary) -> RunConfig:
    """The run, with a student of this layout; what is the teacher's is not set, but for depths."""
    student = replace(
        run.student,
        encoder_layers=layout.encoder_layers,
        decoder_layers=layout.decoder_layers,
        encoder_layer_ids=None,
        decoder_layer_ids=None,
        encoder_ffn_dim=None if layout.encoder_ffn_dim == teacher.encoder_ffn_dim else layout.encoder_ffn_dim,
        decoder_ffn_dim=None if layout.decoder_ffn_dim == teacher.decoder_ffn_dim else layout.decoder_ffn_dim,
        num_heads=None if layout.num_heads == teacher.num_heads else layout.num_heads,
    )
    return replace(run, student=student, trim=vocabulary.trim)
