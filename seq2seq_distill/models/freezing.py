"""Freezing parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seq2seq_distill.models import architectures, forward

if TYPE_CHECKING:
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
        elsewhere = {*student.get_decoder().parameters(), forward.output_head(student).weight}
        freeze(p for p in student.get_encoder().parameters() if p not in elsewhere)
    if embeddings:
        freeze(p for module in architectures.embedding_modules(student) for p in module.parameters())
