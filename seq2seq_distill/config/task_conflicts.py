"""Which options of a run with several tasks contradict each other."""

from collections.abc import Iterator

from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.utils.errors import format_value


def task_conflicts(config: RunConfig) -> Iterator[Problem]:
    """The entries of `tasks`, and what cannot be combined with them."""
    if not config.tasks:
        if config.task_exponent != 1:
            yield Problem(
                ("task_exponent", "tasks"),
                f"`task_exponent` {config.task_exponent} is for several tasks: add `tasks`, or leave it out",
            )
        return
    names = [entry.name for entry in config.tasks]
    for number, entry in enumerate(config.tasks):
        missing = " and ".join(key for key in ("name", "data") if not getattr(entry, key))
        if missing:
            yield Problem(("tasks",), f"`tasks` entry {number} lacks {missing}: add it")
        elif entry.name in names[:number]:
            name = format_value(entry.name)
            yield Problem(("tasks",), f"`tasks` entry {number}, name {name} is already taken: choose another name")
    yield from _teacher_conflicts(config)
    yield from _option_conflicts(config)


def _teacher_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Either every task has a teacher or none."""
    without = [number for number, task in enumerate(config.each_task()) if task.teacher is None]
    if len(without) == len(config.tasks):
        if not (config.student.path or config.student.config):
            yield Problem(
                ("tasks", "teacher", "student.path", "student.config"),
                "`tasks` are given without a teacher: name one in each, or `teacher` for all, or train without a "
                "teacher by `student.path` or `student.config`",
            )
    elif without:
        yield Problem(
            ("tasks", "teacher"),
            f"`tasks` entry {without[0]} has no teacher although others have: name one in each, or `teacher` for all",
        )


def _option_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Options that cannot be combined with several tasks."""
    refused: dict[str, tuple[object, str, str]] = {
        "data": (config.data, join_values(config.data or []), "name the data in each task"),
        "data_weights": (config.data_weights, join_values(config.data_weights or []), "use `task_exponent`"),
        "teacher_cache": (config.teacher_cache, format_value(config.teacher_cache), "leave it out"),
        "ensemble.teachers": (config.ensemble.teachers, join_values(config.ensemble.teachers), "leave it out"),
        "trainer.shard_teacher": (config.trainer.shard_teacher, "true", "leave it out"),
        "student.vocab_size": (
            config.student.vocab_size,
            str(config.student.vocab_size),
            "train the tokenizer beforehand, on the texts of all tasks",
        ),
    }
    for name, (value, shown, remedy) in refused.items():
        if value:
            yield Problem((name, "tasks"), f"`{name}` {shown} cannot be combined with `tasks`: {remedy}")
