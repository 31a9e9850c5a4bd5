"""What a model says of each token of given target texts, as label sets hold it: log-probabilities and byte offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.batching import map_by_length
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.tokenization.offsets import Ends, TargetOffsets
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.decoding.generation import decoding
from seq2seq_distill.decoding.likelihood import LOGITS, MAX_TOKENS, label_log_probabilities
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.models import architectures

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TokenLogprobs(NamedTuple):
    """Of the tokens of one target, special tokens left out, but for the end of the sequence."""

    token_logprobs: NDArray[np.float32]
    """[tokens]"""
    token_ends: NDArray[np.int32]
    """[tokens], in UTF-8 bytes of the target, ascending; the end of the sequence ends one byte behind the target."""


def token_logprobs(
    loaded: LoadedModel,
    sources: Sequence[Sequence[int]],
    targets: Sequence[str],
    *,
    limit: int | None = None,
    max_tokens: int = MAX_TOKENS,
) -> list[TokenLogprobs | None]:
    """The log-probabilities that an encoder-decoder gives to the tokens of targets, by one forward pass.

    The targets are read as its tokenizer encodes them, which need not be how it wrote them.

    Args:
        loaded: the model, on the device where it is to run, with its tokenizer.
        sources: token ids, as `loaded.encode` gives them.
        targets: texts.
        limit: most tokens of a target; of a longer one, as of one with more tokens than the model has positions, the
            rest and the end of the sequence are missing.
        max_tokens: source plus target tokens of a batch, padding counted.

    Returns:
        None for a target that reads otherwise than its tokens, such as one that names special tokens.

    Raises:
        ModelError: the tokenizer tells no offsets.
    """
    model, tokenizer = loaded.torch_model, loaded.tokenizer
    limits = [length for length in (limit, architectures.max_positions(model.config)[1]) if length is not None]
    labels = list(TextEncoder(tokenizer, "text_target", min(limits, default=None)).encode(targets).ids)
    ends = TargetOffsets(tokenizer).ends(targets, labels)
    collate = Collator(int(tokenizer.pad_token_id), architectures.extra_inputs(model.config))
    scores = label_log_probabilities(model, collate, sources, labels, max_tokens)
    return [_of_row(score.numpy(), own) for score, own in zip(scores, ends, strict=True)]


def causal_token_logprobs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[str],
    *,
    end: int | None = None,
) -> list[TokenLogprobs | None]:
    """The same of a causal language model that continues prompts.

    Args:
        model: on the device where it is to run.
        tokenizer: its own.
        prompts: token ids, at least one each, behind which a target begins.
        targets: texts.
        end: id of the token that ends an answer; by default the tokenizer's end of sequence.
    """
    end = tokenizer.eos_token_id if end is None else end
    bodies = tokenizer(list(targets), add_special_tokens=False)["input_ids"] if targets else []
    ends = [
        None if own is None else np.append(own, len(text.encode()) + 1)
        for text, own in zip(targets, TargetOffsets(tokenizer).ends(targets, bodies), strict=True)
    ]
    rows = [([*prompt], [*body, end]) for prompt, body in zip(prompts, bodies, strict=True)]

    def score(batch: list[tuple[list[int], list[int]]]) -> list[NDArray[np.float64]]:
        width = max(len(prompt) + len(labels) for prompt, labels in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, (prompt, labels) in enumerate(batch):
            ids[row, : len(prompt) + len(labels)] = torch.tensor([*prompt, *labels])
            mask[row, : len(prompt) + len(labels)] = 1
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
        found = []
        for row, (prompt, labels) in enumerate(batch):
            own = logits[row, len(prompt) - 1 : len(prompt) - 1 + len(labels)].float().log_softmax(-1)
            chosen = torch.tensor(labels, device=own.device)[:, None]
            found.append(own.gather(1, chosen)[:, 0].double().cpu().numpy())
        return found

    lengths = [len(prompt) + len(labels) for prompt, labels in rows]
    with decoding(model):
        scores = map_by_length(
            score, rows, lengths, max_tokens=max(1, LOGITS // model.config.get_text_config().vocab_size)
        )
    return [_of_row(score, own) for score, own in zip(scores, ends, strict=True)]


def _of_row(scores: NDArray[np.float64], ends: Ends | None) -> TokenLogprobs | None:
    if ends is None:
        return None
    listed = ends >= 0
    return TokenLogprobs(scores[listed].clip(max=0).astype(np.float32), ends[listed].astype(np.int32))
