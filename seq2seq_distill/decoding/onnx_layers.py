"""The layers of BART's relatives and of T5's, as ONNX nodes, from transformers' modules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seq2seq_distill.decoding.onnx_graph import FLOAT, Graph
from seq2seq_distill.utils.errors import ModelError

MASKED = -1e9
"""Added to the score of a position that must not be attended to."""
ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "relu": lambda graph, x: graph("Relu", x),
    "gelu": lambda graph, x: graph("Gelu", x),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh"), lambda graph, x: graph("Gelu", x, approximate="tanh")),
    **dict.fromkeys(("swish", "silu"), lambda graph, x: graph("Mul", x, graph("Sigmoid", x))),
}
"""By the name that a config has for it."""


def activation(graph: Graph, name: str, x: str) -> str:
    """An activation function. ModelError: it is not known."""
    if name not in ACTIVATIONS:
        raise ModelError(f"`format` onnx has no activation function {name}: serve the model with transformers")
    return ACTIVATIONS[name](graph, x)


@dataclass(frozen=True)
class Attention:
    """The matrices of an attention."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    out: nn.Linear
    heads: int
    width: int
    """Of a head."""
    scale: float

    @classmethod
    def of_bart(cls, module: Any) -> Attention:
        """Of a module of BART's relatives."""
        projections = (module.q_proj, module.k_proj, module.v_proj, module.out_proj)
        return cls(*projections, module.num_heads, module.head_dim, module.head_dim**-0.5)

    @classmethod
    def of_t5(cls, module: Any) -> Attention:
        """Of a module of T5's relatives, which do not scale."""
        return cls(module.q, module.k, module.v, module.o, module.n_heads, module.key_value_proj_dim, 1.0)

    def split(self, graph: Graph, x: str) -> str:
        """[B, T, heads * width] to [B, heads, T, width]."""
        shape = graph.constant([0, 0, self.heads, self.width])
        return graph("Transpose", graph("Reshape", x, shape), perm=[0, 2, 1, 3])

    def queries(self, graph: Graph, x: str) -> str:
        """[B, heads, T, width] of x [B, T, H]."""
        q = graph.linear(x, self.q)
        return self.split(graph, q if self.scale == 1.0 else graph("Mul", q, graph.constant(self.scale, np.float32)))

    def keys_and_values(self, graph: Graph, x: str) -> tuple[str, str]:
        """[B, heads, S, width] each."""
        return self.split(graph, graph.linear(x, self.k)), self.split(graph, graph.linear(x, self.v))

    def context(self, graph: Graph, q: str, k: str, v: str, bias: str) -> str:
        """What the queries find, [B, T, heads * width]; `bias` is added to the scores [B, heads, T, S]."""
        scores = graph("Add", graph("MatMul", q, graph("Transpose", k, perm=[0, 1, 3, 2])), bias)
        found = graph("MatMul", graph("Softmax", scores, axis=-1), v)
        merged = graph("Transpose", found, perm=[0, 2, 1, 3])
        return graph("Reshape", merged, graph.constant([0, 0, self.heads * self.width]))

    def to_itself(self, graph: Graph, x: str, bias: str) -> str:
        """Self-attention without a past, [B, T, H]."""
        k, v = self.keys_and_values(graph, x)
        return graph.linear(self.context(graph, self.queries(graph, x), k, v, bias), self.out)


def layer_norm(graph: Graph, x: str, module: Any) -> str:
    """LayerNorm, or T5's, which divides by the root of the mean square alone."""
    if isinstance(module, nn.LayerNorm):
        weights = graph.weight(module.weight), graph.weight(module.bias)
        return graph("LayerNormalization", x, *weights, axis=-1, epsilon=module.eps)
    mean = graph("ReduceMean", graph("Mul", x, x), graph.constant([-1]))
    root = graph("Sqrt", graph("Add", mean, graph.constant(module.variance_epsilon, np.float32)))
    return graph("Mul", graph("Div", x, root), graph.weight(module.weight))


def length(graph: Graph, x: str, axis: int) -> str:
    """Size of a dimension, [1]."""
    return graph("Shape", x, start=axis, end=axis + 1)


def positions(graph: Graph, start: str, end: str) -> str:
    """start, start + 1, ... below end, [n]; both are [1]."""
    scalar = graph.constant([], np.int64)
    return graph("Range", *(graph("Reshape", value, scalar) for value in (start, end)), graph.constant(1))


def source_mask(graph: Graph, mask: str) -> str:
    """Scores to add, [B, 1, 1, S], for a mask [B, S] of ones and zeros."""
    masked = graph("Sub", graph.constant(1, np.float32), graph("Cast", mask, to=FLOAT))
    return graph("Mul", graph("Unsqueeze", masked, graph.constant([1, 2])), graph.constant(MASKED, np.float32))


def causal_mask(graph: Graph, queries: str, keys: str) -> str:
    """Scores to add, [T, P + T], for positions of queries [T] and of keys [P + T]."""
    later = graph("Greater", graph("Unsqueeze", keys, graph.constant([0])), _column(graph, queries))
    return graph("Mul", graph("Cast", later, to=FLOAT), graph.constant(MASKED, np.float32))


def _column(graph: Graph, values: str) -> str:
    return graph("Unsqueeze", values, graph.constant([1]))


def relative_bias(graph: Graph, attention: Any, queries: str, keys: str) -> str:
    """T5's bias of relative positions, [1, heads, T, S]; beyond the config's largest distance all are alike."""
    far = attention.relative_attention_max_distance
    buckets = attention._relative_position_bucket(
        torch.arange(-far, far + 1),
        bidirectional=not attention.is_decoder,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=far,
    )
    table = attention.relative_attention_bias.weight.detach()[buckets].T  # [heads, 2 * far + 1]
    distance = graph("Sub", graph("Unsqueeze", keys, graph.constant([0])), _column(graph, queries))
    limits = graph.constant(0), graph.constant(2 * far)
    index = graph("Clip", graph("Add", distance, graph.constant(far)), *limits)
    weight = graph.constant(table.float().numpy(), np.float32)
    return graph("Unsqueeze", graph("Gather", weight, index, axis=1), graph.constant([0]))


def position_embedding(graph: Graph, module: Any, start: str, end: str) -> str:
    """Rows [T, H] for positions from `start` to below `end`, of a module of BART's relatives."""
    if isinstance(module, nn.Embedding):
        offset = getattr(module, "offset", 0)  # BART leaves its first rows unused
        table = graph.weight(module.weight[offset:] if offset else module.weight)
        return graph("Slice", table, start, end, graph.constant([0]))
    # M2M100's, of any length: those of padding do not count, and stand on the right.
    half = module.embedding_dim // 2
    powers = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    places = graph("Add", positions(graph, start, end), graph.constant(module.padding_idx + 1))
    angles = graph("Mul", _column(graph, graph("Cast", places, to=FLOAT)), graph.constant(powers.numpy(), np.float32))
    rows = graph("Concat", graph("Sin", angles), graph("Cos", angles), axis=1)
    if module.embedding_dim % 2 == 0:
        return rows
    return graph("Pad", rows, graph.constant([0, 0, 0, 1]))


def scaled(graph: Graph, x: str, scale: float) -> str:
    """x times a number."""
    return x if scale == 1.0 else graph("Mul", x, graph.constant(scale, np.float32))


def tensor_of(module: nn.Module) -> Tensor:
    """The weight of an embedding or head."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight
