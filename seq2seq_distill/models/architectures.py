"""One row per architecture: where its config and its modules keep what distillation needs.

A model here is one of transformers' `...ForConditionalGeneration` classes (`MarianMTModel` for Marian).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from torch import nn
from transformers import PreTrainedConfig

from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Architecture:
    """What differs between architectures; strings are config keys unless noted otherwise."""

    model_type: str
    start: Literal["pad", "eos", "bos", "wrap"]
    """First decoder input of a fresh model; wrap: the last label of the row (language or eos), always."""
    layers: str = "layers"
    """Attribute of the encoder and of the decoder that holds the layers."""
    depth: tuple[str, str] = ("encoder_layers", "decoder_layers")
    width: str = "d_model"
    positions: tuple[str, str] | None = ("max_position_embeddings", "max_position_embeddings")
    """Keys of the position limits of source and target; None: relative, or computed for any length."""
    vocab: tuple[str, ...] = ("vocab_size",)
    dropout: str = "dropout"
    scale: str | None = None
    """Key that says whether hidden states are multiplied by d_model ** -0.5 before the head."""
    attention: tuple[str, str] = ("self_attn", "encoder_attn")
    """Submodules of a layer: self-attention, and the decoder's attention to the encoder."""
    no_attention_weights: tuple[tuple[str, str], ...] = ()
    """Stacks whose attention gives no weights of all queries and keys, each with the reason."""
    per_layer: tuple[str, ...] = ()
    """Keys of lists with one entry per layer (of the encoder, unless nested)."""
    extras: tuple[str, ...] = ()
    """Fields of the batch besides `input_ids`, `attention_mask` and `labels`."""
    nested: bool = False
    """Depth, width and vocabulary stand in `config.encoder` and `config.decoder`."""
    cache_depth: str | None = None
    """Key that tells `generate` the decoder's depth; without it the cache is as deep as the encoder."""
    zero_pad: bool = False
    """Decoding starts from a pad row that is zero in released checkpoints."""
    ffn_dim: tuple[str, str] = ("encoder_ffn_dim", "decoder_ffn_dim")
    """Keys of the feed-forward's inner width, of encoder and decoder; T5 and its relatives have one for both."""
    feed_forward: tuple[str, str] = ("", "")
    """Submodule of an encoder layer and of a decoder layer that has the feed-forward's maps; empty: the layer."""
    ffn_inputs: tuple[str, ...] = ("fc1",)
    """Linear maps into the inner width, of which a model has some: gated feed-forwards have two."""
    ffn_output: str = "fc2"
    """Linear map out of the inner width."""
    num_heads: str | None = None
    """Key of a number of heads that does not follow from the width of the model; None if it does."""


_WINDOWS: Final = (("encoder", "attends to windows of the text"),)


def _t5(model_type: str, scale: str | None) -> Architecture:
    return Architecture(
        model_type,
        "pad",
        layers="block",
        depth=("num_layers", "num_decoder_layers"),
        positions=None,
        dropout="dropout_rate",
        scale=scale,
        attention=("layer.0.SelfAttention", "layer.1.EncDecAttention"),
        no_attention_weights=_WINDOWS if model_type == "longt5" else (),
        cache_depth="decoder_num_layers",
        ffn_dim=("d_ff", "d_ff"),
        feed_forward=("layer.1.DenseReluDense", "layer.2.DenseReluDense"),
        ffn_inputs=("wi", "wi_0", "wi_1"),
        ffn_output="wo",
        num_heads="num_heads",
    )


ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        architecture.model_type: architecture
        for architecture in (
            Architecture("bart", "eos"),
            Architecture("mbart", "wrap"),
            Architecture("mvp", "eos"),
            Architecture("plbart", "wrap"),
            Architecture("pegasus", "pad"),
            Architecture("pegasus_x", "pad", positions=None, no_attention_weights=_WINDOWS),
            Architecture("bigbird_pegasus", "bos", no_attention_weights=_WINDOWS),
            Architecture("marian", "pad", vocab=("vocab_size", "decoder_vocab_size"), zero_pad=True),
            Architecture("m2m_100", "eos", positions=None),
            Architecture("blenderbot", "bos"),
            Architecture("blenderbot-small", "bos"),
            Architecture("fsmt", "wrap", positions=None, vocab=("src_vocab_size", "tgt_vocab_size")),
            Architecture(
                "led",
                "eos",
                positions=("max_encoder_position_embeddings", "max_decoder_position_embeddings"),
                no_attention_weights=_WINDOWS,
                per_layer=("attention_window",),
                extras=("global_attention_mask",),
            ),
            Architecture(
                "prophetnet",
                "pad",
                depth=("num_encoder_layers", "num_decoder_layers"),
                width="hidden_size",
                attention=("self_attn", "cross_attn"),
                no_attention_weights=(
                    ("encoder", "returns scores before the softmax"),
                    ("decoder", "has several streams"),
                ),
                cache_depth="decoder_num_encoder_layers",
                feed_forward=("feed_forward", "feed_forward"),
                ffn_inputs=("intermediate",),
                ffn_output="output",
            ),
            _t5("t5", "scale_decoder_outputs"),
            _t5("longt5", "scale_decoder_outputs"),
            _t5("umt5", "tie_word_embeddings"),
            _t5("mt5", None),
            Architecture(
                "t5gemma",
                "bos",
                depth=("num_hidden_layers", "num_hidden_layers"),
                width="hidden_size",
                positions=None,
                dropout="dropout_rate",
                attention=("self_attn", "cross_attn"),
                per_layer=("layer_types",),
                nested=True,
                ffn_dim=("intermediate_size", "intermediate_size"),
                feed_forward=("mlp", "mlp"),
                ffn_inputs=("gate_proj", "up_proj"),
                ffn_output="down_proj",
            ),
        )
    }
)

REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "switch_transformers": "its layers differ: mixture-of-experts layers stand at fixed depths",
        "nllb-moe": "its layers differ: mixture-of-experts layers stand at fixed depths",
        "seamless_m4t": "it is a speech model with several parts",
        "seamless_m4t_v2": "it is a speech model with several parts",
        "encoder-decoder": "it joins two models whose layers have no common layout",
        "t5gemma2": "its encoder also reads images and no single text config describes its layers",
    }
)


def architecture_of(model: PreTrainedModel | PreTrainedConfig) -> Architecture:
    """The row of a model or config. Raises ModelError, with the reason, for an architecture without a row."""
    config = model.config if isinstance(model, nn.Module) else model
    return architecture_named(config.model_type)


def architecture_named(model_type: str) -> Architecture:
    """The row of a `model_type`. Raises ModelError, with the reason, if there is none."""
    if model_type in ARCHITECTURES:
        return ARCHITECTURES[model_type]
    reason = REFUSED.get(model_type, "it is not a known encoder-decoder text model")
    raise ModelError(f"model_type {model_type!r} is not supported: {reason}; choose one of {', '.join(ARCHITECTURES)}")


def stack_configs(config: PreTrainedConfig) -> tuple[PreTrainedConfig, PreTrainedConfig]:
    """The configs that describe encoder and decoder: `config` itself, twice, unless they are nested."""
    return (config.encoder, config.decoder) if architecture_of(config).nested else (config, config)


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers."""
    return getattr(model.get_encoder(), architecture_of(model).layers)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers."""
    return getattr(model.get_decoder(), architecture_of(model).layers)


def layers(model: PreTrainedModel, side: str) -> nn.ModuleList:
    """The layers of `encoder` or `decoder`."""
    return encoder_layers(model) if side == "encoder" else decoder_layers(model)


def attention(model: PreTrainedModel, side: str, kind: str, layer: int) -> nn.Module:
    """The module of a layer's `self_attention` or `cross_attention`.

    Raises ModelError, with the reason, where its weights are no matrix of queries and keys.
    """
    architecture = architecture_of(model)
    reason = dict(architecture.no_attention_weights).get(side)
    if reason is not None:
        raise ModelError(
            f"the {side} of {architecture.model_type} models {reason}, so there are no attention weights to compare"
        )
    return layers(model, side)[layer].get_submodule(architecture.attention[kind == "cross_attention"])


def depths(config: PreTrainedConfig) -> tuple[int, int]:
    """Number of encoder and of decoder layers."""
    keys = architecture_of(config).depth
    encoder, decoder = (getattr(part, key) for part, key in zip(stack_configs(config), keys, strict=True))
    return encoder, decoder


def set_depths(config: PreTrainedConfig, encoder: int, decoder: int) -> None:
    """Write the number of encoder and of decoder layers into `config`.

    Where transformers would size the cache by the encoder, a decoder deeper than that makes `generate` fail.
    A key of the decoder's own, which stays in the saved config, prevents it: "decoder_x" stands for "x"
    there.
    """
    architecture = architecture_of(config)
    for part, key, depth in zip(stack_configs(config), architecture.depth, (encoder, decoder), strict=True):
        setattr(part, key, depth)
    if architecture.cache_depth is not None and (decoder > encoder or hasattr(config, architecture.cache_depth)):
        setattr(config, architecture.cache_depth, decoder)


def widths(config: PreTrainedConfig) -> tuple[int, int]:
    """Width H of the encoder's and of the decoder's hidden states; they differ in some T5Gemma models."""
    key = architecture_of(config).width
    encoder, decoder = (getattr(part, key) for part in stack_configs(config))
    return encoder, decoder


def ffn_dims(config: PreTrainedConfig) -> tuple[int, int]:
    """Inner width of the encoder's and of the decoder's feed-forward blocks."""
    keys = architecture_of(config).ffn_dim
    encoder, decoder = (getattr(part, key) for part, key in zip(stack_configs(config), keys, strict=True))
    return encoder, decoder


def set_ffn_dims(config: PreTrainedConfig, encoder: int, decoder: int) -> None:
    """Write the inner width of the encoder's and of the decoder's feed-forward blocks into `config`."""
    parts, keys = stack_configs(config), architecture_of(config).ffn_dim
    for part, key, dim in zip(parts, keys, (encoder, decoder), strict=True):
        setattr(part, key, dim)


def max_positions(config: PreTrainedConfig) -> tuple[int | None, int | None]:
    """How many source and target tokens the model has positions for; None for no limit."""
    architecture = architecture_of(config)
    if architecture.positions is None:
        return None, None
    source, target = (getattr(config, key) for key in architecture.positions)
    if architecture.model_type == "led":
        window = config.attention_window
        window = window if isinstance(window, int) else max(window)
        source -= source % window  # the source is padded to whole windows before it gets positions
    if architecture.model_type == "prophetnet":
        source -= config.pad_token_id + 1  # positions are counted from behind the pad id
        target = source - 1  # the predicting streams stand one position ahead
    return source, target


def extra_inputs(config: PreTrainedConfig) -> tuple[str, ...]:
    """Further fields of a batch; `global_attention_mask` [B, S] is 1 on the first token and 0 elsewhere."""
    return architecture_of(config).extras


def embedding_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Token and position embeddings, each module once; T5 and its relatives have position biases in a layer instead."""
    names = ("embed_tokens", "word_embeddings", "embed_positions", "position_embeddings")
    stacks = (model.get_encoder(), model.get_decoder())
    embeddings = [getattr(stack, name) for stack in stacks for name in names if hasattr(stack, name)]
    return list(dict.fromkeys([model.get_input_embeddings(), *embeddings]))


def token_embeddings(model: PreTrainedModel) -> tuple[nn.Parameter, nn.Parameter]:
    """Token embeddings [V, H] of encoder and decoder; one and the same parameter where these share it."""
    stacks: list[Any] = [model.get_encoder(), model.get_decoder()]
    modules = [stack.embed_tokens if hasattr(stack, "embed_tokens") else stack.word_embeddings for stack in stacks]
    return modules[0].weight, modules[1].weight


def zero_pad_row(model: PreTrainedModel) -> nn.Parameter | None:
    """The decoder's embedding [V, H] if its pad row is zero and must stay so in training, else None.

    Marian starts decoding from pad, and fast decoders start from a zero vector instead. The tied head would
    move the row: keep its gradient and its weight at zero.
    """
    if not architecture_of(model).zero_pad:
        return None
    weight = model.get_decoder().get_input_embeddings().weight
    return weight if not weight[model.config.pad_token_id].any() else None
