"""Which options of a run do not go together: checks that need neither torch nor a file."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from seq2seq_distill.config.bounds import join_values
from seq2seq_distill.config.loss_conflicts import teacher_problems
from seq2seq_distill.utils.errors import format_value
from seq2seq_distill.utils.optional import missing_problem

MONITORS = {
    "summarization": ("rouge1", "rouge2", "rougeL", "rougeLsum", "loss"),
    "translation": ("bleu", "chrf", "loss"),
}
# Every option of Lightning's Trainer has a flag, or can be given in --trainer.extra with one of these values, ...
TRAINER_EXTRAS: dict[str, tuple[Any, ...]] = {
    "profiler": ("simple", "advanced", "pytorch"),
    "gradient_clip_algorithm": ("norm", "value"),
    **dict.fromkeys(("benchmark", "detect_anomaly", "inference_mode", "sync_batchnorm"), (True, False)),
}
# ... or would break the run, and there is something to use instead.
REFUSED_TRAINER_OPTIONS = {
    "check_val_every_n_epoch": "use --trainer.val_check_interval",
    "min_epochs": "use --trainer.max_epochs",
    "min_steps": "use --trainer.max_steps",
    "overfit_batches": "use --encode.n_train",
    "fast_dev_run": "use --trainer.max_steps",
    "limit_val_batches": "use --eval.n_val",
    "limit_test_batches": "use --eval.n_test",
    "limit_predict_batches": "use --eval.n_test",
    "num_sanity_val_steps": "leave it out, the untrained student is validated anyway",
    "enable_model_summary": "leave it out, the log tells the student's size anyway",
    "enable_checkpointing": "use --trainer.save_every_n_steps",
    "barebones": "leave it out, a run needs its logs and checkpoints",
    "model_registry": "use --logger",
    "enable_autolog_hparams": "leave it out, run.yaml holds the config",
    "plugins": "use the Python interface, seq2seq_distill.run_config",
    "reload_dataloaders_every_n_epochs": "leave it out, the plan shuffles every data epoch",
    "use_distributed_sampler": "leave it out, the plan deals rows out to processes",
    "callbacks": "use the Python interface, seq2seq_distill.run_config",
    "default_root_dir": "use --output_dir",
    "logger": "use --logger",
}


def source_problems(config: Any) -> Iterator[str]:
    student = config.student
    if config.task is None:
        yield "--task is missing: choose summarization or translation"
    if config.teacher is not None and not (config.data or config.tasks):
        yield f"--teacher {format_value(config.teacher)} comes without --data or --tasks: name what to train on"
    if config.teacher is None and config.data and not (student.path or student.config or config.tasks):
        yield (
            f"--data {join_values(config.data)} comes without --teacher: name one, "
            "or train without a teacher by --student.path or --student.config"
        )
    if config.data_weights is not None and not config.tasks and len(config.data_weights) != len(config.data or ()):
        yield (
            f"--data_weights {join_values(config.data_weights)} does not fit --data "
            f"{join_values(config.data or ['(none)'])}: give one weight for each source"
        )
    if student.path and student.config:
        yield (
            f"--student.path {format_value(student.path)} and --student.config "
            f"{format_value(student.config)}: choose one"
        )
    if student.vocab_size is not None and not student.config:
        yield f"--student.vocab_size {student.vocab_size} needs --student.config, a model with fresh weights: add it"
    elif student.vocab_size is not None and config.teacher is not None:
        yield f"--student.vocab_size {student.vocab_size}: a student shares its teacher's tokenizer; leave it out"


def conflict_problems(config: Any) -> Iterator[str]:
    loss, student = config.loss, config.student
    learns = loss.alpha_ce or loss.alpha_mlm or loss.alpha_hid or any(match.weight for match in config.matches)
    if config.method == "kd" and not learns:
        yield "--loss.alpha_ce 0, --loss.alpha_mlm 0 and --loss.alpha_hid 0 leave nothing to learn: raise one"
    yield from teacher_problems(config)
    for kind in config.kinds if config.task else ():
        if config.monitor not in MONITORS[kind]:
            choices = ", ".join(name for name in MONITORS[kind] if all(name in MONITORS[own] for own in config.kinds))
            yield f"--eval.monitor {format_value(config.monitor)} is not a value of {kind}: choose {choices}"
    for side in ("encoder", "decoder"):
        ids, depth = getattr(student, f"{side}_layer_ids"), getattr(student, f"{side}_layers")
        if ids is not None and depth is not None and len(ids) != depth:
            yield f"--student.{side}_layers {depth} and --student.{side}_layer_ids {join_values(ids)} differ: give one"
        given = next((f"{side}_{end}" for end in ("layers", "layer_ids") if getattr(student, f"{side}_{end}")), None)
        if given and (student.path or student.config):
            yield f"--student.{given} cuts layers from a teacher: leave it out with --student.path or --student.config"
    columns = config.encode.source_column, config.encode.target_column
    if columns[0] is not None and columns[0] == columns[1]:
        yield (
            f"--encode.source_column and --encode.target_column are both {format_value(columns[0])}: choose two columns"
        )
    for name in config.logger:
        if name in ("mlflow", "wandb") and (problem := missing_problem(name, f"--logger {name}")):
            yield problem
    yield from _extra_problems(config.trainer)
    yield from _strategy_problems(config)


def _extra_problems(trainer: Any) -> Iterator[str]:
    flags = [field.name for field in fields(trainer)]
    for name, value in (trainer.extra or {}).items():
        if name in REFUSED_TRAINER_OPTIONS:
            yield f"--trainer.extra {name} is not available: {REFUSED_TRAINER_OPTIONS[name]}"
        elif name in flags:
            yield f"--trainer.extra {name} has a flag of its own: use --trainer.{name}"
        elif name not in TRAINER_EXTRAS:
            yield (
                f"--trainer.extra {format_value(name)} is no option of the Trainer: choose {', '.join(TRAINER_EXTRAS)}"
            )
        elif not any(value is each or value == each and isinstance(value, str) for each in TRAINER_EXTRAS[name]):
            choices = ", ".join(str(each) for each in TRAINER_EXTRAS[name])
            yield f"--trainer.extra {name} {format_value(value)}: choose one of {choices}"


def _strategy_problems(config: Any) -> Iterator[str]:
    strategy = str(config.trainer.strategy)
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        yield f"--trainer.strategy {format_value(strategy)} copies this process with all it holds: choose ddp"
    if strategy.startswith("fsdp") and strategy != "fsdp2":
        yield f"--trainer.strategy {format_value(strategy)} cannot hold weights that are tied: choose fsdp2"
    if strategy == "fsdp2" and config.optim.name == "adafactor":
        yield "--optim.name adafactor cannot hold the sharded weights of --trainer.strategy fsdp2: choose adamw, or ddp"
    if config.trainer.shard_teacher and config.trainer.teacher_precision != "32":
        yield (
            f"--trainer.teacher_precision {config.trainer.teacher_precision} does not go with --trainer.shard_teacher: "
            "leave one out"
        )
    if strategy != "fsdp2" and config.trainer.shard_teacher:
        yield f"--trainer.shard_teacher does not go with --trainer.strategy {format_value(strategy)}: choose fsdp2"
    if strategy.startswith("deepspeed") and config.resume != "never":
        yield (
            f"--trainer.strategy {format_value(strategy)} cannot be resumed exactly, and --resume "
            f"{format_value(config.resume)} "
            "would be: add --resume never, or choose ddp or fsdp2"
        )
