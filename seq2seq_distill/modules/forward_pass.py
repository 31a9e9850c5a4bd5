"""The forward pass of a batch, as losses see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from transformers import PreTrainedModel

from seq2seq_distill.models import forward
from seq2seq_distill.models.forward import OutputHead
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.utils.constants import IGNORE_INDEX

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass of a model, up to the output head; B rows, S source positions, T target positions, N labels.

    Examples:
        >>> from seq2seq_distill import CustomLoss, ForwardPass, Term
        >>> def entropy(student: ForwardPass, teacher: ForwardPass | None, batch: dict) -> Term:
        ...     log_q = student.logits.float().log_softmax(-1)
        ...     return Term(-(log_q.exp() * log_q).sum(), (batch["labels"] != -100).sum())
        >>> custom_loss = CustomLoss(entropy, weight=-0.01)  # for `Extensions(terms={"entropy": custom_loss})`
    """

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


def student_pass(student: PreTrainedModel, batch: Batch, features: frozenset[Feature]) -> ForwardPass:
    """The student's forward pass, its decoder inputs made from the labels.

    Args:
        student: the model, in the mode in which it is to run.
        batch: on its device.
        features: inner states to capture.
    """
    labels = batch["labels"]
    labelled = labels != IGNORE_INDEX
    decoder_input_ids = forward.decoder_inputs(student, labels)
    with capture_features(student, features, batch["attention_mask"].shape[1]) as captured:
        encoder_state = forward.encode(student, batch)
        hidden = forward.decode(student, batch, encoder_state, decoder_input_ids)
    return ForwardPass(
        head=forward.output_head(student),
        encoder_state=encoder_state,
        decoder_input_ids=decoder_input_ids,
        hidden=hidden[labelled],
        labels=labels[labelled],
        features=captured,
    )
