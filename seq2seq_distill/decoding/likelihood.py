"""What a model says of given targets: the log-probability of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.length_batches import map_by_length
from seq2seq_distill.decoding.generation import decoding, to_device
from seq2seq_distill.models import forward
from seq2seq_distill.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS = 2**25
"""Most logits of a chunk of positions."""
MAX_TOKENS = 4096
"""Source tokens of a batch, padding counted, by default."""


def token_log_probabilities(
    model: PreTrainedModel, mask: Tensor, state: Tensor, decoder_input_ids: Tensor, labels: Tensor
) -> list[Tensor]:
    """The log-probabilities of each row's labels, [labels of the row] each, in float64 on the CPU.

    Args:
        model: in eval mode; gradients are the caller's.
        mask: of the source, [B, S].
        state: the encoder's last hidden state, [B, S, H].
        decoder_input_ids, labels: [B, T]; what is -100 in the labels does not count.
    """
    hidden = forward.decode(model, {"attention_mask": mask}, state, decoder_input_ids)
    counted = labels != IGNORE_INDEX
    size = max(1, LOGITS // len(forward.output_head(model).weight))
    chunks = [
        forward.head(model, states).float().log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        for states, tokens in zip(hidden[counted].split(size), labels[counted].split(size), strict=True)
    ]
    return list(torch.cat(chunks).double().cpu().split(counted.sum(1).tolist()))


def label_log_probabilities(
    model: PreTrainedModel,
    collate: Collator,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    max_tokens: int = MAX_TOKENS,
) -> list[Tensor]:
    """Log-probability of each target's tokens given its source, as labels of a training step; as above.

    Args:
        model: on the device where it is to run.
        collate: pads a batch for it.
        sources, targets: token ids, special tokens included.
        max_tokens: source plus target tokens of a batch, padding counted.
    """

    def score(rows: list[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
        examples = [{"input_ids": ids, "labels": target, "row": row} for row, (ids, target) in enumerate(rows)]
        batch: Mapping[str, Any] = to_device(collate(examples), model.device)
        labels, state = batch["labels"], forward.encode(model, batch)
        inputs = forward.decoder_inputs(model, labels)
        return token_log_probabilities(model, batch["attention_mask"], state, inputs, labels)

    pairs = list(zip(sources, targets, strict=True))
    with decoding(model):
        return map_by_length(score, pairs, [len(ids) + len(target) for ids, target in pairs], max_tokens=max_tokens)


def mean_log_probabilities(
    model: PreTrainedModel,
    collate: Collator,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    max_tokens: int = MAX_TOKENS,
) -> list[float]:
    """The mean over the tokens of each target of `label_log_probabilities`."""
    scores = label_log_probabilities(model, collate, sources, targets, max_tokens)
    return [float(score.sum()) / max(1, len(score)) for score in scores]
