"""Which options of a run with several tasks do not go together."""

import re
from collections.abc import Iterator
from typing import Any

from seq2seq_distill.config.bounds import join_values
from seq2seq_distill.utils.errors import format_value

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def task_problems(config: Any) -> Iterator[str]:
    """Of the entries of --tasks, and of these with other options."""
    if not config.tasks:
        if config.task_exponent != 1:
            yield f"--task_exponent {config.task_exponent} is for several tasks: add --tasks, or leave it out"
        return
    for number, entry in enumerate(config.tasks):
        place = f"--tasks entry {number}"
        if entry.name is None or not entry.data:
            missing = " and ".join(key for key in ("name", "data") if not getattr(entry, key))
            yield f"{place} lacks {missing}: give it"
        elif not _NAME.fullmatch(entry.name):
            yield f"{place}, name {format_value(entry.name)}: choose letters, digits, - and _, 64 at most"
        elif entry.name in [other.name for other in config.tasks[:number]]:
            yield f"{place}, name {format_value(entry.name)} is taken by another: choose a name for each"
    yield from _teacher_problems(config)
    yield from _company_problems(config)


def _teacher_problems(config: Any) -> Iterator[str]:
    """Either every task has a teacher or none."""
    without = [number for number, own in enumerate(config.each_task()) if own.teacher is None]
    if len(without) == len(config.tasks):
        if not (config.student.path or config.student.config):
            yield (
                "--tasks come without a teacher: name one in each, or --teacher for all, or train without a teacher by "
                "--student.path or --student.config"
            )
    elif without:
        yield f"--tasks entry {without[0]} has no teacher, others have: name one in each, or --teacher for all"


def _company_problems(config: Any) -> Iterator[str]:
    """Options that a run of several tasks cannot have."""
    refused = {
        f"--data {join_values(config.data or [])}": (config.data, "name the data in each task"),
        f"--data_weights {join_values(config.data_weights or [])}": (config.data_weights, "use --task_exponent"),
        f"--teacher_cache {format_value(config.teacher_cache)}": (config.teacher_cache, "leave it out"),
        f"--ensemble.teachers {join_values(config.ensemble.teachers)}": (config.ensemble.teachers, "leave it out"),
        "--trainer.shard_teacher": (config.trainer.shard_teacher, "leave it out"),
        f"--student.vocab_size {config.student.vocab_size}": (
            config.student.vocab_size,
            "train the tokenizer before, on the texts of all",
        ),
    }
    for flag, (value, remedy) in refused.items():
        if value:
            yield f"{flag} does not go with --tasks: {remedy}"
