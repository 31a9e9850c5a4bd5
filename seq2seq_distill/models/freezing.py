"""Freezing parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seq2seq_distill.models import architectures, forward

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def freeze(parameters: Any) -> None:
    """Exclude these parameters from training."""
    for parameter in parameters:
        parameter.requires_grad_(False)


def freeze_parts(student: PreTrainedModel, *, encoder: bool, embeddings: bool) -> None:
    """Freeze the encoder, the embeddings, both or neither; a head tied to the embeddings goes with them.

    Freezing the encoder alone leaves embeddings that it shares with the decoder and the head trainable.
    """
    if encoder:
        freeze(encoder_parameters(student))
    if embeddings:
        freeze(embedding_parameters(student))


def encoder_parameters(student: PreTrainedModel) -> list[nn.Parameter]:
    """Of the encoder, without embeddings that it shares with the decoder or the head."""
    elsewhere = {*student.get_decoder().parameters(), forward.output_head(student).weight}
    return [p for p in student.get_encoder().parameters() if p not in elsewhere]


def encoder_and_embedding_parameters(student: PreTrainedModel) -> list[nn.Parameter]:
    """Of the encoder and all embeddings."""
    return [*encoder_parameters(student), *embedding_parameters(student)]


def embedding_parameters(student: PreTrainedModel) -> list[nn.Parameter]:
    """Of tokens and positions, in both stacks; a head may be tied to them."""
    return [p for module in architectures.embedding_modules(student) for p in module.parameters()]
