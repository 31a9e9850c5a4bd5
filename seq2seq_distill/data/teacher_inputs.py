"""Sources as the teacher reads them, where that is not as the student does: its view of the same rows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seq2seq_distill.config import RunConfig

NAMES = {name: f"teacher_{name}" for name in ("input_ids", "attention_mask", "global_attention_mask")}
"""Fields of a batch that are its source, and what they are called where they are the teacher's own."""


def teacher_run_config(config: RunConfig) -> RunConfig:
    """The config with what `--teacher_source` says in place of what it says of the student's sources."""
    own, encode = config.teacher_source, config.encode
    return replace(
        config,
        src_lang=config.src_lang if own.src_lang is None else own.src_lang,
        encode=replace(
            encode,
            prefix=encode.prefix if own.prefix is None else own.prefix,
            max_source_length=encode.max_source_length if own.max_length is None else own.max_length,
        ),
    )


def attach_teacher_inputs(batch: Mapping[str, Any], teachers: Mapping[str, Any]) -> dict[str, Any]:
    """The student's batch, and in it the sources of the teacher's batch of the same rows."""
    return {**batch, **{name: teachers[own] for own, name in NAMES.items() if own in teachers}}


def teacher_batch(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the teacher reads: the batch itself, or with the teacher's own sources [B, S'] for the student's [B, S]."""
    if NAMES["input_ids"] not in batch:
        return batch
    others = {name: field for name, field in batch.items() if name not in (*NAMES, *NAMES.values())}
    return {**others, **{own: batch[name] for own, name in NAMES.items() if name in batch}}
