"""What a model says of each token of given target texts, as label sets hold it: log-probabilities and byte offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.tokenization.offsets import Ends, TargetOffsets
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import pad_id
from seq2seq_distill.decoding.likelihood import MAX_TOKENS, label_log_probabilities
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.models import architectures


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
    collate = Collator(pad_id(tokenizer, model.config), architectures.extra_inputs(model.config))
    scores = label_log_probabilities(model, collate, sources, labels, max_tokens)
    return [_of_row(score.numpy(), own) for score, own in zip(scores, ends, strict=True)]


def _of_row(scores: NDArray[np.float64], ends: Ends | None) -> TokenLogprobs | None:
    if ends is None:
        return None
    listed = ends >= 0
    return TokenLogprobs(scores[listed].clip(max=0).astype(np.float32), ends[listed].astype(np.int32))
