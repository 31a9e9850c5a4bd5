"""Temperature and weights as functions of the optimiser step: nothing to remember, so a resume is exact."""

import math
from dataclasses import replace

from seq2seq_distill.config import LossConfig, OptimConfig, ResolvedLossConfig, ScheduleConfig, WeightSchedule
from seq2seq_distill.modules.optim import warmup_steps

WEIGHTS = ("alpha_ce", "alpha_mlm", "alpha_hid")


def at_step(loss: ResolvedLossConfig, optim: OptimConfig, step: int, total_steps: int) -> ResolvedLossConfig:
    """The options with the temperature and the weights of a step; a schedule scales the configured weight.

    Args:
        loss: the options as configured.
        optim: has the warm-up, unless the schedule has one of its own.
        step: optimiser steps before this one.
        total_steps: of the run.
    """
    warmup = warmup_of_weights(loss, optim, total_steps)
    weights = {
        name: getattr(loss, name) * weight_factor(getattr(loss.schedule, name), step, total_steps, warmup)
        for name in WEIGHTS
    }
    return replace(loss, temperature=temperature_at(loss, step, total_steps), **weights)


def warmup_of_weights(loss: LossConfig, optim: OptimConfig, total_steps: int) -> int:
    """Steps of a warm-up of weights: their own, or those of the learning rate."""
    own = loss.schedule.warmup_steps
    return warmup_steps(optim, total_steps) if own is None else own


def changing(schedule: ScheduleConfig) -> list[str]:
    """The options that differ from step to step, of all tokens alike."""
    weights = [name for name in WEIGHTS if getattr(schedule, name) != "constant"]
    return [*weights, "temperature"] if schedule.temperature in ("linear", "cosine") else weights


def weight_factor(course: WeightSchedule, step: int, total_steps: int, warmup_steps: int) -> float:
    """What a weight is multiplied by, 0 to 1.

    Args:
        course: `linear_growth` goes from 0 in the first step to 1 in the last, `linear_decay` from 1 to 0, `warmup`
            from 0 to 1 in `warmup_steps` steps and stays there.
        step: steps before this one.
        total_steps: of the run.
        warmup_steps: of `warmup`.
    """
    match course:
        case "linear_growth":
            return progress(step, total_steps)
        case "linear_decay":
            return 1 - progress(step, total_steps)
        case "warmup":
            return 1.0 if step >= warmup_steps else step / warmup_steps
        case "constant":
            return 1.0


def temperature_at(loss: ResolvedLossConfig, step: int, total_steps: int) -> float:
    """Temperature of `ce_loss` in a step: from the configured one in the first to `temperature_end` in the last.

    `linear` goes in equal steps, `cosine` in half a wave. The adaptive ones begin from the configured one.
    """
    first, last, done = loss.temperature, loss.schedule.temperature_end, progress(step, total_steps)
    match loss.schedule.temperature:
        case "linear":
            return first + (last - first) * done
        case "cosine":
            return last + (first - last) * (1 + math.cos(math.pi * done)) / 2
        case _:
            return first


def progress(step: int, total_steps: int) -> float:
    """0 in the first step, 1 in the last and after it."""
    return min(1.0, step / max(1, total_steps - 1))
