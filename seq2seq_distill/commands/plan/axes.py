"""From the options of a plan to the steps of each dimension, for a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from transformers import PreTrainedConfig

from seq2seq_distill.commands.plan.layouts import Axes, Layout, encoder_steps, halved
from seq2seq_distill.commands.plan.options import FRACTIONS, PlanConfig
from seq2seq_distill.models import architectures
from seq2seq_distill.models.layer_map import check_depth
from seq2seq_distill.shrink.width import resolve_widths, widths_of
from seq2seq_distill.utils.errors import ModelError

Step = TypeVar("Step", int, tuple[int, int])


def axes_of(config: PlanConfig, teacher: PreTrainedConfig, vocabularies: Iterable[int]) -> Axes:
    """The steps to try for a teacher with this config, and for vocabularies of so many tokens.

    Raises:
        ModelError: the teacher has fewer layers or heads, or heads that cannot go.
    """
    encoder, decoder = architectures.depths(teacher)
    return Axes(
        _depths("encoder", encoder, config.encoder_depths, encoder_steps(encoder)),
        _depths("decoder", decoder, config.decoder_depths, halved(decoder)),
        _ffn(config, teacher),
        _heads(config, teacher),
        tuple(vocabularies),
    )


def check_layouts(axes: Axes, teacher: Layout) -> None:
    """Raise ModelError if there is nothing to try."""
    if not axes.layouts(teacher):
        raise ModelError("`teacher` has one encoder and one decoder layer: there is no smaller student to plan")


def _depths(side: str, depth: int, given: Sequence[int] | None, default: Sequence[int]) -> tuple[int, ...]:
    for wanted in given or ():
        check_depth(depth, wanted, f"`{side}_depths`")
    return _descending(given or default)


def _ffn(config: PlanConfig, teacher: PreTrainedConfig) -> tuple[tuple[int, int], ...]:
    fixed = config.student.encoder_ffn_dim, config.student.decoder_ffn_dim
    if any(value is not None for value in fixed):
        return (resolve_widths(teacher, *fixed).ffn,)
    # A fraction of 1 is the teacher's, where a run would read a width of 1.
    fractions = [None if fraction == 1 else fraction for fraction in config.ffn or FRACTIONS]
    return _descending(resolve_widths(teacher, fraction, fraction).ffn for fraction in fractions)


def _heads(config: PlanConfig, teacher: PreTrainedConfig) -> tuple[int | None, ...]:
    whole = widths_of(teacher).num_heads
    given = [config.student.num_heads] if config.student.num_heads is not None else config.heads
    if whole is None:
        if given is not None:
            raise ModelError(
                f"`heads` {' '.join(map(str, given))}: the heads of {teacher.model_type} models divide their width and "
                "cannot be removed alone: leave it out"
            )
        return (None,)
    for heads in given or ():
        if heads > whole:
            raise ModelError(f"`heads` {heads} exceeds the teacher's {whole}: choose 1 to {whole}")
    return _descending(given or [whole, -(-whole // 2)])


def _descending(values: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(sorted(set(values), reverse=True))
