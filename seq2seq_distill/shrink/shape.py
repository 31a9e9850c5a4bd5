"""Models of the shapes that a student would have, to be timed and weighed before there is a student."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from seq2seq_distill.models import architectures
from seq2seq_distill.shrink import blocks
from seq2seq_distill.shrink.depth import rebuild_settings
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.shrink.width import Widths, set_widths, widths_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_of_shape(
    teacher: PreTrainedModel, encoder_layers: int, decoder_layers: int, widths: Widths
) -> PreTrainedModel:
    """A model with the shapes of a student of this teacher, in float32; its weights are chosen without any data.

    Args:
        teacher: left as it is.
        encoder_layers, decoder_layers: depths, 1 to the teacher's.
        widths: at most the teacher's; the width of the hidden states is the teacher's.

    Raises:
        ModelError: the architecture is not supported, or the teacher has no such depth.
    """
    model = create_student(teacher, encoder_layers, decoder_layers)
    before = widths_of(model.config)
    for side, ffn, whole in zip(blocks.SIDES, widths.ffn, before.ffn, strict=True):
        for layer in range(len(architectures.layers(model, side))):
            if ffn != whole:
                blocks.feed_forward(model, side, layer).slice(torch.arange(ffn))
            if widths.num_heads is not None and widths.num_heads != before.num_heads:
                for block in blocks.attention(model, side, layer):
                    block.slice(torch.arange(widths.num_heads))
    set_widths(model.config, widths)
    rebuild_settings(model)
    return model
