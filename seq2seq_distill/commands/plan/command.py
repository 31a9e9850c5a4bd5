"""`distill plan`: which student is as fast as it has to be, before any is trained."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from operator import truediv
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

import torch
import yaml
from rich.table import Table
from torch import nn
from transformers import PreTrainedTokenizerBase

from seq2seq_distill import training
from seq2seq_distill.commands.plan.layouts import Layout, Measured, candidates, choose, frontier
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.batching import lengths
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.metrics.cost import Decoding, count_parameters, decoding_memory, measure_decoding, model_bytes
from seq2seq_distill.models import architectures
from seq2seq_distill.models.layer_map import check_depth
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training.components import build_components, teacher_of, teacher_path
from seq2seq_distill.training.output_folder import plain
from seq2seq_distill.training.views import pad_id
from seq2seq_distill.utils.distributed import local_device
from seq2seq_distill.utils.errors import ConfigError, ModelError
from seq2seq_distill.utils.files import write_text
from seq2seq_distill.utils.terminal import console, program

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

LENGTHS = 256, 64
"""Source and output tokens where there is neither an option nor data."""
PROBE_STEPS = 20


def make_plan(config: PlanConfig) -> dict[str, Any]:
    """Measure layouts beside the teacher, choose one, and try what training it costs; returns what is printed as JSON.

    Raises:
        UserError: in one line; among others ConfigError if no layout is as fast as asked.
    """
    run = config.run
    teacher, tokenizer, usual = _teacher_and_lengths(run)
    source, output = _source_length(config, teacher, usual[0]), config.output_length or usual[1]
    device = local_device(run.trainer.accelerator)
    where = (
        f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name()
    )
    logger.info("%d rows of %d source and %d output tokens, on %s", config.rows, source, output, where)
    layouts = measure_layouts(config, _moved(teacher, device), tokenizer, source, output)
    best = choose(layouts[1:], config.speedup, config.max_latency_ms)
    asked = config.speedup is not None or config.max_latency_ms is not None
    chosen = best if asked else None
    _print(layouts, chosen)
    report: dict[str, Any] = {
        "device": where,
        "rows": config.rows,
        "source_length": source,
        "output_length": output,
        "layouts": [asdict(each) for each in layouts],
        "frontier": [each.name for each in frontier(layouts)],
        "chosen": None if chosen is None else chosen.name,
        "training": None,
    }
    if chosen is not None and run.data:
        report["training"] = training_cost(with_layout(run, chosen))
    print(json.dumps(report))
    if asked and chosen is None:
        raise ConfigError(_too_slow(config, layouts[1:]))
    if chosen is not None and config.write:
        write_config(Path(config.write), with_layout(run, chosen))
        logger.info("%s --config %s trains the %s student", program(), shlex.quote(config.write), chosen.name)
    return report


def with_layout(run: RunConfig, layout: Measured) -> RunConfig:
    """The run, with a student of this layout."""
    student = replace(
        run.student,
        encoder_layers=layout.encoder_layers,
        decoder_layers=layout.decoder_layers,
        encoder_layer_ids=None,
        decoder_layer_ids=None,
    )
    return replace(run, student=student)


def measure_layouts(
    config: PlanConfig, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: int, output: int
) -> list[Measured]:
    """The teacher, then each candidate, timed in turns with the teacher so that a busy machine slows both.

    All decode the same random tokens to the same length: nobody knows yet where an untrained student would stop.
    """
    settings = with_fixed_length(GenerationSettings.of_run(config.run), output)
    batches = random_batches(teacher, tokenizer, config.repeats, config.rows, source)
    tokens = config.rows * output
    found: list[Measured] = []
    for encoder, decoder in _wanted(config, teacher):
        student = _moved(create_student(teacher, encoder, decoder), teacher.device)
        timed = measure_decoding({"teacher": teacher, "student": student}, batches, settings, warmup=1)
        if not found:
            found.append(
                _measured(teacher, timed["teacher"], tokens, 1.0, decoding_memory(teacher, batches[0], settings))
            )
        # Outputs are all of one length. Pairs and their median mind a busy machine less than sums do.
        gain = median(map(truediv, timed["teacher"].seconds, timed["student"].seconds))
        memory = decoding_memory(student, batches[0], settings)
        found.append(_measured(student, timed["student"], tokens, gain, memory))
        logger.info("%s: %.2f times as fast as the teacher", found[-1].name, gain)
    return found


def with_fixed_length(settings: GenerationSettings, output: int) -> GenerationSettings:
    """The settings, with outputs of exactly so many tokens."""
    return replace(settings, max_length=output, options={**settings.options, "min_new_tokens": output - 1})


def random_batches(
    teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, n: int, rows: int, length: int
) -> list[Mapping[str, Any]]:
    """So many batches of random tokens, none of them special."""
    special = set(tokenizer.all_special_ids)
    ordinary = torch.tensor([token for token in range(len(tokenizer)) if token not in special])
    draws = torch.randint(len(ordinary), (n, rows, length), generator=torch.Generator().manual_seed(0))
    collate = Collator(pad_id(tokenizer, teacher), architectures.extra_inputs(teacher.config))
    return [collate([{"input_ids": ids, "row": 0} for ids in batch]) for batch in ordinary[draws].tolist()]


def training_cost(run: RunConfig) -> dict[str, float]:
    """What the planned run costs on this device, by its first steps."""
    logger.info("trying %d steps of training", PROBE_STEPS)
    probe = training.Probe(run, build_components(run))
    seconds = probe.seconds_per_step(PROBE_STEPS)
    cost = {"minutes_per_1000_steps": round(1000 * seconds / 60, 2), "memory_bytes": probe.memory()}
    logger.info(
        "training: %.1f minutes per 1,000 steps and %.0f MiB, on one process",
        cost["minutes_per_1000_steps"],
        cost["memory_bytes"] / 2**20,
    )
    return cost


def write_config(path: Path, run: RunConfig) -> None:
    """A file for `distill --config`, with what differs from the defaults."""
    write_text(path.expanduser(), yaml.safe_dump(_different(plain(run), plain(RunConfig())), sort_keys=False))


def _different(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        name: _different(value, defaults[name]) if isinstance(value, dict) and defaults.get(name) else value
        for name, value in values.items()
    }
    return {name: value for name, value in inner.items() if value != defaults.get(name) and value != {}}


def _teacher_and_lengths(run: RunConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[int, int]]:
    """The teacher, its tokenizer, and the mean lengths in tokens of validation sources and targets."""
    if run.data:
        parts = build_components(run)
        assert parts.teacher is not None
        rows = parts.data.encoded["val"]
        means = [max(2, round(mean(lengths(rows, column).tolist()))) for column in ("input_ids", "labels")]
        return parts.teacher.model, parts.tokenizer, (means[0], means[1])
    tokenizer = load_tokenizer(str(teacher_path(run)), run.src_lang, run.tgt_lang)
    teacher = teacher_of(run, tokenizer)
    assert teacher is not None
    return teacher.model, tokenizer, LENGTHS


def _source_length(config: PlanConfig, teacher: PreTrainedModel, usual: int) -> int:
    positions = architectures.max_positions(teacher.config)[0]
    if positions is None:
        return config.source_length or usual
    if (config.source_length or 0) > positions:
        raise ConfigError(f"`source_length` {config.source_length} exceeds the teacher's {positions}: choose less")
    return config.source_length or min(usual, positions)


def _wanted(config: PlanConfig, teacher: PreTrainedModel) -> list[Layout]:
    depths = architectures.depths(teacher.config)
    given = config.encoder_depths, config.decoder_depths
    for side, depth, own in zip(("encoder", "decoder"), depths, given, strict=True):
        for wanted in own or ():
            check_depth(depth, wanted, f"`{side}_depths`")
    layouts = candidates(*depths, *given)
    if not layouts:
        raise ModelError("`teacher` has one encoder and one decoder layer: there is no smaller student to plan")
    return layouts


def _moved(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    nn.Module.to(model, device)  # transformers' own `to` has no types
    return model


def _measured(model: PreTrainedModel, decoding: Decoding, tokens: int, gain: float, memory: int) -> Measured:
    return Measured(
        *architectures.depths(model.config),
        parameters=count_parameters(model),
        bytes=model_bytes(model),
        memory_bytes=memory,
        latency_ms=decoding.latency_ms,
        tokens_per_second=1000 * tokens / decoding.latency_ms,
        speedup=gain,
    )


def _too_slow(config: PlanConfig, layouts: Sequence[Measured]) -> str:
    fastest = max(layouts, key=lambda each: each.speedup)
    found = f"{fastest.name} has {fastest.speedup:.2f} times the teacher's speed and {fastest.latency_ms:.0f} ms"
    target = f"`max_latency_ms` {config.max_latency_ms}" if config.speedup is None else f"`speedup` {config.speedup}"
    return f"{target}: no layout is as fast, {found}: ask for less, and see what `distill export` adds"


def _print(layouts: Sequence[Measured], chosen: Measured | None) -> None:
    best = {each.name for each in frontier(layouts)}
    table = Table(title="encoder-decoder layers", caption="* nothing is both larger and faster")
    for column in ("", "parameters", "MiB", "memory, MiB", "ms a batch", "tokens/s", "speed-up"):
        table.add_column(column, justify="left" if not column else "right")
    for each in layouts:
        name = f"{each.name}{' *' if each.name in best else ''}"
        table.add_row(
            name,
            f"{each.parameters:,}",
            f"{each.bytes / 2**20:.1f}",
            f"{each.memory_bytes / 2**20:.1f}",
            f"{each.latency_ms:.1f}",
            f"{each.tokens_per_second:.0f}",
            f"{each.speedup:.2f}",
            style="bold" if each == chosen else None,
        )
    shown = console(stderr=True)
    shown.print(table)
    if chosen is not None:
        shown.print(
            f"choose {chosen.name}: `student.encoder_layers` {chosen.encoder_layers} "
            f"`student.decoder_layers` {chosen.decoder_layers}"
        )
