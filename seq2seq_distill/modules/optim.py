"""Optimisers and learning-rate schedules."""

import math
from collections.abc import Callable, Iterable
from itertools import chain

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import Adafactor
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from seq2seq_distill.config import OptimConfig

MOST_WARMUP_STEPS = 500


def build_optimizer(
    module: nn.Module,
    config: OptimConfig,
    encoder: Iterable[nn.Parameter] = (),
    projections: Iterable[nn.Parameter] = (),
) -> Optimizer:
    """The configured optimiser over the trainable parameters; norms and biases do not decay.

    Args:
        module: with the parameters.
        config: of the run.
        encoder: those that `encoder_lr` is for, encoder and embeddings.
        projections: those that `projection_lr` is for.
    """
    parts = [] if config.encoder_lr is None else [(set(encoder), config.encoder_lr)]
    parts.append((set(projections), config.projection_lr or config.lr))
    split = split_by_decay(module)
    rest = set(chain(*split)).difference(*(part for part, _ in parts))
    groups = [
        {"params": [p for p in parameters if p in part], "weight_decay": decay, "lr": lr}
        for part, lr in ((rest, config.lr), *parts)
        for parameters, decay in zip(split, (config.weight_decay, 0.0), strict=True)
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adafactor":
        return Adafactor(groups, lr=config.lr, scale_parameter=False, relative_step=False)
    return AdamW(groups, lr=config.lr, eps=config.eps, betas=config.betas)


def split_by_decay(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with and without weight decay, each once.

    Without: biases, and all parameters of a norm, known by its type, since its name differs from family to family.
    """
    decayed: dict[nn.Parameter, None] = {}
    others: dict[nn.Parameter, None] = {}
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.requires_grad:
                (others if _is_norm(owner) or name.endswith("bias") else decayed)[parameter] = None
    return [p for p in decayed if p not in others], list(others)


def build_schedule(optimizer: Optimizer, config: OptimConfig, total_steps: int) -> LambdaLR:
    """The configured schedule over the run's own number of optimiser steps."""
    warmup = warmup_steps(config, total_steps)
    match config.schedule:
        case "linear":
            return get_linear_schedule_with_warmup(optimizer, warmup, total_steps)
        case "cosine":
            return get_cosine_schedule_with_warmup(optimizer, warmup, total_steps)
        case "cosine_with_restarts":
            return get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, warmup, total_steps)
        case "polynomial":
            return get_polynomial_decay_schedule_with_warmup(optimizer, warmup, total_steps, lr_end=0.0, power=2.0)
        case "inverse_sqrt":
            return LambdaLR(optimizer, _inverse_sqrt(warmup))
        case "constant":
            return get_constant_schedule_with_warmup(optimizer, warmup)


def warmup_steps(config: OptimConfig, total_steps: int) -> int:
    """As configured, or 500 steps, at most a tenth of the run."""
    return min(MOST_WARMUP_STEPS, total_steps // 10) if config.warmup_steps is None else config.warmup_steps


def _inverse_sqrt(warmup: int) -> Callable[[int], float]:
    """Rises linearly to 1 during the warm-up, then falls with 1 / sqrt(step) (Vaswani et al. 2017, section 5.3)."""
    peak = max(1, warmup)
    return lambda step: min((step + 1) / peak, math.sqrt(peak / (step + 1)))


def _is_norm(module: nn.Module) -> bool:
    # Every family brings norm classes of its own (T5LayerNorm, T5GemmaRMSNorm, ...); their type names agree.
    return "norm" in type(module).__name__.lower()
