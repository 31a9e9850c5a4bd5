"""A model as two ONNX graphs, in the layout that transformers.js reads: an encoder, and a decoder with its cache.

The decoder has one graph for all steps. At the first, `use_cache_branch` is false, the past is empty, and the keys and
values of the source are computed; later they are read from the past, and what `present.*.encoder.*` then holds is
empty: a reader keeps those of the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from seq2seq_distill.decoding import onnx_layers as layers
from seq2seq_distill.decoding.conversion import NORMS, check_family
from seq2seq_distill.decoding.onnx_graph import FLOAT, Graph
from seq2seq_distill.decoding.onnx_layers import Attention
from seq2seq_distill.models import forward
from seq2seq_distill.utils.errors import ModelError
from seq2seq_distill.utils.optional import optional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_BYTES = 2**31 - 1
"""Of a file, by the limit of protocol buffers."""
INT64, BOOL = 7, 9
"""onnx.TensorProto's"""
BART_LIKE = {**{kind: before for kind, (before, _) in NORMS.items()}, "m2m_100": True, "blenderbot": True}
"""Relatives of BART, and whether norms come before a layer's parts."""
T5_LIKE = ("t5", "mt5")
FAMILIES = (*BART_LIKE, *T5_LIKE)
"""Model types that can be exported."""


def save_onnx(folder: Path, model: PreTrainedModel, quantization: str, wanted_by: str) -> None:
    """The files `encoder_model.onnx` and `decoder_model_merged.onnx` of `folder`/onnx; with int8, `..._quantized.onnx`.

    Raises:
        ConfigError: the package onnx is not installed.
        ModelError: the model cannot be exported.
    """
    check_family(model.config.model_type, FAMILIES, wanted_by)
    onnx = optional("onnx", wanted_by)
    optional("onnx.helper", wanted_by)
    optional("onnx.numpy_helper", wanted_by)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    suffix = "_quantized" if quantization == "int8" else ""
    for name, build in (("encoder_model", encoder_graph), ("decoder_model_merged", decoder_graph)):
        built = build(Graph(onnx, quantize=quantization == "int8"), model)
        if built.ByteSize() > MAX_BYTES:
            raise ModelError(
                f"{wanted_by}: a file of {built.ByteSize() / 1e9:.1f} GB is more than the 2 GB that ONNX holds: choose "
                "`quantization` int8, or `format` ctranslate2"
            )
        onnx.checker.check_model(built)
        onnx.save_model(built, str(folder / "onnx" / f"{name}{suffix}.onnx"))


def encoder_graph(graph: Graph, model: PreTrainedModel) -> Any:
    """`input_ids`, `attention_mask` [B, S] to `last_hidden_state` [B, S, H]."""
    encoder: Any = model.get_encoder()
    ids, mask = "input_ids", layers.source_mask(graph, "attention_mask")
    start, end = graph.constant([0]), layers.length(graph, ids, 1)
    if model.config.model_type in T5_LIKE:
        x = graph.embedding(ids, layers.tensor_of(encoder.embed_tokens))
        places = layers.positions(graph, start, end)
        relative = layers.relative_bias(graph, encoder.block[0].layer[0].SelfAttention, places, places)
        bias = graph("Add", relative, mask)
        for block in encoder.block:
            normed = layers.layer_norm(graph, x, block.layer[0].layer_norm)
            x = graph("Add", x, Attention.of_t5(block.layer[0].SelfAttention).to_itself(graph, normed, bias))
            x = _t5_feed_forward(graph, block, x)
        x = layers.layer_norm(graph, x, encoder.final_layer_norm)
    else:
        before = BART_LIKE[model.config.model_type]
        x = _bart_embedding(graph, encoder, model.config, ids, start, end)
        for layer in encoder.layers:
            attend = partial(Attention.of_bart(layer.self_attn).to_itself, graph, bias=mask)
            x = _residual(graph, x, layer.self_attn_layer_norm, attend, before)
            x = _bart_feed_forward(graph, layer, model.config, x, before)
        x = _last_norm(graph, encoder, x)
    graph.rename(x, "last_hidden_state")
    shape: list[str | int] = ["batch_size", "encoder_sequence_length"]
    inputs = {"input_ids": (INT64, shape), "attention_mask": (INT64, shape)}
    return graph.model(inputs, {"last_hidden_state": [*shape, model.config.d_model]})


def decoder_graph(graph: Graph, model: PreTrainedModel) -> Any:
    """A step of the decoder: see the module."""
    decoder: Any = model.get_decoder()
    is_t5 = model.config.model_type in T5_LIKE
    blocks: Sequence[Any] = decoder.block if is_t5 else decoder.layers
    steps = _DecoderSteps(graph, model, blocks)
    x = steps.t5(decoder) if is_t5 else steps.bart(decoder)
    head = forward.output_head(model)
    logits = graph.head(layers.scaled(graph, x, head.scale), head.weight)
    if head.bias is not None:
        logits = graph("Add", logits, graph.weight(head.bias))
    graph.rename(logits, "logits")
    return steps.model(len(head.weight))


class _DecoderSteps:
    """The layers of a decoder, with their past and present keys and values."""

    def __init__(self, graph: Graph, model: PreTrainedModel, blocks: Sequence[Any]) -> None:
        self.graph, self.config, self.blocks = graph, model.config, blocks
        of = Attention.of_t5 if model.config.model_type in T5_LIKE else Attention.of_bart
        self.attentions = [
            (of(block.layer[0].SelfAttention), of(block.layer[1].EncDecAttention))
            if model.config.model_type in T5_LIKE
            else (of(block.self_attn), of(block.encoder_attn))
            for block in blocks
        ]
        self.mask = layers.source_mask(graph, "encoder_attention_mask")
        self.start = layers.length(graph, "past_key_values.0.decoder.key", 2)
        self.end = graph("Add", self.start, layers.length(graph, "input_ids", 1))
        self.queries = layers.positions(graph, self.start, self.end)
        self.keys = layers.positions(graph, graph.constant([0]), self.end)
        self.causal = layers.causal_mask(graph, self.queries, self.keys)

    def bart(self, decoder: Any) -> str:
        """The last hidden state of a relative of BART."""
        graph, before = self.graph, BART_LIKE[self.config.model_type]
        x = _bart_embedding(graph, decoder, self.config, "input_ids", self.start, self.end)
        for index, layer in enumerate(self.blocks):
            own, cross = self.attentions[index]
            to_past = partial(self.attend_to_past, index, own, bias=self.causal)
            x = _residual(graph, x, layer.self_attn_layer_norm, to_past, before)
            to_source = partial(self.attend_to_source, index, cross)
            x = _residual(graph, x, layer.encoder_attn_layer_norm, to_source, before)
            x = _bart_feed_forward(graph, layer, self.config, x, before)
        return _last_norm(graph, decoder, x)

    def t5(self, decoder: Any) -> str:
        """The last hidden state of a relative of T5."""
        graph = self.graph
        x = graph.embedding("input_ids", layers.tensor_of(decoder.embed_tokens))
        first = decoder.block[0].layer[0].SelfAttention
        bias = graph("Add", layers.relative_bias(graph, first, self.queries, self.keys), self.causal)
        for index, block in enumerate(self.blocks):
            own, cross = self.attentions[index]
            normed = layers.layer_norm(graph, x, block.layer[0].layer_norm)
            x = graph("Add", x, self.attend_to_past(index, own, normed, bias))
            normed = layers.layer_norm(graph, x, block.layer[1].layer_norm)
            x = graph("Add", x, self.attend_to_source(index, cross, normed))
            x = _t5_feed_forward(graph, block, x)
        return layers.layer_norm(graph, x, decoder.final_layer_norm)

    def attend_to_past(self, index: int, attention: Attention, x: str, bias: str) -> str:
        """Self-attention; the present is the past with what is new."""
        graph = self.graph
        present = []
        for role, new in zip(("key", "value"), attention.keys_and_values(graph, x), strict=True):
            whole = graph("Concat", f"past_key_values.{index}.decoder.{role}", new, axis=2)
            graph.rename(whole, f"present.{index}.decoder.{role}")
            present.append(whole)
        k, v = present
        return graph.linear(attention.context(graph, attention.queries(graph, x), k, v, bias), attention.out)

    def attend_to_source(self, index: int, attention: Attention, x: str) -> str:
        """Attention to the source, whose keys and values are computed once."""
        graph = self.graph
        q = attention.queries(graph, x)
        later, first = graph.branch(), graph.branch()
        past = [f"past_key_values.{index}.encoder.{role}" for role in ("key", "value")]
        k, v = attention.keys_and_values(first, "encoder_hidden_states")
        none = graph.constant(np.zeros((0, attention.heads, 1, attention.width)), np.float32)
        context, *present = graph.choose(
            "use_cache_branch",
            (
                later,
                [attention.context(later, q, past[0], past[1], self.mask), *(later("Identity", none) for _ in past)],
            ),
            (first, [attention.context(first, q, k, v, self.mask), k, v]),
        )
        for role, value in zip(("key", "value"), present, strict=True):
            graph.rename(value, f"present.{index}.encoder.{role}")
        return graph.linear(context, attention.out)

    def model(self, vocabulary: int) -> Any:
        """The whole graph."""
        source: list[str | int] = ["batch_size", "encoder_sequence_length"]
        target: list[str | int] = ["batch_size", "decoder_sequence_length"]
        inputs: dict[str, tuple[int, list[str | int]]] = {
            "encoder_attention_mask": (INT64, source),
            "input_ids": (INT64, target),
            "encoder_hidden_states": (FLOAT, [*source, self.config.d_model]),
        }
        outputs: dict[str, list[str | int]] = {"logits": [*target, vocabulary]}
        for index, sides in enumerate(self.attentions):
            for side, attention in zip(("decoder", "encoder"), sides, strict=True):
                for role in ("key", "value"):
                    name = f"{index}.{side}.{role}"
                    size: list[str | int] = [attention.heads, f"past_{side}_sequence_length", attention.width]
                    inputs[f"past_key_values.{name}"] = (FLOAT, ["batch_size", *size])
                    now = "past_decoder_sequence_length + decoder_sequence_length" if side == "decoder" else source[1]
                    batch = "batch_size" if side == "decoder" else "encoder_batch_size"
                    outputs[f"present.{name}"] = [batch, size[0], now, size[2]]
        inputs["use_cache_branch"] = (BOOL, [1])
        return self.graph.model(inputs, outputs)


def _residual(graph: Graph, x: str, norm: nn.Module, part: Callable[[str], str], before: bool) -> str:
    """A part of a layer with its residual connection and its norm, which comes before the part or after the sum."""
    if before:
        return graph("Add", x, part(layers.layer_norm(graph, x, norm)))
    return layers.layer_norm(graph, graph("Add", x, part(x)), norm)


def _bart_embedding(graph: Graph, stack: Any, config: Any, ids: str, start: str, end: str) -> str:
    scale = config.d_model**0.5 if getattr(config, "scale_embedding", False) else 1.0
    x = layers.scaled(graph, graph.embedding(ids, layers.tensor_of(stack.embed_tokens)), scale)
    x = graph("Add", x, layers.position_embedding(graph, stack.embed_positions, start, end))
    norm = getattr(stack, "layernorm_embedding", None)
    return x if norm is None else layers.layer_norm(graph, x, norm)


def _bart_feed_forward(graph: Graph, layer: Any, config: Any, x: str, before: bool) -> str:
    def part(x: str) -> str:
        inner = layers.activation(graph, config.activation_function, graph.linear(x, layer.fc1))
        return graph.linear(inner, layer.fc2)

    return _residual(graph, x, layer.final_layer_norm, part, before)


def _last_norm(graph: Graph, stack: Any, x: str) -> str:
    norm = getattr(stack, "layer_norm", None)
    return x if norm is None else layers.layer_norm(graph, x, norm)


def _t5_feed_forward(graph: Graph, block: Any, x: str) -> str:
    part = block.layer[-1]
    dense, name = part.DenseReluDense, block.layer[0].SelfAttention.config.dense_act_fn
    normed = layers.layer_norm(graph, x, part.layer_norm)
    if hasattr(dense, "wi"):
        inner = layers.activation(graph, name, graph.linear(normed, dense.wi))
    else:
        gate = layers.activation(graph, name, graph.linear(normed, dense.wi_0))
        inner = graph("Mul", gate, graph.linear(normed, dense.wi_1))
    return graph("Add", x, graph.linear(inner, dense.wo))
