"""The blocks of a model that can be narrowed: feed-forwards by units, attention of T5 by heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from seq2seq_distill.models import architectures
from seq2seq_distill.shrink.depth import RELATIVE_BIASES
from seq2seq_distill.shrink.repair import columns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIDES: Final = ("encoder", "decoder")


@dataclass(frozen=True)
class Block:
    """Linear maps around units of which some can go."""

    side: str
    inputs: tuple[nn.Linear, ...]
    """Maps whose outputs are, or are multiplied to, the units' values."""
    output: nn.Linear
    """The one map that reads the units."""
    size: int = 1
    """Values of a unit: 1 in a feed-forward, the head's width in attention."""
    biases: tuple[nn.Embedding, ...] = ()
    """Relative position biases, one column for each unit."""

    @property
    def units(self) -> int:
        """Number of units."""
        return self.output.in_features // self.size

    def write_output(self, weight: Tensor, bias: Tensor | None, kept: Tensor) -> None:
        """Let the output map read the kept units alone: by `weight` [O, KI], and by zeros where the others are."""
        with torch.no_grad():
            self.output.weight.zero_()[:, columns(kept, self.size)] = weight
            if bias is not None:
                self.output.bias.copy_(bias)

    def slice(self, kept: Tensor) -> None:
        """Remove all units but the kept ones."""
        index = columns(kept, self.size)
        self.output.weight = _parameter(self.output.weight[:, index])
        self.output.in_features = len(index)
        for module in self.inputs:
            module.weight = _parameter(module.weight[index])
            module.out_features = len(index)
            if module.bias is not None:
                module.bias = _parameter(module.bias[index])
        for table in self.biases:
            table.weight = _parameter(table.weight[:, kept])
            table.embedding_dim = len(kept)


def feed_forward(model: PreTrainedModel, side: str, layer: int) -> Block:
    """The feed-forward block of a layer."""
    architecture = architectures.architecture_of(model)
    path = architecture.feed_forward[SIDES.index(side)]
    module: Any = architectures.layers(model, side)[layer].get_submodule(path)
    inputs = tuple(getattr(module, name) for name in architecture.ffn_inputs if hasattr(module, name))
    return Block(side, inputs, getattr(module, architecture.ffn_output))


def attention(model: PreTrainedModel, side: str, layer: int) -> Iterator[Block]:
    """The self-attention of a layer of T5 or a relative and, in the decoder, its attention to the encoder."""
    module: Any = architectures.layers(model, side)[layer]
    for part in list(module.layer)[:-1]:
        # LongT5 has local and global kinds of it
        block = next(child for name, child in part.named_children() if name.endswith(("SelfAttention", "DecAttention")))
        tables = tuple(getattr(block, name) for name in RELATIVE_BIASES if hasattr(block, name))
        yield Block(side, (block.q, block.k, block.v), block.o, block.key_value_proj_dim, tables)


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone())
