"""How much of a model's probability is on tokens that a trimmed vocabulary does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.shrink.pieces import Side
from seq2seq_distill.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROWS = 256
"""The first rows of the held-out texts, on which it is measured."""
LENGTH = 1024
"""Tokens of each text that are read."""
_BATCH = 8
"""Rows in a batch: the logits of all their tokens over the whole vocabulary are in memory at once."""


@torch.no_grad()
def lost_mass(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoders: Mapping[Side, TextEncoder],
    sources: Sequence[str],
    targets: Sequence[str],
    rows: Sequence[int],
) -> float | None:
    """1 - the mean over target tokens of the probability of the tokens `rows`, on the first `ROWS` rows.

    None if there are no rows, or the tokenizer has no pad token.
    """
    texts: dict[Side, list[str]] = {"source": list(sources[:ROWS]), "target": list(targets[:ROWS])}
    pad = tokenizer.pad_token_id
    if not texts["source"] or pad is None:
        return None
    ids = {side: encoders[side].encode(texts[side]).ids for side in texts}
    source, target = architectures.max_positions(model.config)
    limits = {"source": source, "target": target}
    cut = {side: [row[: min(limits[side] or LENGTH, LENGTH)] for row in ids[side]] for side in ids}
    collate = Collator(int(pad), architectures.extra_inputs(model.config))
    device = next(model.parameters()).device
    kept = torch.tensor(list(rows), device=device)
    mass, count = 0.0, 0
    for first in range(0, len(cut["source"]), _BATCH):
        pairs = zip(cut["source"][first : first + _BATCH], cut["target"][first : first + _BATCH], strict=True)
        batch = collate([{"input_ids": source, "labels": target, "row": 0} for source, target in pairs])
        batch = {name: field.to(device) for name, field in batch.items()}
        inputs = forward.decoder_inputs(model, batch["labels"])
        hidden = forward.decode(model, batch, forward.encode(model, batch), inputs)
        logits = forward.head(model, hidden[batch["labels"] != IGNORE_INDEX]).double()
        mass += float((logits[:, kept].logsumexp(-1) - logits.logsumexp(-1)).exp().sum())
        count += len(logits)
    return 1 - mass / count
