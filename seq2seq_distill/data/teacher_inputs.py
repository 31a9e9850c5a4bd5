"""The teacher's inputs, where it reads the same rows in another form than the student does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seq2seq_distill.config import NoiseConfig, RunConfig

NAMES = {name: f"teacher_{name}" for name in ("input_ids", "attention_mask", "global_attention_mask")}
"""Fields of a batch that hold the source, with the names under which a batch holds the teacher's."""


def teacher_run_config(config: RunConfig) -> RunConfig:
    """The config with the options of `teacher_source` in place of those of the student's sources, without noise."""
    teacher, encode = config.teacher_source, config.encode
    return replace(
        config,
        noise=NoiseConfig(),
        src_lang=config.src_lang if teacher.src_lang is None else teacher.src_lang,
        encode=replace(
            encode,
            prefix=encode.prefix if teacher.prefix is None else teacher.prefix,
            max_source_length=encode.max_source_length if teacher.max_length is None else teacher.max_length,
        ),
    )


def attach_teacher_inputs(batch: Mapping[str, Any], teachers: Mapping[str, Any]) -> dict[str, Any]:
    """The student's batch with the sources of the teacher's batch of the same rows added."""
    return {**batch, **{name: teachers[field] for field, name in NAMES.items() if field in teachers}}


def teacher_batch(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch for the teacher: the same one, or with the teacher's sources [B, S'] for the student's [B, S]."""
    if NAMES["input_ids"] not in batch:
        return batch
    shared = {name: field for name, field in batch.items() if name not in (*NAMES, *NAMES.values())}
    return {**shared, **{field: batch[name] for field, name in NAMES.items() if name in batch}}
