"""Make a student narrower: choose which feed-forward units and heads stay, repair what reads them, cut the others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seq2seq_distill.models import architectures
from seq2seq_distill.shrink import blocks
from seq2seq_distill.shrink.blocks import SIDES, Block
from seq2seq_distill.shrink.calibration import Calibration
from seq2seq_distill.shrink.hidden_size import check_hidden_size
from seq2seq_distill.shrink.repair import columns, largest, least_squares, unit_scores
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

MULTIPLE = 8
"""Fractions of a width are rounded to a multiple of this, which hardware and 8-bit kernels like."""


@dataclass(frozen=True)
class Widths:
    """The widths of a student."""

    ffn: tuple[int, int]
    """Inner width of the encoder's and of the decoder's feed-forward blocks."""
    num_heads: int | None
    """Of T5 and its relatives; None where the number follows from the width of the model."""
    d_model: int
    """Width of the hidden states."""

    def by_option(self) -> dict[str, int]:
        """The widths by the options that set them."""
        heads = {} if self.num_heads is None else {"num_heads": self.num_heads}
        return {"encoder_ffn_dim": self.ffn[0], "decoder_ffn_dim": self.ffn[1], **heads, "d_model": self.d_model}


def widths_of(config: PreTrainedConfig) -> Widths:
    """The widths of a model with this config."""
    key = architectures.architecture_of(config).num_heads
    heads = None if key is None else getattr(config, key)
    return Widths(architectures.ffn_dims(config), heads, architectures.widths(config)[1])


def resolve_widths(
    config: PreTrainedConfig,
    encoder_ffn_dim: float | None = None,
    decoder_ffn_dim: float | None = None,
    num_heads: int | None = None,
    d_model: int | None = None,
) -> Widths:
    """The widths that a student of a teacher with this config gets; None stands for the teacher's.

    Raises:
        ModelError: more than the teacher has, or a shape that no config of the architecture describes.
    """
    architecture, whole = architectures.architecture_of(config), widths_of(config)
    wanted = (encoder_ffn_dim, decoder_ffn_dim)
    encoder, decoder = (
        _size(f"`student.{side}_ffn_dim`", value, dim)
        for side, value, dim in zip(SIDES, wanted, whole.ffn, strict=True)
    )
    if encoder != decoder and not architecture.nested and len(set(architecture.ffn_dim)) == 1:
        raise ModelError(
            f"`student.encoder_ffn_dim` {encoder} and `student.decoder_ffn_dim` {decoder}: {architecture.model_type} "
            f"models have one {architecture.ffn_dim[0]} for both stacks: set both to the same value"
        )
    if d_model is not None:
        check_hidden_size(config, d_model)
    heads = whole.num_heads
    if num_heads is not None:
        if heads is None:
            raise ModelError(
                f"`student.num_heads` {num_heads}: the heads of {architecture.model_type} models divide their width "
                "and cannot be removed alone: leave it out"
            )
        heads = _size("`student.num_heads`", num_heads, heads)
    return Widths((encoder, decoder), heads, d_model or whole.d_model)


def _size(subject: str, value: float | None, whole: int) -> int:
    if value is None:
        return whole
    size = int(value) if value >= 1 else min(whole, max(1, round(value * whole / MULTIPLE)) * MULTIPLE)
    if not 1 <= size <= whole or value <= 0:
        raise ModelError(f"{subject} {value:g} is not possible, the teacher has {whole}: choose 1 to {whole}")
    return size


def set_widths(config: PreTrainedConfig, widths: Widths) -> None:
    """Write the widths of feed-forward blocks and the number of heads into `config`."""
    architectures.set_ffn_dims(config, *widths.ffn)
    key = architectures.architecture_of(config).num_heads
    if key is not None:
        setattr(config, key, widths.num_heads)


def changed_widths(teacher: PreTrainedConfig, student: PreTrainedConfig) -> dict[str, list[int]]:
    """By option, the student's and the teacher's size of what is narrower in the student."""
    sizes, whole = widths_of(student).by_option(), widths_of(teacher).by_option()
    return {name: [size, whole[name]] for name, size in sizes.items() if size != whole[name]}


@torch.no_grad()
def narrow(
    model: PreTrainedModel, widths: Widths, batches: Iterable[Mapping[str, Tensor]], *, repair: bool = True
) -> None:
    """Narrow a model in place, its config too, block by block in the order of the forward pass.

    Of each block, the units that contribute most to its output stay (`repair.unit_scores`); the map that reads them is
    then corrected by least squares. Each block is calibrated on the model whose earlier blocks have been narrowed.

    Args:
        model: in float32 and eval mode.
        widths: at most the model's.
        batches: of calibration data, as in `Calibration`.
        repair: without it, the remaining weights stay as they are.
    """
    before = widths_of(model.config)
    calibration = Calibration(model, batches)
    cuts = [
        cut
        for side, ffn, whole in zip(SIDES, widths.ffn, before.ffn, strict=True)
        for cut in _narrowed_stack(
            model,
            calibration,
            side,
            ffn if ffn < whole else None,
            widths.num_heads if widths.num_heads != before.num_heads else None,
            repair,
        )
    ]
    # Until here the units that go are there, with weights of zero: position biases serve all blocks of a stack.
    for block, kept in cuts:
        block.slice(kept)
    set_widths(model.config, widths)


def _narrowed_stack(
    model: PreTrainedModel,
    calibration: Calibration,
    side: str,
    ffn: int | None,
    heads: int | None,
    repair: bool,
) -> Iterator[tuple[Block, Tensor]]:
    """Each block of a stack that is narrowed, whose output map reads the kept units alone now, and these units."""
    layers = range(len(architectures.layers(model, side)))
    attention = [list(blocks.attention(model, side, layer)) for layer in layers] if heads else [[] for _ in layers]
    shared = None if heads is None else _shared_heads(calibration, [first for first, *_ in attention], heads)
    for layer in layers:
        for number, block in enumerate(attention[layer]):
            assert heads is not None
            yield block, _narrow_output(calibration, block, heads, shared if number == 0 else None, repair)
        if ffn is not None:
            block = blocks.feed_forward(model, side, layer)
            yield block, _narrow_output(calibration, block, ffn, None, repair)


def _shared_heads(calibration: Calibration, attention: Sequence[Block], count: int) -> Tensor | None:
    """The heads that stay in all self-attention of a stack, if its blocks share position biases; otherwise None."""
    if all(block.biases for block in attention) and len(attention) > 1:  # UMT5: each has its own
        return None
    scores = [
        unit_scores(block.output.weight, calibration.moments(block.side, block.output), block.size)
        for block in attention
    ]
    return largest(torch.stack([score / score.sum() for score in scores]).sum(0), count)


def _narrow_output(calibration: Calibration, block: Block, count: int, kept: Tensor | None, repair: bool) -> Tensor:
    """Let the output map of a block read `count` units alone, the best or those given; returns them."""
    moments = calibration.moments(block.side, block.output)
    weight, bias = block.output.weight, block.output.bias
    if kept is None:
        kept = largest(unit_scores(weight, moments, block.size), count)
    index = columns(kept, block.size)
    new = least_squares(weight, bias, index, moments) if repair else (weight[:, index].clone(), None)
    block.write_output(*new, kept)
    return kept
