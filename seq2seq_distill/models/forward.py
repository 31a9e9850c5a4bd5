"""The forward pass, split where distillation needs it: `encode`, `decode` up to the last hidden state, `head`.

Shapes: B rows, S source and T target positions, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import LongTensor, Tensor
from torch.nn.functional import linear

from seq2seq_distill.models.architectures import architecture_of, extra_inputs, stack_configs
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class OutputHead:
    """The output head: logits = cap(linear(hidden * scale, weight) + bias), cap(x) = c * tanh(x / c)."""

    weight: Tensor
    """[V, H]"""
    bias: Tensor | None
    """[1, V], or None"""
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., H]."""
        logits = linear(hidden if self.scale == 1.0 else hidden * self.scale, self.weight)
        if self.bias is not None:
            logits = logits + self.bias
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def decoder_start(model: PreTrainedModel) -> int:
    """Id of the first decoder input. Raises ModelError if neither config nor generation config names one."""
    if architecture_of(model).nested:
        start = model.config.decoder.bos_token_id
    else:
        start = getattr(model.config, "decoder_start_token_id", None)
    if start is None and model.generation_config is not None:
        start = model.generation_config.decoder_start_token_id
    if start is None:
        raise ModelError(
            f"the config of this {model.config.model_type} model does not set decoder_start_token_id: "
            "add it to config.json"
        )
    return start


def decoder_inputs(model: PreTrainedModel, labels: Tensor) -> LongTensor:
    """Decoder inputs [B, T] for teacher forcing: the labels moved right by one.

    `labels` [B, T] holds -100 on padding, which stands on the right; padding becomes the pad id. The first
    input is the decoder start token or, for the families that wrap (mBART, PLBart, FSMT), the last label of
    the row. Row by row the same as the family's own training does. Raises ModelError if the config names no
    start token.
    """
    config = stack_configs(model.config)[1]
    if config.pad_token_id is None:
        raise ModelError(
            f"the config of this {model.config.model_type} model does not set pad_token_id: add it to config.json"
        )
    inputs = labels.new_empty(labels.shape)
    inputs[:, 1:] = labels[:, :-1]
    if architecture_of(model).start == "wrap":
        last = labels.ne(IGNORE_INDEX).sum(dim=1, keepdim=True).sub(1).clamp(min=0)
        inputs[:, :1] = labels.gather(1, last)
    else:
        inputs[:, 0] = decoder_start(model)
    return inputs.masked_fill_(inputs == IGNORE_INDEX, config.pad_token_id)  # type: ignore[return-value]


def encode(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """The encoder's last hidden state [B, S, H]; reads everything in `batch` but the labels."""
    encoder = model.get_encoder()
    if architecture_of(model).model_type == "bigbird_pegasus":
        _set_bigbird_attention(encoder, batch["input_ids"].shape[1])
    extras = {name: batch[name] for name in extra_inputs(model.config) if name in batch}
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], **extras}
    output = encoder(**inputs, return_dict=True)  # a model's config may ask for tuples
    return output.last_hidden_state


def decode(
    model: PreTrainedModel, batch: Mapping[str, Tensor], encoder_state: Tensor, decoder_input_ids: Tensor
) -> Tensor:
    """The decoder's last hidden state [B, T, H], which the head reads; reads only the mask of `batch`."""
    model_type = architecture_of(model).model_type
    decoder = model.get_decoder()
    if model_type == "fsmt":
        return _decode_fsmt(model, batch["attention_mask"], encoder_state, decoder_input_ids)
    output = decoder(
        input_ids=decoder_input_ids,
        encoder_hidden_states=encoder_state,
        encoder_attention_mask=batch["attention_mask"],
        use_cache=False,
        return_dict=True,
    )
    if model_type == "prophetnet":  # the head reads the first of the predicting streams
        return output.last_hidden_state_ngram.chunk(model.config.ngram, dim=1)[0]
    return output.last_hidden_state


def output_head(model: PreTrainedModel) -> OutputHead:
    """The parts of the output head; the weight is the parameter itself, tied or not."""
    architecture = architecture_of(model)
    if architecture.model_type == "fsmt":  # its decoder owns the projection; `get_output_embeddings` is another matrix
        return OutputHead(model.get_decoder().output_projection.weight, None)
    scaled = architecture.scale is not None and getattr(model.config, architecture.scale)
    return OutputHead(
        weight=model.get_output_embeddings().weight,
        bias=getattr(model, "final_logits_bias", None),
        scale=model.config.d_model**-0.5 if scaled else 1.0,
        softcap=model.config.decoder.final_logit_softcapping if architecture.nested else None,
    )


def head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [B, T, V] of the decoder's last hidden state [B, T, H]."""
    return output_head(model).logits(hidden)


def _decode_fsmt(model: PreTrainedModel, mask: Tensor, encoder_state: Tensor, decoder_input_ids: Tensor) -> Tensor:
    # FSMT's decoder makes neither of its masks itself and returns logits; its hidden states end before the
    # head.
    length, dtype = decoder_input_ids.shape[1], encoder_state.dtype
    causal = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=encoder_state.device)
    padding = decoder_input_ids.eq(model.config.pad_token_id)
    output = model.get_decoder()(
        decoder_input_ids,
        encoder_state,
        mask,
        padding if padding.any() else None,
        decoder_causal_mask=causal.triu(1),
        use_cache=False,
        output_hidden_states=True,
        return_dict=True,
    )
    return output.hidden_states[-1]


def _set_bigbird_attention(encoder: Any, length: int) -> None:
    # Left to itself the encoder turns block-sparse attention off for good at the first short batch, so that
    # later results depend on earlier batches. New modules would also draw random numbers.
    config = encoder.config
    shortest = (5 + 2 * config.num_random_blocks) * config.block_size
    wanted = config.attention_type if length > shortest else "original_full"
    if encoder.attention_type != wanted:
        with torch.random.fork_rng(devices=[]):
            encoder.set_attention_type(wanted)
