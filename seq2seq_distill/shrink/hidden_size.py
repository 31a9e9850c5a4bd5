"""Make a student of BART or a relative narrower throughout: fewer hidden dimensions, with whole heads removed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import lcm, sqrt
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from seq2seq_distill.models import forward
from seq2seq_distill.shrink.calibration import Calibration, moments_of
from seq2seq_distill.shrink.depth import rebuild_settings
from seq2seq_distill.shrink.repair import columns, corrected, corrected_norm, largest, unit_scores
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

MODEL_TYPES: Final = ("bart", "mbart", "mvp", "plbart", "blenderbot", "blenderbot-small")
"""Models with learned positions and the attention of BART."""
_SIDES: Final = ("encoder", "decoder")
_PROJECTIONS: Final = ("q_proj", "k_proj", "v_proj")


def check_hidden_size(config: PreTrainedConfig, size: int) -> None:
    """Raise ModelError if a student of a teacher with this config cannot have this width."""
    subject = f"`student.d_model` {size}"
    if config.model_type not in MODEL_TYPES or getattr(config, "use_prompt", False):
        kind = "MVP models with prompts" if config.model_type == "mvp" else f"{config.model_type} models"
        raise ModelError(
            f"{subject}: the width of {kind} cannot be cut, only that of {', '.join(MODEL_TYPES)}: leave it out"
        )
    step = lcm(config.d_model // config.encoder_attention_heads, config.d_model // config.decoder_attention_heads)
    if size % step or not 0 < size <= config.d_model:
        raise ModelError(
            f"{subject}: attention loses whole heads: choose a multiple of {step}, at most the teacher's "
            f"{config.d_model}"
        )


@torch.no_grad()
def narrow_hidden(
    model: PreTrainedModel, size: int, batches: Iterable[Mapping[str, Tensor]], *, repair: bool = True
) -> PreTrainedModel:
    """A copy of a model with `size` hidden dimensions, which are the same in encoder, decoder and embeddings.

    The dimensions with the largest outputs of the norms stay (Muralidharan et al. 2024, arXiv 2407.14679), and in each
    attention the heads that contribute most. Where embeddings are multiplied by sqrt(d_model), theirs grow by what that
    shrinks, and the decoder's last norm shrinks before a head that is tied to them, so that logits keep their scale.
    Then each linear map and norm is corrected in the order of the forward pass, so that its outputs are as near as they
    can be to those of the whole model.

    Args:
        model: in float32 and eval mode, of one of `MODEL_TYPES`; left as it is.
        size: from `check_hidden_size`.
        batches: of calibration data, as in `Calibration`.
        repair: without it, nothing is corrected.
    """
    calibration = Calibration(model, batches)
    plan = _Plan(largest(_dimension_scores(model, calibration), size), _kept_heads(model, calibration, size))
    narrow = copy.deepcopy(model)
    _slice(narrow, plan)
    heads = {side: getattr(model.config, f"{side}_attention_heads") * size // model.config.d_model for side in _SIDES}
    growth = sqrt(model.config.d_model / size) if model.config.scale_embedding else 1.0
    narrow.config.d_model = size
    narrow.config.encoder_attention_heads, narrow.config.decoder_attention_heads = heads["encoder"], heads["decoder"]
    rebuild_settings(narrow)
    for table in {_stack(narrow, side).get_input_embeddings().weight for side in _SIDES}:
        table.mul_(growth)
    steps = list(_steps(model, calibration))
    if repair:
        narrowed = calibration.with_model(narrow)
        for step in steps:
            _repair(model, narrow, plan, step, calibration, narrowed)
    if forward.output_head(narrow).weight is narrow.get_decoder().get_input_embeddings().weight:
        last: Any = next(narrow.get_submodule(step.names[0]) for step in reversed(steps) if step.is_norm)
        last.weight.div_(growth)
        last.bias.div_(growth)
    return narrow


@dataclass(frozen=True)
class _Plan:
    """What stays."""

    dimensions: Tensor
    """[size]"""
    inner: Mapping[str, Tensor]
    """By name of an attention module, the columns of its heads that stay."""

    def rows(self, name: str) -> Tensor | slice:
        """Of a norm's or a linear map's outputs, those that stay."""
        parent, _, last = name.rpartition(".")
        if last in _PROJECTIONS:
            return self.inner[parent]
        if last in ("fc1", "lm_head"):
            return slice(None)
        return self.dimensions

    def inputs(self, name: str) -> Tensor | slice:
        """Of a linear map's inputs, those that stay."""
        parent, _, last = name.rpartition(".")
        if last == "out_proj":
            return self.inner[parent]
        return slice(None) if last == "fc2" else self.dimensions


@dataclass
class _Step:
    """Modules that read one tensor: a norm, or linear maps."""

    side: str
    names: list[str]
    is_norm: bool
    of_source: bool
    """Whether the tensor has the source's positions."""
    tensor: Tensor
    """Of the first batch; held, so that no later one takes its place."""


def _dimension_scores(model: PreTrainedModel, calibration: Calibration) -> Tensor:
    """[d_model]: root of the sum over batches of squares of mean absolute outputs, summed over all norms.

    Each norm counts alike: what reads it can make up for its scale.
    """
    scores = torch.zeros(model.config.d_model, dtype=torch.float64, device=model.device)
    for side in _SIDES:
        for name, module in _stack(model, side).named_modules():
            if isinstance(module, nn.LayerNorm) and name:
                means = [module(x).abs().double().mean(0) for x in calibration.inputs(side, module)]
                norms = torch.stack(means).square().sum(0).sqrt()
                scores += norms / norms.sum()
    return scores


def _kept_heads(model: PreTrainedModel, calibration: Calibration, size: int) -> dict[str, Tensor]:
    """By name of each attention module, the columns of the heads that contribute most to its output."""
    kept = {}
    for side in _SIDES:
        count = getattr(model.config, f"{side}_attention_heads")
        for name, module in model.named_modules():
            if name.startswith(f"model.{side}.") and hasattr(module, "out_proj"):
                output: Any = module.out_proj
                head = output.in_features // count
                scores = unit_scores(output.weight, calibration.moments(side, output), head)
                kept[name] = columns(largest(scores, size // head), head)
    return kept


def _slice(model: PreTrainedModel, plan: _Plan) -> None:
    """Reduce all weights to what stays; ties stay."""
    old = list(model.parameters())  # kept alive, or their ids would be used again
    new: dict[int, nn.Parameter] = {}

    def replace(module: nn.Module, name: str, *index: Tensor | slice) -> None:
        parameter = getattr(module, name)
        if parameter is not None:
            if id(parameter) not in new:
                reduced = parameter.detach()[index[0]]
                new[id(parameter)] = nn.Parameter((reduced if len(index) == 1 else reduced[:, index[1]]).clone())
            setattr(module, name, new[id(parameter)])

    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            module.normalized_shape = (len(plan.dimensions),)
            replace(module, "weight", plan.dimensions)
            replace(module, "bias", plan.dimensions)
        elif isinstance(module, nn.Embedding):
            replace(module, "weight", slice(None), plan.dimensions)
        elif isinstance(module, nn.Linear):
            replace(module, "weight", plan.rows(name), plan.inputs(name))
            replace(module, "bias", plan.rows(name))
    del old


def _stack(model: PreTrainedModel, side: str) -> Any:
    return model.get_encoder() if side == "encoder" else model.get_decoder()


def _steps(model: PreTrainedModel, calibration: Calibration) -> Iterator[_Step]:
    """All norms and linear maps of both stacks, in the order of a forward pass; those that read one tensor together."""
    for side in _SIDES:
        steps: list[_Step] = []
        with ExitStack() as hooks:
            for name, module in model.named_modules():
                if name.startswith(f"model.{side}.") and isinstance(module, nn.LayerNorm | nn.Linear):
                    record = partial(_record, steps, side, name)
                    hooks.callback(module.register_forward_pre_hook(record).remove)
            calibration.run(side)
        yield from steps


def _record(steps: list[_Step], side: str, name: str, module: nn.Module, args: Any) -> None:
    """A forward pre-hook: this module reads the tensor of the step before, or that of a new one."""
    if steps and steps[-1].tensor is args[0] and isinstance(module, nn.Linear) and not steps[-1].is_norm:
        steps[-1].names.append(name)
        return
    of_source = side == "encoder" or name.endswith(("encoder_attn.k_proj", "encoder_attn.v_proj"))
    steps.append(_Step(side, [name], isinstance(module, nn.LayerNorm), of_source, args[0]))


def _repair(
    model: PreTrainedModel,
    narrow: PreTrainedModel,
    plan: _Plan,
    step: _Step,
    calibration: Calibration,
    narrowed: Calibration,
) -> None:
    """Correct the narrow model's modules of a step by what their outputs lack to those of the whole model."""
    old: Sequence[Any] = [model.get_submodule(name) for name in step.names]
    new: Sequence[Any] = [narrow.get_submodule(name) for name in step.names]
    rows = [plan.rows(name) for name in step.names]

    def vectors() -> Iterator[Tensor]:
        inputs = (
            each.inputs(step.side, first, step.of_source) for each, first in ((calibration, old[0]), (narrowed, new[0]))
        )
        for whole, reduced in zip(*inputs, strict=True):
            missing = [a(whole)[:, kept] - b(reduced) for a, b, kept in zip(old, new, rows, strict=True)]
            if step.is_norm:
                reduced = layer_norm(reduced, new[0].normalized_shape, eps=new[0].eps)
            yield torch.cat([reduced, *missing], dim=1)

    moments, start = moments_of(vectors()), new[0].weight.shape[-1]
    for module in new:
        outputs = slice(start, start := start + len(module.weight))
        correct = corrected_norm if step.is_norm else corrected
        weight, bias = correct(module.weight, module.bias, moments, outputs)
        module.weight.copy_(weight)
        module.bias.copy_(bias)
