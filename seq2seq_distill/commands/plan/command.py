"""`distill plan`: which student keeps most among those that are fast and small enough, before any is trained."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import nn

from seq2seq_distill import training
from seq2seq_distill.commands.plan.layouts import MB, Target
from seq2seq_distill.commands.plan.measuring import Subject, Workload, check_engine, with_fixed_length
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.commands.plan.planning import Inputs, Planner
from seq2seq_distill.commands.plan.report import Findings, print_tables, record
from seq2seq_distill.config import RunConfig, StudentConfig, TrimConfig
from seq2seq_distill.data.length_batches import lengths
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.models import architectures
from seq2seq_distill.training.components import build_components, teacher_and_views, teacher_of, teacher_path
from seq2seq_distill.training.device import device_of_run
from seq2seq_distill.training.output_folder import plain
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import writable_file, write_text
from seq2seq_distill.utils.terminal import program

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

LENGTHS = 256, 64
"""Source and output tokens where there is neither an option nor data."""
PROBE_STEPS = 20
STUDENT_OPTIONS = ("encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "num_heads")
"""Options of a student that a layout sets."""


def make_plan(config: PlanConfig) -> dict[str, Any]:
    """Measure layouts beside the teacher, choose one, and try what training it costs; returns what is printed as JSON.

    Raises:
        UserError: in one line; among others ConfigError if no layout is as fast and as small as asked.
    """
    if config.write:
        writable_file(config.write, "write")  # an error comes before the measuring
    inputs = _read(config.run)
    check_engine(config.engine, inputs.teacher.model)
    workload, device = _workload(config, inputs), device_of_run(config.trainer)
    where = (
        f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name()
    )
    engine = f"{config.engine} {config.precision}"
    sizes = workload.rows, workload.source_length, workload.output_length
    logger.info("%d rows of %d source and %d output tokens, by %s on %s", *sizes, engine, where)
    nn.Module.to(inputs.teacher.model, device)  # transformers' own `to` has no types
    with TemporaryDirectory(prefix="distill_plan_") as folder:
        planner = Planner(config, inputs, workload, Path(folder))
        findings = planner.findings()
        chosen = findings.chosen
        cost = training_cost(planner.in_this_folder(chosen)) if chosen is not None and config.data else None
    print_tables(findings)
    report: dict[str, Any] = {
        "device": where,
        "engine": config.engine,
        "precision": config.precision,
        **dict(zip(("rows", "source_length", "output_length"), sizes, strict=True)),
        "trial_steps": config.trial_steps,
        **record(findings),
        "training": cost,
    }
    print(json.dumps(report))
    if config.target.is_set and chosen is None:
        raise ConfigError(_not_met(config.target, findings))
    if chosen is not None:
        _announce(config, report["chosen"], planner.run_of(chosen))
    return report


def training_cost(run: RunConfig) -> dict[str, float]:
    """What the planned run costs on this device, by its first steps."""
    logger.info("trying %d steps of training", PROBE_STEPS)
    probe = training.Probe(run, build_components(replace(run, targets="reference")))
    seconds = probe.seconds_per_step(PROBE_STEPS)
    cost = {"minutes_per_1000_steps": round(1000 * seconds / 60, 2), "memory_bytes": probe.memory()}
    logger.info(
        "training: %.1f minutes per 1,000 steps and %.0f MB, on one process",
        cost["minutes_per_1000_steps"],
        cost["memory_bytes"] / MB,
    )
    return cost


def write_config(path: Path, run: RunConfig) -> None:
    """A file for `distill --config`, with what differs from the defaults."""
    write_text(path.expanduser(), yaml.safe_dump(_different(plain(run), plain(RunConfig())), sort_keys=False))


def _different(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        name: _different(value, defaults[name]) if value and isinstance(defaults.get(name), dict) else value
        for name, value in values.items()
    }
    return {name: value for name, value in inner.items() if value != defaults.get(name) and value != {}}


def _read(run: RunConfig) -> Inputs:
    """The teacher, its tokenizer, the mean lengths in tokens of validation sources and targets, and these targets."""
    if run.data:
        # Nothing is trimmed here, and no student is made.
        teacher, (view, _) = teacher_and_views(replace(run, trim=TrimConfig(), student=StudentConfig()))
        rows = view.data.encoded["val"]
        source, output = (max(2, round(mean(lengths(rows, side).tolist()))) for side in ("input_ids", "labels"))
        return Inputs(Subject(teacher.model, view.tokenizer), (source, output), view.data.references("val"))
    tokenizer = load_tokenizer(str(teacher_path(run)), run.src_lang, run.tgt_lang)
    alone = teacher_of(run, tokenizer)
    assert alone is not None
    return Inputs(Subject(alone.model, tokenizer), LENGTHS)


def _workload(config: PlanConfig, inputs: Inputs) -> Workload:
    output = config.output_length or inputs.lengths[1]
    settings = with_fixed_length(GenerationSettings.of_run(config.run), output)
    source = _source_length(config, inputs.teacher.model, inputs.lengths[0])
    return Workload(config.rows, source, output, config.repeats, settings)


def _source_length(config: PlanConfig, teacher: PreTrainedModel, usual: int) -> int:
    positions = architectures.max_positions(teacher.config)[0]
    if positions is None:
        return config.source_length or usual
    if (config.source_length or 0) > positions:
        raise ConfigError(f"`source_length` {config.source_length} exceeds the teacher's {positions}: choose less")
    return config.source_length or min(usual, positions)


def _not_met(target: Target, findings: Findings) -> str:
    costs = [cost for cost in findings.best_known() if cost is not findings.teacher]
    fastest, smallest = max(costs, key=lambda cost: cost.speedup), min(costs, key=lambda cost: cost.bytes)
    asked = [f"`{name}` {value}" for name, value in asdict(target).items() if value is not None]
    return (
        f"{', '.join(asked)}: no layout is as fast and small as asked; the fastest, {findings.name(fastest.layout)}, "
        f"has {fastest.speedup:.2f} times the teacher's speed and {fastest.latency_ms:.0f} ms, and the smallest, "
        f"{findings.name(smallest.layout)}, has {smallest.bytes / MB:.1f} MB: ask for less, and see what "
        "`distill export` adds"
    )


def _announce(config: PlanConfig, name: str, run: RunConfig) -> None:
    """Log the options of the chosen layout, and write them."""
    chosen = {f"student.{key}": getattr(run.student, key) for key in STUDENT_OPTIONS}
    chosen |= {"trim.size": run.trim.size, "trim.coverage": run.trim.coverage}
    options = " ".join(f"`{key}` {value}" for key, value in chosen.items() if value is not None)
    logger.info("chosen: %s (%s)", name, options)
    if config.write:
        write_config(Path(config.write), run)
        logger.info("%s --config %s trains this student", program(), shlex.quote(config.write))
