"""`distill budget`: the largest --batch.max_tokens that fits into memory."""

import json
import logging
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.caching import with_cache
from seq2seq_distill.training.components import RunComponents, build_components
from seq2seq_distill.training.device import device_of_run
from seq2seq_distill.training.probe import Probe
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)

MARGIN = 0.9
"""Share of the memory to use."""
FIRST = 512
"""Tokens of the first trial; each further one has twice as many."""
GROWTH = 1.2
"""By which the peak must have grown between two trials before they are drawn a line through."""


@dataclass(frozen=True)
class Budget:
    """What was found."""

    max_tokens: int
    """The proposal, of one process and micro-batch."""
    memory_bytes: int
    """What there is."""
    bytes_per_token: float
    """By which a step's peak grows."""
    tried: dict[int, int]
    """Peak in bytes by tokens of the trials."""


def find_budget(config: RunConfig) -> Budget:
    """Try the run's first steps with growing batches of its longest rows, and print the budget that would fit.

    The peak is close to a straight line in the tokens of a batch, so a few small trials are enough: none has to run out
    of memory. Optimiser states are counted in.

    Raises:
        UserError: in one line.
    """
    if config.tasks:
        raise ConfigError("`tasks`: a budget is for one teacher: give that of a task by `teacher`, and its `data`")
    parts = build_components(replace(config, targets="reference"))  # whose lengths are about those of the teacher's
    if config.teacher_cache:
        parts = with_cache(config, parts)
    found = propose(parts, config, memory_of(device_of_run(config.trainer)))
    print(json.dumps(asdict(found)))
    logger.info(
        "`batch.max_tokens` %d would take %.0f%% of %.1f GiB; with n processes or accumulated batches, n times that",
        found.max_tokens,
        100 * MARGIN,
        found.memory_bytes / 2**30,
    )
    return found


def propose(parts: RunComponents, config: RunConfig, memory: int) -> Budget:
    """The budget of a memory of so many bytes."""
    probe = Probe(config, parts)
    tried: dict[int, int] = {}
    tokens, longest = FIRST, _longest_first(parts)
    while True:
        rows = _rows(parts, longest, tokens)
        padded = _padded(parts, rows)
        tried[padded] = _peak(probe, parts.data.collated("train", rows.tolist()))
        sizes = list(tried)
        if len(rows) == len(longest) or tried[padded] > memory / 2:
            break
        if len(sizes) > 2 and tried[padded] > GROWTH * tried[sizes[0]] and padded > 4 * FIRST:
            break
        tokens *= 2
    if len(tried) < 2:
        raise ConfigError("`data` has too few examples to find a budget with: take the default, or add some")
    (few, low), (many, high) = list(tried.items())[-2:]
    slope = max(1.0, (high - low) / (many - few))
    return Budget(max(1, int(many + (MARGIN * memory - high) / slope)), memory, round(slope, 1), tried)


def memory_of(device: torch.device) -> int:
    """Bytes of the device that a process can have: all of a GPU, or what is available of the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    with open("/proc/meminfo") as lines:
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return available * 1024 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _longest_first(parts: RunComponents) -> np.ndarray:
    plan = parts.data.plan.batches
    return np.argsort(-(plan.source_lengths + plan.target_lengths), kind="stable")


def _rows(parts: RunComponents, longest: np.ndarray, tokens: int) -> np.ndarray:
    plan = parts.data.plan.batches
    width = int(plan.source_lengths[longest[0]] + plan.target_lengths[longest[0]])
    return longest[: max(1, tokens // width)]


def _padded(parts: RunComponents, rows: np.ndarray) -> int:
    plan = parts.data.plan.batches
    return len(rows) * int(plan.source_lengths[rows].max() + plan.target_lengths[rows].max())


def _peak(probe: Probe, batch: Mapping[str, Any]) -> int:
    """Bytes at the peak of two optimiser steps on this batch; on a CPU, of the process so far."""
    for _ in range(2):
        probe.step(batch)
    if probe.device.type == "cuda":
        return torch.cuda.max_memory_allocated(probe.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
