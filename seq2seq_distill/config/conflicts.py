"""Which options of a run contradict each other: checks that need neither torch nor a file."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from seq2seq_distill.config.loss_conflicts import teacher_conflicts, weight_conflicts
from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.config.student import StudentConfig
from seq2seq_distill.config.target_conflicts import target_conflicts
from seq2seq_distill.config.task_conflicts import task_conflicts
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.config.training import TrainerConfig
from seq2seq_distill.config.trimming import trim_conflicts
from seq2seq_distill.utils.errors import format_value
from seq2seq_distill.utils.optional import missing_problem

# Every option of Lightning's Trainer is one of `TrainerConfig`, or can be given in `trainer.extra` with one of these
# values, ...
TRAINER_EXTRAS: dict[str, tuple[Any, ...]] = {
    "profiler": ("simple", "advanced", "pytorch"),
    "gradient_clip_algorithm": ("norm", "value"),
    **dict.fromkeys(("benchmark", "detect_anomaly", "inference_mode", "sync_batchnorm"), (True, False)),
}
# ... or would break the run, and there is something to use instead.
REFUSED_TRAINER_OPTIONS = {
    "check_val_every_n_epoch": "use `trainer.val_check_interval`",
    "min_epochs": "use `trainer.max_epochs`",
    "min_steps": "use `trainer.max_steps`",
    "overfit_batches": "use `encode.n_train`",
    "fast_dev_run": "use `trainer.max_steps`",
    "limit_val_batches": "use `eval.n_val`",
    "limit_test_batches": "use `eval.n_test`",
    "limit_predict_batches": "use `eval.n_test`",
    "num_sanity_val_steps": "leave it out, the untrained student is validated anyway",
    "enable_model_summary": "leave it out, the log reports the student's size anyway",
    "enable_checkpointing": "use `trainer.save_every_n_steps`",
    "barebones": "leave it out, a run needs its logs and checkpoints",
    "model_registry": "use `logger`",
    "enable_autolog_hparams": "leave it out, run.yaml holds the config",
    "plugins": "use the Python interface, seq2seq_distill.run_config",
    "reload_dataloaders_every_n_epochs": "leave it out, the data is shuffled anew every data epoch",
    "use_distributed_sampler": "leave it out, the batch plan distributes the rows over processes",
    "callbacks": "use the Python interface, seq2seq_distill.run_config",
    "default_root_dir": "use `output_dir`",
    "logger": "use `logger`",
}


def run_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Everything that does not go together in a run."""
    yield from _source_conflicts(config)
    yield from _length_conflicts(config.trainer)
    yield from _loss_conflicts(config)
    yield from teacher_conflicts(config)
    yield from _monitor_conflicts(config)
    yield from layer_conflicts(config.student)
    yield from width_conflicts(config.student)
    yield from _column_conflicts(config)
    yield from _logger_conflicts(config)
    yield from _extra_conflicts(config.trainer)
    yield from _strategy_conflicts(config)
    yield from task_conflicts(config)
    yield from target_conflicts(config)
    yield from trim_conflicts(config.trim)
    yield from _trim_teacher_conflicts(config)


def layer_conflicts(student: StudentConfig) -> Iterator[Problem]:
    """Depths and layer ids of a student, with each other and with a student that is not cut from the teacher."""
    for side in ("encoder", "decoder"):
        depth_name, ids_name = f"student.{side}_layers", f"student.{side}_layer_ids"
        depth, ids = getattr(student, f"{side}_layers"), getattr(student, f"{side}_layer_ids")
        if ids is not None and depth is not None and len(ids) != depth:
            yield Problem(
                (depth_name, ids_name), f"`{depth_name}` {depth} and `{ids_name}` {join_values(ids)} differ: give one"
            )
        given = next((name for name, value in ((depth_name, depth), (ids_name, ids)) if value), None)
        if given and (student.path or student.config):
            yield Problem(
                (given, "student.path", "student.config"),
                f"`{given}` copies layers from a teacher: leave it out with `student.path` or `student.config`",
            )


def width_conflicts(student: StudentConfig) -> Iterator[Problem]:
    """Widths of a student that is not cut from the teacher."""
    for name, value in student.widths.items():
        if student.path or student.config:
            yield Problem(
                (f"student.{name}", "student.path", "student.config"),
                f"`student.{name}` {value:g} narrows a student that is cut from a teacher: leave it out with "
                "`student.path` or `student.config`",
            )


def _source_conflicts(config: RunConfig) -> Iterator[Problem]:
    """What is trained on, and from which teacher and student."""
    student = config.student
    if config.task is None:
        yield Problem(("task",), "`task` is missing: choose summarization or translation")
    if config.teacher is not None and not (config.data or config.tasks):
        yield Problem(
            ("teacher", "data", "tasks"),
            f"`teacher` {format_value(config.teacher)} is given without `data` or `tasks`: name the data to train on",
        )
    if config.teacher is None and config.data and not (student.path or student.config or config.tasks):
        yield Problem(
            ("data", "teacher", "student.path", "student.config"),
            f"`data` {join_values(config.data)} is given without `teacher`: name one, "
            "or train without a teacher by `student.path` or `student.config`",
        )
    if config.data_weights is not None and not config.tasks and len(config.data_weights) != len(config.data or ()):
        yield Problem(
            ("data_weights", "data"),
            f"`data_weights` {join_values(config.data_weights)} does not fit `data` "
            f"{join_values(config.data or ['(none)'])}: give one weight for each source",
        )
    if student.path and student.config:
        yield Problem(
            ("student.path", "student.config"),
            f"`student.path` {format_value(student.path)} and `student.config` "
            f"{format_value(student.config)} both name a student: choose one",
        )
    if student.vocab_size is not None and not student.config:
        yield Problem(
            ("student.vocab_size", "student.config"),
            f"`student.vocab_size` {student.vocab_size} needs a model with fresh weights: add `student.config`",
        )
    elif student.vocab_size is not None and config.teacher is not None:
        yield Problem(
            ("student.vocab_size", "teacher"),
            f"`student.vocab_size` {student.vocab_size}: a student shares its teacher's tokenizer; leave it out",
        )


def _trim_teacher_conflicts(config: RunConfig) -> Iterator[Problem]:
    """A trimmed teacher has tokens of its own, which others do not share."""
    if not config.trim.is_on:
        return
    name = "trim.size" if config.trim.coverage is None else "trim.coverage"
    opening = f"`{name}` {config.trim.size if config.trim.coverage is None else config.trim.coverage}"
    refused: dict[str, tuple[Any, str]] = {
        "student.path": (config.student.path, "leave it out, and trim the student beforehand, by `distill trim`"),
        "tasks": (config.tasks, "leave `trim` out"),
        "ensemble.teachers": (config.ensemble.teachers, "leave one of the two out"),
    }
    for option, (value, remedy) in refused.items():
        if value:
            yield Problem(
                (name, option),
                f"{opening} cannot be combined with `{option}`, whose tokens would stay as they are: {remedy}",
            )
    if config.teacher is None and config.data:
        yield Problem((name, "teacher"), f"{opening} trims the vocabulary of a teacher: name one by `teacher`")


def _length_conflicts(trainer: TrainerConfig) -> Iterator[Problem]:
    if trainer.max_steps < 1 and trainer.max_epochs <= 0:
        yield Problem(
            ("trainer.max_epochs",),
            f"`trainer.max_epochs` {trainer.max_epochs} is too small: choose more than 0, or set `trainer.max_steps`",
        )


def _loss_conflicts(config: RunConfig) -> Iterator[Problem]:
    if config.method == "kd":
        yield from weight_conflicts(config.loss, config.matches)


def _monitor_conflicts(config: RunConfig) -> Iterator[Problem]:
    if config.task is None:
        return
    choices = [TASKS[kind].monitors for kind in config.kinds]
    common = [name for name in TASKS[config.task].monitors if all(name in monitors for monitors in choices)]
    for kind in config.kinds:
        if config.monitor not in TASKS[kind].monitors:
            yield Problem(
                ("eval.monitor", "task", "tasks"),
                f"`eval.monitor` {format_value(config.monitor)} is not a metric of {kind}: choose {', '.join(common)}",
            )


def _column_conflicts(config: RunConfig) -> Iterator[Problem]:
    source, target = config.encode.source_column, config.encode.target_column
    if source is not None and source == target:
        yield Problem(
            ("encode.source_column", "encode.target_column"),
            f"`encode.source_column` and `encode.target_column` are both {format_value(source)}: choose two columns",
        )


def _logger_conflicts(config: RunConfig) -> Iterator[Problem]:
    for name in config.logger:
        if name in ("mlflow", "wandb") and (problem := missing_problem(name, f"`logger` {name}")):
            yield Problem(("logger",), problem)


def _extra_conflicts(trainer: TrainerConfig) -> Iterator[Problem]:
    names = [field.name for field in fields(trainer)]
    for name, value in (trainer.extra or {}).items():
        opening, choices = f"`trainer.extra` {format_value(name)}", TRAINER_EXTRAS.get(name, ())
        if name in REFUSED_TRAINER_OPTIONS:
            message = f"{opening} is not available: {REFUSED_TRAINER_OPTIONS[name]}"
        elif name in names:
            message = f"{opening} has an option of its own: use `trainer.{name}`"
        elif name not in TRAINER_EXTRAS:
            message = f"{opening} is not an option of the Trainer: choose {', '.join(TRAINER_EXTRAS)}"
        elif not any(value is choice or (value == choice and isinstance(value, str)) for choice in choices):
            message = f"{opening} {format_value(value)}: choose one of {', '.join(map(str, choices))}"
        else:
            continue
        yield Problem(("trainer.extra",), message)


def _strategy_conflicts(config: RunConfig) -> Iterator[Problem]:
    trainer, strategy = config.trainer, str(config.trainer.strategy)
    opening = f"`trainer.strategy` {format_value(strategy)}"
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        yield Problem(("trainer.strategy",), f"{opening} copies this process with all its memory: choose ddp")
    if strategy.startswith("fsdp") and strategy != "fsdp2":
        yield Problem(("trainer.strategy",), f"{opening} cannot hold tied weights: choose fsdp2")
    if strategy == "fsdp2" and config.optim.name == "adafactor":
        yield Problem(
            ("optim.name", "trainer.strategy"),
            "`optim.name` adafactor does not support the sharded weights of `trainer.strategy` fsdp2: "
            "choose adamw, or ddp",
        )
    if trainer.shard_teacher and trainer.teacher_precision != "32":
        yield Problem(
            ("trainer.teacher_precision", "trainer.shard_teacher"),
            f"`trainer.teacher_precision` {trainer.teacher_precision} cannot be combined with "
            "`trainer.shard_teacher`: leave one out",
        )
    if strategy != "fsdp2" and trainer.shard_teacher:
        yield Problem(
            ("trainer.shard_teacher", "trainer.strategy"),
            f"`trainer.shard_teacher` cannot be combined with {opening}: choose fsdp2",
        )
    if strategy.startswith("deepspeed") and config.optim.ema is not None:
        yield Problem(
            ("optim.ema", "trainer.strategy"),
            f"`optim.ema` {config.optim.ema} does not support the weights of {opening}: leave it out, or choose ddp or "
            "fsdp2",
        )
    if strategy.startswith("deepspeed") and config.resume != "never":
        yield Problem(
            ("trainer.strategy", "resume"),
            f"{opening} cannot be resumed exactly, as `resume` {format_value(config.resume)} requires: "
            "set `resume` never, or choose ddp or fsdp2",
        )
