"""Rows of embeddings and head that no token of the tokenizer has, as resizing to a round number leaves them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torch import nn

from seq2seq_distill.models import architectures, forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def drop_padding_rows(model: PreTrainedModel, rows: int, tokens: int, name: str) -> None:
    """Cut the rows from `rows` on off the embeddings and the head, if the tokenizer has no token for them.

    Models of one tokenizer choose among the same tokens then, whatever their embeddings were padded to.

    Args:
        model: changed in place, its config too; left as it is if it has fewer rows, or if tokens would lose theirs.
        rows: that are to stay.
        tokens: of the tokenizer.
        name: of the model, for the log.
    """
    head = forward.output_head(model).weight
    size = len(head)
    if tokens <= rows < size:
        separate = None if head is architectures.token_embeddings(model)[1] else head.detach()[:rows].clone()
        model.resize_token_embeddings(rows, mean_resizing=False)
        if separate is not None:  # resizing ties the head of a T5 model that has one of its own
            model.get_output_embeddings().weight = nn.Parameter(separate)
        logger.info("%s: %d rows of its embeddings have no token, and were cut off", name, size - rows)
