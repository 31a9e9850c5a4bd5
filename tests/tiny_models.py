"""Tiny models of every supported family, made from configs: no download, seeded, in eval mode."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel

from seq2seq_distill.models import architectures

FAMILIES: tuple[str, ...] = tuple(architectures.ARCHITECTURES)
# Together they have every trait in the table of architectures: decoder inputs that wrap the last label (mbart), a zero
# pad row and two vocabularies (marian), a scaled head (t5), nested configs and soft-capped logits (t5gemma), a decoding
# step of its own (fsmt), attention windows and extra inputs (led), n-gram streams (prophetnet).
REPRESENTATIVES = ("bart", "mbart", "marian", "t5", "t5gemma", "fsmt", "led", "prophetnet")

every_family = pytest.mark.parametrize("model_type", FAMILIES)
"""For tests of the table's rows."""


def families(*without: str) -> pytest.MarkDecorator:
    """For tests of code that works on any row: by `REPRESENTATIVES`, with `--all-families` by all, `without` aside."""
    marks = {name: () if name in REPRESENTATIVES else pytest.mark.all_families for name in FAMILIES}
    params = [pytest.param(name, marks=mark) for name, mark in marks.items() if name not in without]
    return pytest.mark.parametrize("model_type", params)


_HEADS = {
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
_BART: dict[str, Any] = {"vocab_size": 64, "d_model": 16, "max_position_embeddings": 48, **_HEADS}
_T5: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
_GEMMA: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 4,
}
_KEYS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("bart", "mbart", "mvp", "pegasus", "m2m_100"), _BART),
    **dict.fromkeys(("blenderbot", "blenderbot-small"), _BART),
    "plbart": _BART,
    "marian": {
        **_BART,
        "decoder_vocab_size": 64,
        "pad_token_id": 63,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
        "decoder_start_token_id": 63,
    },
    "pegasus_x": {**_BART, "block_size": 16, "num_global_tokens": 4},
    "bigbird_pegasus": {**_BART, "attention_type": "original_full"},
    "fsmt": {
        **{key: value for key, value in _BART.items() if key != "vocab_size"},
        "langs": ["en", "de"],
        "src_vocab_size": 64,
        "tgt_vocab_size": 64,
    },
    "led": {
        **{key: value for key, value in _BART.items() if key != "max_position_embeddings"},
        "max_encoder_position_embeddings": 48,
        "max_decoder_position_embeddings": 48,
        "attention_window": 4,
    },
    "prophetnet": {
        "vocab_size": 64,
        "hidden_size": 16,
        "max_position_embeddings": 48,
        "num_encoder_attention_heads": 2,
        "num_decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    },
    **dict.fromkeys(("t5", "mt5", "umt5"), _T5),
    "longt5": {**_T5, "local_radius": 4, "global_block_size": 4},
}


def tiny_config_keys(
    model_type: str, *, encoder_layers: int = 2, decoder_layers: int = 2, **overrides: Any
) -> dict[str, Any]:
    """Config keys, `model_type` aside, of a tiny model: vocabulary 64, width 16, two heads."""
    if model_type == "t5gemma":
        return {
            "vocab_size": 64,
            "encoder": {**_GEMMA, "num_hidden_layers": encoder_layers},
            "decoder": {**_GEMMA, "num_hidden_layers": decoder_layers},
            **overrides,
        }
    encoder_key, decoder_key = architectures.ARCHITECTURES[model_type].depth
    return {**_KEYS[model_type], encoder_key: encoder_layers, decoder_key: decoder_layers, **overrides}


def tiny_model(
    model_type: str, *, encoder_layers: int = 2, decoder_layers: int = 2, seed: int = 0, **overrides: Any
) -> PreTrainedModel:
    """A tiny model in eval mode, its weights larger than at birth, so that every layer and bias tells.

    `overrides` are config keys. The pad row of a Marian model stays zero.
    """
    keys = tiny_config_keys(model_type, encoder_layers=encoder_layers, decoder_layers=decoder_layers, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(model_type, **keys))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad and weight.dim() > 1 and "relative_attention_bias" not in name:
                    weight.mul_(0.4 / weight.std().clamp(min=1e-6))
                elif weight.requires_grad:
                    weight.add_(0.2 * torch.randn_like(weight))
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias.normal_()
    return model.eval()


def untie_head(model: PreTrainedModel, seed: int = 1) -> PreTrainedModel:
    """Give the model a head of its own, as `from_pretrained` leaves T5 v1.1, Flan and mT5."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(model.lm_head.weight.shape, generator=generator)
    model.lm_head.weight = torch.nn.Parameter(weight)
    model.all_tied_weights_keys.pop("lm_head.weight")
    return model


def tiny_batch(
    model: PreTrainedModel, batch: int = 3, source: int = 7, target: int = 5, seed: int = 0
) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` [batch, source], `labels` [batch, target] and the family's extra inputs.

    Row 0 is full, every further row one source and one target token shorter than the one before (one is the
    least).
    """
    generator = torch.Generator().manual_seed(seed)
    pad = architectures.stack_configs(model.config)[1].pad_token_id
    rows = torch.arange(batch)[:, None]
    mask = torch.arange(source) < (source - rows).clamp(min=1)
    input_ids = torch.randint(5, 60, (batch, source), generator=generator).masked_fill(~mask, pad)
    labels = torch.randint(5, 60, (batch, target), generator=generator)
    labels = labels.masked_fill(torch.arange(target) >= (target - rows).clamp(min=1), -100)
    fields = {"input_ids": input_ids, "attention_mask": mask.long(), "labels": labels}
    for name in architectures.extra_inputs(model.config):
        fields[name] = torch.zeros_like(input_ids).index_fill_(1, torch.tensor([0]), 1)
    return fields
