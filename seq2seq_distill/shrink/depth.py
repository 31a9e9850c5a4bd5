"""The steps that turn a copy of the teacher into a student: layers, config, settings of the modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from transformers import PreTrainedConfig

from seq2seq_distill.models import architectures
from seq2seq_distill.models.config_errors import CONFIG_ERRORS, STRUCTURE_KEYS, first_line, unknown_key
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RELATIVE_BIASES: Final = ("relative_attention_bias", "global_relative_attention_bias")


def select_layers(layers: nn.ModuleList, ids: Sequence[int]) -> None:
    """Reduce `layers` in place to those of `ids`; the first one kept gets T5's relative position biases."""
    first = layers[0]
    kept = [layers[i] for i in ids]
    if ids[0] != 0:
        # in T5 the first block alone holds the position biases and hands them on to the others
        sources = dict(first.named_modules())
        for name, module in list(kept[0].named_modules()):
            for bias in RELATIVE_BIASES:
                if hasattr(sources[name], bias) and not hasattr(module, bias):
                    setattr(module, bias, getattr(sources[name], bias))
    del layers[:]
    layers.extend(kept)


def keep_prompts(model: PreTrainedModel, encoder_ids: Sequence[int], decoder_ids: Sequence[int]) -> None:
    """Reduce MVP's prompts: one matrix, whose rows are a key and a value of width H for each layer."""
    for stack, ids in ((model.get_encoder(), encoder_ids), (model.get_decoder(), decoder_ids)):
        for prompt in (getattr(stack, name, None) for name in ("self_attn_prompt", "cross_attn_prompt")):
            if prompt is not None:
                last = prompt.prompt_trans[-1]
                index = torch.tensor(ids, device=last.weight.device)
                for key in ("weight", "bias"):
                    rows = getattr(last, key).detach().unflatten(0, (prompt.num_layers, -1))
                    setattr(last, key, nn.Parameter(rows[index].flatten(0, 1)))


def cut_config(config: PreTrainedConfig, encoder_ids: Sequence[int], decoder_ids: Sequence[int]) -> None:
    """Write depths, per-layer lists, dtype and the ids of the copied layers into `config`."""
    architecture = architectures.architecture_of(config)
    architectures.set_depths(config, len(encoder_ids), len(decoder_ids))
    parts = architectures.stack_configs(config)
    for part, ids in (
        zip(parts, (encoder_ids, decoder_ids), strict=True) if architecture.nested else [(config, encoder_ids)]
    ):
        for key in architecture.per_layer:
            values = getattr(part, key)
            if isinstance(values, list | tuple):
                setattr(part, key, [values[i] for i in ids])
    for part in {id(part): part for part in (config, *parts)}.values():
        part.dtype = torch.float32
    config.distilled_encoder_layers = list(encoder_ids)
    config.distilled_decoder_layers = list(decoder_ids)


def override(model: PreTrainedModel, overrides: Mapping[str, Any]) -> None:
    """Write the overrides into the config. Raises ModelError unless the same tensors come of it."""
    config, architecture = model.config, architectures.architecture_of(model)
    before = {name: weight.shape for name, weight in _skeleton(model, config).state_dict().items()}
    for key, value in overrides.items():
        if value is None:
            continue
        name = architecture.dropout if key == "dropout" else key
        if name in architecture.depth:
            raise ModelError(
                f"`student.overrides` {key}: set the depth with `student.encoder_layers` or `student.decoder_layers`"
            )
        if name.endswith("_token_id") and name in config.to_dict():
            raise ModelError(f"`student.overrides` {key}: a student shares its teacher's tokenizer: leave it out")
        if name not in config.to_dict() or name in STRUCTURE_KEYS:
            raise ModelError(unknown_key(f"`student.overrides` {key}", config, key))
        if "drop" in name and not (isinstance(value, int | float) and 0 <= value < 1):
            raise ModelError(
                f"`student.overrides` {key} {value!r} is not a probability: choose a value from 0 to below 1"
            )
        if architecture.model_type == "pegasus_x" and name == "encoder_layerdrop" and value > 0:
            raise ModelError("`student.encoder_layerdrop`: transformers' pegasus_x does not support it: leave it at 0")
        try:
            for part in (config, *architectures.stack_configs(config)):
                if part is config or name in part.to_dict():
                    setattr(part, name, value)
            after = {name: weight.shape for name, weight in _skeleton(model, config).state_dict().items()}
        except (*CONFIG_ERRORS, RuntimeError, AssertionError) as error:
            raise ModelError(
                f"`student.overrides` {key} {value!r} is not accepted ({first_line(error)}): choose another value"
            ) from error
        if before != after:
            raise ModelError(
                f"`student.overrides` {key} {value!r} would change the shape of copied weights: leave it out"
            )


def _skeleton(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """A model built from `config` without storage."""
    with torch.device("meta"):
        return type(model)(config)


def rebuild_settings(model: PreTrainedModel) -> None:
    """Give every module the settings that a model built from the config has: indices, dropout, sub-configs.

    So the model in memory is the one that a reload gives.
    """
    encoder: Any = model.get_encoder()
    if hasattr(encoder, "set_attention_type"):
        # BigBird's attention modules change with the length of the last batch
        with torch.random.fork_rng(devices=[]):
            encoder.set_attention_type(model.config.attention_type)
    for key in model._keys_to_ignore_on_save or ():
        # a reload computes these tables; those of a half-precision teacher are rounded
        table: Any = model.get_submodule(key.rpartition(".")[0])
        table.weight.data.copy_(table.create_weight())
    skeleton = _skeleton(model, model.config)
    built = dict(skeleton.named_modules())
    for name, module in model.named_modules():
        for key, value in vars(built[name]).items():
            setting = isinstance(value, bool | int | float | str | None | PreTrainedConfig)
            if setting and not key.startswith("_") and key != "training":
                vars(module)[key] = value
    born = {name: weight.requires_grad for name, weight in skeleton.named_parameters(remove_duplicate=False)}
    for name, weight in model.named_parameters():
        weight.requires_grad_(born[name])
