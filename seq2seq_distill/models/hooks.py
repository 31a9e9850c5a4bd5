"""Intermediate features of a model, captured by forward hooks and keyed by stack, kind and layer."""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.fsmt import modeling_fsmt
from transformers.models.prophetnet.modeling_prophetnet import ProphetNetDecoderLayer

from seq2seq_distill.models import architectures


class Feature(NamedTuple):
    """Names an intermediate feature of a model.

    Examples:
        >>> from seq2seq_distill import Feature
        >>> Feature("decoder", "hidden", 0)
        Feature(side='decoder', kind='hidden', layer=0)
    """

    side: str
    """`encoder` or `decoder`."""
    kind: str
    """`hidden` [B, T, H]: what the layer returns, before any final norm of the stack. Or the weights [B, heads, Q, K]
    of its `self_attention` or `cross_attention`, which only modules with the attention implementation "eager" have."""
    layer: int
    """Counted from 0."""


@contextmanager
def capture_features(
    model: PreTrainedModel, wanted: Iterable[Feature], source_length: int | None = None
) -> Iterator[dict[Feature, Tensor]]:
    """Capture features of one forward pass; they are available once it is over.

        with capture_features(model, {Feature("decoder", "hidden", 5)}) as features:
            hidden = decode(model, batch, state, decoder_input_ids)
        features[Feature("decoder", "hidden", 5)]

    Unlike entries of the `hidden_states` tuple, features do not shift when LayerDrop skips a layer: that layer's are
    absent.

    Args:
        model: whose pass is recorded.
        wanted: what to keep; nothing else is.
        source_length: cut the encoder's hidden states to this many positions (default: uncut). LED, Pegasus-X and
            BigBird-Pegasus pad the source to a multiple of their window inside the encoder: give the width of
            `attention_mask` there.

    Raises:
        IndexError: a layer that the stack does not have.
        ModelError: attention that has no weights to compare.
    """
    features: dict[Feature, Tensor] = {}
    with ExitStack() as hooks:
        for feature in wanted:
            length = source_length if feature.side == "encoder" else None
            _hook(hooks, features, feature, _module_of(model, feature), length)
        yield features


def _module_of(model: PreTrainedModel, feature: Feature) -> nn.Module:
    if feature.kind == "hidden":
        return architectures.layers(model, feature.side)[feature.layer]
    return architectures.attention(model, *feature)


def _hook(
    hooks: ExitStack, features: dict[Feature, Tensor], feature: Feature, module: nn.Module, length: int | None
) -> None:
    def record(module: nn.Module, args: Any, output: Any) -> None:
        if feature.kind == "hidden":
            features[feature] = _batch_first(module, output[0] if isinstance(output, tuple) else output)[:, :length]
        else:  # behind T5's position bias, which has four dimensions too
            features[feature] = [tensor for tensor in output if isinstance(tensor, Tensor) and tensor.dim() == 4][-1]

    def ask(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_attentions": True}

    if feature.kind != "hidden" and "output_attentions" in inspect.signature(module.forward).parameters:
        hooks.callback(module.register_forward_pre_hook(ask, with_kwargs=True).remove)
    hooks.callback(module.register_forward_hook(record).remove)


def _batch_first(layer: nn.Module, hidden: Tensor) -> Tensor:
    if isinstance(layer, modeling_fsmt.EncoderLayer | modeling_fsmt.DecoderLayer):
        return hidden.transpose(0, 1)
    if isinstance(layer, ProphetNetDecoderLayer):
        # the main stream and one stream per n-gram lie behind each other; the head reads the first n-gram
        # stream
        return hidden.chunk(1 + layer.self_attn.ngram, dim=1)[1]
    return hidden
