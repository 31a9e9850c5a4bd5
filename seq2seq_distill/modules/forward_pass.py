"""What a model says of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from seq2seq_distill.models.forward import OutputHead
from seq2seq_distill.models.hooks import Feature

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass of a model, up to the output head; B rows, S source positions, T target positions, N labels."""

    head: OutputHead
    """What gives the logits of hidden states."""
    encoder_state: Tensor
    """[B, S, H]"""
    decoder_input_ids: Tensor
    """[B, T]"""
    hidden: Tensor
    """[N, H], what the head reads at the positions with a label, row by row."""
    labels: Tensor
    """[N]"""
    features: Mapping[Feature, Tensor]
    """Inner states that are compared, of the layers that ran."""

    @cached_property
    def logits(self) -> Tensor:
        """[N, V], made when first asked for; in the precision of the model or of autocast."""
        return self.head.logits(self.hidden)
