"""Which options of a run do not go together: checks that need neither torch nor a file."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from seq2seq_distill.checks import words
from seq2seq_distill.errors import shown

MONITORS = {
    "summarization": ("rouge1", "rouge2", "rougeL", "rougeLsum", "loss"),
    "translation": ("bleu", "chrf", "loss"),
}
# What an entry of --matches can be compared by.
MATCH_LOSSES = {
    "hidden": ("mse", "cosine", "pkd", "pkd_first", "mmd", "gram"),
    "attention": ("mse", "ce"),
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
    if config.teacher is not None and not config.data:
        yield f"--teacher {shown(config.teacher)} comes without --data: name what to train on"
    if config.teacher is None and config.data and not (student.path or student.config):
        yield (
            f"--data {words(config.data)} comes without --teacher: name one, "
            "or train without a teacher by --student.path or --student.config"
        )
    if config.data_weights is not None and len(config.data_weights) != len(config.data or ()):
        yield (
            f"--data_weights {words(config.data_weights)} does not fit --data "
            f"{words(config.data or ['(none)'])}: give one weight for each source"
        )
    if student.path and student.config:
        yield f"--student.path {shown(student.path)} and --student.config {shown(student.config)}: choose one"
    if student.vocab_size is not None and not student.config:
        yield f"--student.vocab_size {student.vocab_size} needs --student.config, a model with fresh weights: add it"
    elif student.vocab_size is not None and config.teacher is not None:
        yield f"--student.vocab_size {student.vocab_size}: a student shares its teacher's tokenizer; leave it out"


def conflict_problems(config: Any) -> Iterator[str]:
    loss, student = config.loss, config.student
    learns = loss.alpha_ce or loss.alpha_mlm or loss.alpha_hid or any(match.weight for match in config.matches)
    if config.method == "kd" and not learns:
        yield "--loss.alpha_ce 0, --loss.alpha_mlm 0 and --loss.alpha_hid 0 leave nothing to learn: raise one"
    yield from _teacher_problems(config)
    if config.task and config.monitor not in MONITORS[config.task]:
        choices = ", ".join(MONITORS[config.task])
        yield f"--eval.monitor {shown(config.monitor)} is not a value of {config.task}: choose {choices}"
    for side in ("encoder", "decoder"):
        ids, depth = getattr(student, f"{side}_layer_ids"), getattr(student, f"{side}_layers")
        if ids is not None and depth is not None and len(ids) != depth:
            yield f"--student.{side}_layers {depth} and --student.{side}_layer_ids {words(ids)} differ: give one"
        given = next((f"{side}_{end}" for end in ("layers", "layer_ids") if getattr(student, f"{side}_{end}")), None)
        if given and (student.path or student.config):
            yield f"--student.{given} cuts layers from a teacher: leave it out with --student.path or --student.config"
    columns = config.encode.source_column, config.encode.target_column
    if columns[0] is not None and columns[0] == columns[1]:
        yield f"--encode.source_column and --encode.target_column are both {shown(columns[0])}: choose two columns"
    for number, match in enumerate(config.matches):
        yield from _match_problems(f"--matches entry {number}", match)
    yield from _matches_problems(config)
    yield from _extra_problems(config.trainer)
    yield from _strategy_problems(config)


def _teacher_problems(config: Any) -> Iterator[str]:
    """Of what is learned from the teacher, and what a cache holds of it."""
    loss, adaptive = config.loss, config.loss.schedule.temperature in ("flsw", "cwsm")
    lowest, highest = loss.schedule.temperature_range
    if adaptive and not lowest <= loss.temperature <= highest:
        yield (
            f"--loss.temperature {loss.temperature} is outside of --loss.schedule.temperature_range "
            f"{lowest} {highest}: choose one within it"
        )
    yield from _ensemble_problems(config)
    yield from _on_policy_problems(config)
    if not config.teacher_cache:
        return
    cache = f"--teacher_cache {shown(config.teacher_cache)}"
    if config.method != "kd":
        yield f"{cache} does not go with --method {config.method}: leave one out"
    if loss.alpha_hid:
        yield (
            f"--loss.alpha_hid {loss.alpha_hid} needs hidden states, which {cache} does not hold: "
            "set --loss.alpha_hid 0, or leave the cache out"
        )
    if loss.schedule.temperature != "constant":
        yield (
            f"--loss.schedule.temperature {loss.schedule.temperature} needs more temperatures than the one of {cache}: "
            "choose constant, or leave the cache out"
        )
    if "mse" in loss.divergences:
        yield f"--loss.divergence mse needs logits, which {cache} does not hold: choose another, or leave the cache out"
    if config.cache.draws is not None and loss.divergences.keys() != {"forward_kl"}:
        yield (
            f"--loss.divergence {' '.join(loss.divergences)} cannot be told from the few tokens of --cache.draws "
            f"{config.cache.draws}: choose forward_kl, or --cache.top_k"
        )


def _ensemble_problems(config: Any) -> Iterator[str]:
    """Of several teachers."""
    teachers, weights = config.ensemble.teachers, config.ensemble.weights
    if weights is not None and len(weights) != 1 + len(teachers):
        yield (
            f"--ensemble.weights {words(weights)} does not fit --teacher and {len(teachers)} of --ensemble.teachers: "
            "give one weight for each"
        )
    if not teachers:
        return
    named = f"--ensemble.teachers {words(teachers)}"
    if config.method != "kd":
        yield f"{named} does not go with --method {config.method}: leave one out"
    elif config.data and config.teacher is None:
        yield f"{named} comes without --teacher: name the first there"
    if config.teacher_cache:
        yield f"{named} does not go with --teacher_cache {shown(config.teacher_cache)}: leave one out"
    if config.trainer.shard_teacher:
        yield f"{named} does not go with --trainer.shard_teacher: leave one out"
    if config.loss.schedule.temperature in ("flsw", "cwsm"):
        yield (
            f"--loss.schedule.temperature {config.loss.schedule.temperature} follows one teacher, not {named}: "
            "choose constant, linear or cosine"
        )


def _on_policy_problems(config: Any) -> Iterator[str]:
    """Of targets that the student samples."""
    share = f"--loss.on_policy {config.loss.on_policy}"
    if not config.loss.on_policy:
        return
    if config.method != "kd":
        yield f"{share} lets a teacher judge, and --method {config.method} has none: leave it out"
    elif not config.loss.alpha_ce:
        yield f"{share} learns by ce_loss, and --loss.alpha_ce is 0: raise it"
    if config.teacher_cache:
        yield f"{share} needs the teacher itself, not --teacher_cache {shown(config.teacher_cache)}: leave one out"
    if str(config.trainer.strategy) == "fsdp2":
        yield f"{share} decodes in training, which --trainer.strategy fsdp2 cannot: choose ddp"


def _match_problems(place: str, match: Any) -> Iterator[str]:
    """What does not go together in one entry."""
    if (match.weight or 0) < 0:
        yield f"{place}, weight {match.weight} is too small: choose 0 or more"
    if match.side == "encoder" and match.feature == "cross_attention":
        yield f"{place}, feature cross_attention: an encoder has none, choose self_attention, or side decoder"
    losses = MATCH_LOSSES["hidden" if match.feature == "hidden" else "attention"]
    if match.loss not in losses:
        yield f"{place}, loss {match.loss} does not compare {match.feature}: choose {', '.join(losses)}"
    if match.projection and match.feature != "hidden":
        yield f"{place}, projection {match.projection}: attention weights have no width to map, leave it out"
    yield from _layer_problems(place, match)


def _layer_problems(place: str, match: Any) -> Iterator[str]:
    given = {key: value for key in ("student", "teacher") if (value := getattr(match, key)) is not None}
    if match.layers and given:
        key, value = next(iter(given.items()))
        yield f"{place}, layers {match.layers} and {key} {shown(value)}: give the one or the other"
    elif match.layers and match.loss == "gram":
        yield f"{place}, layers {match.layers}: gram compares the way between two layers, give student and teacher"
    elif not match.layers and len(given) < 2:
        missing = " and ".join(key for key in ("student", "teacher") if key not in given)
        yield f"{place} lacks {missing}: give a layer, or layers copied, spread or last instead of both"
    elif match.loss == "gram":
        for key, value in given.items():
            if not isinstance(value, list) or len(value) != 2:
                yield f"{place}, {key} {shown(value)}: gram compares the way between two layers, such as [0, -1]"
    else:
        for key, value in given.items():
            if isinstance(value, list):
                yield f"{place}, {key} {shown(value)}: {match.loss} compares single layers, give one, or loss gram"


def _matches_problems(config: Any) -> Iterator[str]:
    """What does not go together with the matches."""
    if config.matches and config.method != "kd":
        yield f"--matches compares with a teacher, and --method {config.method} has none: leave one out"
    elif config.matches and config.data and config.teacher is None:
        yield "--matches compares with a teacher: add --teacher, or leave it out"
    if config.matches and config.teacher_cache:
        yield (
            f"--matches needs inner states, which --teacher_cache {shown(config.teacher_cache)} does not hold: "
            "leave one out"
        )
    if config.optim.projection_lr is not None and not any(match.projection for match in config.matches):
        yield f"--optim.projection_lr {config.optim.projection_lr}: no entry of --matches has a projection, add one"


def _extra_problems(trainer: Any) -> Iterator[str]:
    flags = [field.name for field in fields(trainer)]
    for name, value in (trainer.extra or {}).items():
        if name in REFUSED_TRAINER_OPTIONS:
            yield f"--trainer.extra {name} is not available: {REFUSED_TRAINER_OPTIONS[name]}"
        elif name in flags:
            yield f"--trainer.extra {name} has a flag of its own: use --trainer.{name}"
        elif name not in TRAINER_EXTRAS:
            yield f"--trainer.extra {shown(name)} is no option of the Trainer: choose {', '.join(TRAINER_EXTRAS)}"
        elif not any(value is each or value == each and isinstance(value, str) for each in TRAINER_EXTRAS[name]):
            choices = ", ".join(str(each) for each in TRAINER_EXTRAS[name])
            yield f"--trainer.extra {name} {shown(value)}: choose one of {choices}"


def _strategy_problems(config: Any) -> Iterator[str]:
    strategy = str(config.trainer.strategy)
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        yield f"--trainer.strategy {shown(strategy)} copies this process with all it holds: choose ddp"
    if strategy.startswith("fsdp") and strategy != "fsdp2":
        yield f"--trainer.strategy {shown(strategy)} cannot hold weights that are tied: choose fsdp2"
    if strategy == "fsdp2" and config.optim.name == "adafactor":
        yield "--optim.name adafactor cannot hold the sharded weights of --trainer.strategy fsdp2: choose adamw, or ddp"
    if config.trainer.shard_teacher and config.trainer.teacher_precision != "32":
        yield (
            f"--trainer.teacher_precision {config.trainer.teacher_precision} does not go with --trainer.shard_teacher: "
            "leave one out"
        )
    if strategy != "fsdp2" and config.trainer.shard_teacher:
        yield f"--trainer.shard_teacher does not go with --trainer.strategy {shown(strategy)}: choose fsdp2"
    if strategy.startswith("deepspeed") and config.resume != "never":
        yield (
            f"--trainer.strategy {shown(strategy)} cannot be resumed exactly, and --resume {shown(config.resume)} "
            "would be: add --resume never, or choose ddp or fsdp2"
        )
