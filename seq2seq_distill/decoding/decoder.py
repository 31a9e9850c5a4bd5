"""One way to decode for all: token ids of sources in, hypotheses out.

A decoder is one class with the methods of `Decoder`: `TransformersDecoder` here,
`CTranslate2Decoder` and `OnnxDecoder` beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.length_batches import map_by_length
from seq2seq_distill.data.tokenization.tokenizers import pad_id
from seq2seq_distill.decoding.generation import decoding, generate_batch, generated_length, text_of, to_device
from seq2seq_distill.decoding.likelihood import MAX_TOKENS, token_log_probabilities
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.utils.constants import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from seq2seq_distill.decoding.loading import LoadedModel


@dataclass(frozen=True)
class Hypothesis:
    """One output for a source."""

    text: str
    """Without special tokens and outer white space."""
    ids: tuple[int, ...]
    """Without decoder start, end of sentence and padding; a forced first token is in it."""
    num_tokens: int
    """Tokens that the model chose: the end of sentence counts, a forced first token does not."""
    at_limit: bool
    """Whether it reached the limit of tokens."""
    score: float | None = None
    """Sum of the tokens' log-probabilities, the end's too, by (their number ** length penalty); None where it was not
    asked for."""
    log_probabilities: tuple[float, ...] | None = None
    """Of each token that the model chose, the end of sentence included; None where the decoder has none."""


class Decoder(Protocol):
    """Something that decodes."""

    name: str
    """transformers, ctranslate2 or onnxruntime."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """What `decode` reads of source texts: token ids, with the model's prefix, truncated to its limit."""

    def decode(
        self, inputs: Sequence[Sequence[int]], n_best: int = 1, *, with_scores: bool = True
    ) -> list[list[Hypothesis]]:
        """The best outputs of each input, the best first; of outputs that are sampled, in no order.

        Args:
            inputs: as `encode` gives them, in any order.
            n_best: number of outputs for each.
            with_scores: whether to compute scores where they cost time.
        """

    @property
    def resources(self) -> str:
        """The GPU, or how the cores are used; may be known only once something was decoded."""


class TransformersDecoder:
    """Decodes with `generate`, in batches of sources of like length, the longest first.

    Args:
        loaded: the model, with all that it takes to decode with it.
        max_tokens: source tokens of a batch, padding counted.
        batch_size: sources of a batch, instead.
        device: where the model is moved to; by default it stays where it is.
    """

    name = "transformers"

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_tokens: int = MAX_TOKENS,
        batch_size: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._loaded, self.model = loaded, loaded.torch_model
        if device is not None:
            self.model.to(device)  # type: ignore[arg-type]
        self._limits = {"max_tokens": max_tokens} if batch_size is None else {"size": batch_size}
        config = self.model.config
        self._collate = Collator(pad_id(loaded.tokenizer, config), architectures.extra_inputs(config))

    @property
    def resources(self) -> str:
        """As `Decoder.resources`."""
        if self.model.device.type == "cuda":
            return torch.cuda.get_device_name()
        threads = torch.get_num_threads()
        return f"{threads} thread{'s' if threads > 1 else ''}"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `Decoder.encode`."""
        return self._loaded.encode(texts)

    def decode(
        self, inputs: Sequence[Sequence[int]], n_best: int = 1, *, with_scores: bool = True
    ) -> list[list[Hypothesis]]:
        """As `Decoder.decode`; scores take one more forward pass."""
        decode = partial(self._decode, n_best=n_best, with_scores=with_scores)
        with decoding(self.model):
            return map_by_length(decode, inputs, list(map(len, inputs)), **self._limits)

    def _decode(self, inputs: list[Sequence[int]], n_best: int, with_scores: bool) -> list[list[Hypothesis]]:
        batch = self._collate([{"input_ids": ids, "row": row} for row, ids in enumerate(inputs)])
        batch = to_device(batch, self.model.device)
        return decode_batch(
            self.model, self._loaded.tokenizer, batch, self._loaded.generation, n_best=n_best, with_scores=with_scores
        )


def decode_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Mapping[str, Any],
    config: GenerationConfig,
    *,
    n_best: int = 1,
    with_scores: bool = False,
) -> list[list[Hypothesis]]:
    """The outputs of a collated batch on the model's device; mode and gradients are the caller's: see `decoding`.

    Args:
        model: decodes.
        tokenizer: turns ids into text.
        batch: as `generate_batch` takes it.
        config: from `generation_config`.
        n_best: outputs for each source.
        with_scores: compute scores and log-probabilities, by one more forward pass.
    """
    if n_best != (config.num_return_sequences or 1):
        config = copy.deepcopy(config)
        config.num_return_sequences = n_best
    outputs = generate_batch(model, batch, config)
    rows: Sequence[Tensor | None] = [None] * len(outputs)
    if with_scores:
        rows = _log_probabilities(model, batch, outputs, config, n_best)
    hypotheses = [_with_score(tokenizer, ids, config, row) for ids, row in zip(outputs, rows, strict=True)]
    return [hypotheses[start : start + n_best] for start in range(0, len(hypotheses), n_best)]


def _log_probabilities(
    model: PreTrainedModel, batch: Mapping[str, Any], outputs: list[list[int]], config: GenerationConfig, n_best: int
) -> list[Tensor]:
    """Of the tokens that the model chose; `generate` would have to keep the logits of every step for it."""
    start = config.decoder_start_token_id
    start = int(config.bos_token_id if start is None else start)
    rows = [{"input_ids": [], "labels": ids, "row": row} for row, ids in enumerate(outputs)]
    labels = Collator(0)(rows)["labels"].to(model.device)
    inputs = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], 1)
    inputs = inputs.masked_fill(inputs == IGNORE_INDEX, start)
    if config.forced_bos_token_id is not None:
        labels = labels.clone()
        labels[:, 0] = IGNORE_INDEX
    state = forward.encode(model, batch).repeat_interleave(n_best, 0)
    mask = batch["attention_mask"].repeat_interleave(n_best, 0)
    return token_log_probabilities(model, mask, state, inputs, labels)


def _with_score(
    tokenizer: PreTrainedTokenizerBase, output: list[int], config: GenerationConfig, log_probabilities: Tensor | None
) -> Hypothesis:
    hypothesis = hypothesis_of(tokenizer, output, config)
    if log_probabilities is None:
        return hypothesis
    penalty = 1.0 if config.length_penalty is None else config.length_penalty
    score = float(log_probabilities.sum()) / max(1, len(output)) ** penalty
    return replace(hypothesis, score=score, log_probabilities=tuple(log_probabilities.tolist()))


def hypothesis_of(
    tokenizer: PreTrainedTokenizerBase, output: list[int], config: GenerationConfig, score: float | None = None
) -> Hypothesis:
    """A row of `generate_batch`, or of a search, as a hypothesis."""
    ends = config.eos_token_id
    ended = bool(output) and output[-1] in (ends if isinstance(ends, list) else [ends])
    ids = output[:-1] if ended else output
    return Hypothesis(
        text=text_of(tokenizer, output),
        ids=tuple(token for token in ids if token != tokenizer.pad_token_id),
        num_tokens=generated_length(output, config),
        at_limit=len(output) >= config.max_length - 1,
        score=score,
    )
