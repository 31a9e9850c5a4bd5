"""The components of a run on real text and its steps without a Trainer, for benchmarks of whole steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from seq2seq_distill.cli.main import parse
from seq2seq_distill.config import RunConfig
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.training.build import make_module
from seq2seq_distill.training.components import RunComponents, build_components

Batch = Mapping[str, Any]


def parse_run(arguments: Sequence[str]) -> RunConfig:
    """The config of a run from its arguments."""
    config = parse("run", arguments)
    assert isinstance(config, RunConfig)
    return config


def demo_config(task: str, **changes: Any) -> RunConfig:
    """The config of the bare command with some fields of its groups replaced: `loss={"temperature": 2.0}`."""
    config = parse_run(["--task", task])
    groups = {name: replace(getattr(config, name), **values) for name, values in changes.items()}
    return replace(config, **groups)


def distiller(config: RunConfig, parts: RunComponents) -> SummarizationDistiller:
    """The module built from these components, in training mode."""
    module = make_module(config, parts)
    assert isinstance(module, SummarizationDistiller)
    return module.train()


def built(config: RunConfig) -> RunComponents:
    """The components of a run, with a fixed seed."""
    torch.manual_seed(config.seed)
    return build_components(config)


def steps(parts: RunComponents, numbers: Iterable[int]) -> list[Batch]:
    """The undivided batches of the given optimiser steps of the run."""
    return [parts.data.training_batch(number) for number in numbers]


def train_on(module: SummarizationDistiller, batches: Iterable[Batch]) -> None:
    """Forward and backward passes, without an optimiser."""
    for batch in batches:
        module.zero_grad()
        module.compute_loss(batch).loss.backward()


def tokens(batches: Iterable[Batch]) -> int:
    """Number of source and target tokens, excluding padding."""
    return sum(int(batch["source_tokens"]) + int(batch["target_tokens"]) for batch in batches)
