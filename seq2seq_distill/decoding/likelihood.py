"""What a model says of given targets: the log-probability of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.encoding import Collator
from seq2seq_distill.decoding.generation import decoding, to_device
from seq2seq_distill.models import forward
from seq2seq_distill.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOGITS = 2**25
"""Most logits of a chunk of positions."""
MAX_TOKENS = 4096
"""Source tokens of a batch, padding counted, by default."""


def log_probabilities(
    model: PreTrainedModel, mask: Tensor, state: Tensor, decoder_input_ids: Tensor, labels: Tensor
) -> list[float]:
    """Sum of the log-probabilities of each row's labels.

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
    rows = torch.cat(chunks).double().cpu().split(counted.sum(1).tolist())
    return [float(row.sum()) for row in rows]


def mean_log_probabilities(
    model: PreTrainedModel,
    collate: Collator,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    max_tokens: int = MAX_TOKENS,
) -> list[float]:
    """Mean log-probability of each target's tokens given its source, as labels of a training step.

    Args:
        model: on the device where it is to run.
        collate: pads a batch for it.
        sources, targets: token ids, special tokens included.
        max_tokens: source plus target tokens of a batch, padding counted.
    """
    found = [0.0] * len(sources)
    with decoding(model):
        lengths = [len(source) + len(target) for source, target in zip(sources, targets, strict=True)]
        for rows in batches_by_length(lengths, max_tokens):
            batch: Mapping[str, Any] = to_device(
                collate([{"input_ids": sources[row], "labels": targets[row], "row": row} for row in rows]), model.device
            )
            labels, state = batch["labels"], forward.encode(model, batch)
            inputs = forward.decoder_inputs(model, labels)
            sums = log_probabilities(model, batch["attention_mask"], state, inputs, labels)
            for row, total in zip(rows, sums, strict=True):
                found[row] = total / max(1, len(targets[row]))
    return found


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int | None, side: str = "text"
) -> list[list[int]]:
    """Token ids of texts, special tokens included, each cut after `longest`; `side` is text or text_target."""
    if not texts:
        return []
    limits: dict[str, Any] = {} if longest is None else {"truncation": True, "max_length": longest}
    ids: list[list[int]] = tokenizer(**{side: list(texts)}, **limits)["input_ids"]
    if longest is not None and tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()  # else the limit would be saved with the tokenizer
    return ids


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of batches of like length, the longest first, of at most `max_tokens` with their padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
