"""The configuration: frozen dataclasses that are the command line. A field is a flag: type, default and help."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from seq2seq_distill.checks import option_problems, words
from seq2seq_distill.errors import ConfigError, shown

DEFAULT_MONITOR = {"summarization": "rouge2", "translation": "bleu"}
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


@dataclass(frozen=True)
class StudentConfig:
    """The student: cut from the teacher, an existing model, or a fresh one."""

    encoder_layers: int | None = None
    """Encoder depth of the student; by default the teacher's."""
    decoder_layers: int | None = None
    """Decoder depth of the student; by default a quarter of the teacher's, rounded up."""
    encoder_layer_ids: list[int] | None = None
    """Teacher encoder layers to copy, counted from 0, instead of the table's or evenly spaced ones."""
    decoder_layer_ids: list[int] | None = None
    """Teacher decoder layers to copy, counted from 0, instead of the table's or evenly spaced ones."""
    choice: Literal["spread", "first"] = "spread"
    """How layers are chosen where no ids are given: by table or evenly spaced, or the first n."""
    path: str | None = None
    """An existing model with the teacher's tokenizer as student: a folder or a hub id."""
    config: str | None = None
    """A model config (YAML or JSON file, or folder) from which a student with fresh weights is made."""
    vocab_size: int | None = None
    """With --student.config: train a tokenizer of this size on the training data."""
    freeze_encoder: bool | None = None
    """Do not train the encoder; by default when it is an unchanged copy of the teacher's."""
    freeze_embeds: bool | None = None
    """Do not train token and position embeddings (T5: token only); by default as freeze_encoder."""
    dropout: float | None = None
    """Dropout of the student; by default the teacher's."""
    attention_dropout: float | None = None
    """Dropout on attention weights; by default the teacher's."""
    encoder_layerdrop: float | None = None
    """LayerDrop in the encoder; by default the teacher's."""
    decoder_layerdrop: float | None = None
    """LayerDrop in the decoder; by default the teacher's."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Further keys of the model config to change, for example {"activation_dropout": 0.1}."""


@dataclass(frozen=True)
class EncodeConfig:
    """From text to token ids."""

    max_source_length: int = 1024
    """Longest source in tokens; longer ones are cut. Never more than the model's positions."""
    max_target_length: int = 56
    """Longest training target in tokens; longer ones are cut."""
    prefix: str | None = None
    """Text put before every source; by default what the teacher's config says for the task (T5)."""
    source_column: str | None = None
    """Column of the source text in JSONL, CSV, Parquet or hub data; by default found by name."""
    target_column: str | None = None
    """Column of the target text; by default found by name."""
    n_train: int | None = None
    """Use only the first n training examples."""


@dataclass(frozen=True)
class BatchConfig:
    """How rows become batches. Sizes count one optimiser step over all processes and accumulated batches."""

    size: int = 32
    """Rows of one optimiser step."""
    max_tokens: int | None = None
    """Instead of size: most source plus target tokens, padding counted, of one optimiser step."""
    group_by_length: bool = True
    """Put rows of like source and target length together, so that little is padding; False only shuffles."""
    workers: int = 0
    """Data loader processes."""


@dataclass(frozen=True)
class LossConfig:
    """What the student learns from; docs/losses.md has the formulas."""

    alpha_ce: float = 0.8
    """Weight of ce_loss, the KL divergence from the teacher's distribution."""
    alpha_mlm: float = 0.2
    """Weight of mlm_loss, the cross-entropy with the labels."""
    alpha_hid: float = 0.0
    """Weight of hid_loss_enc + hid_loss_dec, the mean squared distance of supervised layers."""
    temperature: float = 2.0
    """Both distributions are softened by this in ce_loss."""
    label_smoothing: float = 0.0
    """Label smoothing of mlm_loss."""
    normalize_hidden: bool = False
    """Norm each position over its width before hidden states are compared."""
    supervise_forward: bool = False
    """Match each student layer with the end of the teacher block it stands for, not with its origin."""


@dataclass(frozen=True)
class CacheConfig:
    """What --teacher_cache stores of the teacher's distribution for each target token."""

    top_k: int = 50
    """The most probable tokens; the mass of all others is one more bucket."""
    draws: int | None = None
    """Instead of top_k: so many tokens drawn from the distribution, whose gradient is right on average."""
    precision: Literal["8bit", "float32"] = "8bit"
    """Of the top_k probabilities."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and learning-rate schedule."""

    name: Literal["adamw", "adafactor"] = "adamw"
    """The optimiser."""
    lr: float = 3e-4
    """Peak learning rate."""
    schedule: Literal["linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "inverse_sqrt"] = "linear"
    """What the learning rate does after the warm-up."""
    warmup_steps: int | None = None
    """Optimiser steps of linear warm-up; by default 500, at most a tenth of the run."""
    weight_decay: float = 0.0
    """Weight decay; never on norms and biases."""
    eps: float = 1e-8
    """Epsilon of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Betas of AdamW."""


@dataclass(frozen=True)
class EvalConfig:
    """Validation and test: generation, scores, and which student is the best."""

    beams: int | None = None
    """Beams; by default the model's own generation config."""
    max_target_length: int = 142
    """Most tokens to generate. References are never cut."""
    length_penalty: float | None = None
    """Length penalty of beam search; by default the model's own."""
    generate: dict[str, Any] = field(default_factory=dict)
    """Further options of transformers' generate, for example {"no_repeat_ngram_size": 3}."""
    batch_size: int = 32
    """Rows decoded together on one process."""
    n_val: int | None = 500
    """Validate on the first n examples; null takes all."""
    n_test: int | None = None
    """Test on the first n examples; by default all."""
    n_speed: int = 50
    """Test inputs, one at a time, on which student and teacher are timed side by side; 0 skips it."""
    monitor: str | None = None
    """What chooses the best student: rouge1, rouge2 (default), rougeL, rougeLsum; bleu (default), chrf; or loss."""
    patience: int | None = None
    """Stop after this many validations without a better student; by default never."""
    save_top_k: int = 1
    """How many of the best checkpoints to keep besides last.ckpt."""


@dataclass(frozen=True)
class TrainerConfig:
    """Options of Lightning's Trainer, by its names."""

    accelerator: str = "auto"
    """cpu, gpu, mps, ... or auto."""
    devices: int | str = "auto"
    """How many devices, which, or auto."""
    num_nodes: int = 1
    """Machines."""
    strategy: str = "auto"
    """ddp, fsdp2, ... or auto; docs/scaling.md says what each is for."""
    shard_teacher: bool = False
    """With fsdp2: shard the teacher over the processes too, instead of a whole one on each."""
    teacher_precision: Literal["32", "bf16", "int8"] = "32"
    """Of the teacher's weights in training: bf16 takes half the memory, int8 (layers alone) about a quarter."""
    gradient_checkpointing: bool = False
    """Compute the layers' inner results again in the backward pass instead of keeping them: slower, less memory."""
    precision: str | None = None
    """32-true, bf16-mixed, 16-mixed, ...; by default bf16-mixed on a GPU that has it, else 32-true."""
    max_epochs: float = 3
    """Data epochs; fractions are allowed."""
    max_steps: int = -1
    """Optimiser steps; wins over max_epochs when positive."""
    max_time: str | None = None
    """Stop after this much training, DD:HH:MM:SS; the schedule does not know of it."""
    val_check_interval: float = 1.0
    """Validate every so many data epochs (a float up to 1.0) or optimiser steps (2 and more)."""
    limit_train_batches: float = 1.0
    """Share of a data epoch's optimiser steps to use (up to 1.0), or their number (2 and more)."""
    accumulate_grad_batches: int = 1
    """Micro-batches of one optimiser step on each process; the step stays as large as --batch says."""
    save_every_n_steps: int | None = None
    """Write a checkpoint to resume from every so many optimiser steps, besides those at validations."""
    save_every_minutes: float | None = 10.0
    """Write one when the last is so many minutes old; null does not look at the clock."""
    gradient_clip_val: float | None = 1.0
    """Largest gradient norm; null does not clip."""
    log_every_n_steps: int = 50
    """Steps between two lines of the training log."""
    deterministic: bool = False
    """Ask torch for deterministic algorithms."""
    enable_progress_bar: bool = True
    """Show a live progress bar."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further Trainer options, for example {"profiler": "simple"}."""


@dataclass(frozen=True)
class RunConfig:
    """Everything a run needs; written to run.yaml of the output folder, from which it can be repeated."""

    task: Literal["summarization", "translation"] | None = None
    """What is learned."""
    teacher: str | None = None
    """The teacher: a Hugging Face folder or hub id."""
    data: list[str] | None = None
    """Data sources: folders of {train,val,test}.{source,target}, JSONL, CSV, Parquet, or hub ids."""
    data_weights: list[float] | None = None
    """How often a row of each source comes in a data epoch; by default once."""
    src_lang: str | None = None
    """Source language, as the tokenizer or the data names it."""
    tgt_lang: str | None = None
    """Target language, as the tokenizer or the data names it."""
    output_dir: str | None = None
    """Where everything is written; by default runs/TASK."""
    method: Literal["kd", "sft"] = "kd"
    """kd: learn from the teacher's distributions and the labels; sft: shrink, then learn from the labels alone."""
    resume: str = "auto"
    """auto: go on from the folder's last checkpoint, or start; never: refuse a folder with a run; or a checkpoint."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """When a loss or gradient is NaN or infinite: stop at the last good checkpoint, or leave out that step."""
    seed: int = 42
    """Seed of weights, data order and dropout."""
    teacher_cache: str | None = None
    """The teacher's outputs in a folder, filled by `distill cache` or before the first step."""
    logger: list[Literal["tensorboard", "csv", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """Training logs to write; [] for none."""
    student: StudentConfig = field(default_factory=StudentConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    @property
    def monitor(self) -> str:
        """Name of the validation value that chooses the best student, without its `val_`."""
        return self.eval.monitor or DEFAULT_MONITOR[self.task or "summarization"]

    @property
    def folder(self) -> str:
        """The output folder."""
        return os.path.expanduser(self.output_dir or f"runs/{self.task}")

    @property
    def is_bare(self) -> bool:
        """Whether nothing says what to train on or from, which means the built-in demo."""
        return self.teacher is None and not self.data

    def check(self) -> None:
        """Raise `ConfigError` with every mistake that needs no torch to see, a line each."""
        problems = option_problems(self)
        wrong = {line.split()[0] for line in problems}
        others = [*_source_problems(self), *_conflict_problems(self)]
        _raise([*problems, *(line for line in others if wrong.isdisjoint(line.split()))])  # may follow from the former


def _source_problems(config: RunConfig) -> Iterator[str]:
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


def _conflict_problems(config: RunConfig) -> Iterator[str]:
    loss, student = config.loss, config.student
    if config.method == "kd" and not (loss.alpha_ce or loss.alpha_mlm or loss.alpha_hid):
        yield "--loss.alpha_ce 0, --loss.alpha_mlm 0 and --loss.alpha_hid 0 leave nothing to learn: raise one"
    if config.teacher_cache and config.method != "kd":
        yield f"--teacher_cache {shown(config.teacher_cache)} does not go with --method {config.method}: leave one out"
    if config.teacher_cache and loss.alpha_hid:
        yield (
            f"--loss.alpha_hid {loss.alpha_hid} needs hidden states, which --teacher_cache "
            f"{shown(config.teacher_cache)} does not hold: set --loss.alpha_hid 0, or leave the cache out"
        )
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
    yield from _extra_problems(config.trainer.extra or {})
    yield from _strategy_problems(config)


def _extra_problems(extra: dict[str, Any]) -> Iterator[str]:
    flags = [field.name for field in fields(TrainerConfig)]
    for name, value in extra.items():
        if name in REFUSED_TRAINER_OPTIONS:
            yield f"--trainer.extra {name} is not available: {REFUSED_TRAINER_OPTIONS[name]}"
        elif name in flags:
            yield f"--trainer.extra {name} has a flag of its own: use --trainer.{name}"
        elif name not in TRAINER_EXTRAS:
            yield f"--trainer.extra {shown(name)} is no option of the Trainer: choose {', '.join(TRAINER_EXTRAS)}"
        elif not any(value is each or value == each and isinstance(value, str) for each in TRAINER_EXTRAS[name]):
            choices = ", ".join(str(each) for each in TRAINER_EXTRAS[name])
            yield f"--trainer.extra {name} {shown(value)}: choose one of {choices}"


def _strategy_problems(config: RunConfig) -> Iterator[str]:
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


@dataclass(frozen=True)
class StudentOnlyConfig:
    """Make a student from a teacher, without training, and save it in Hugging Face format."""

    teacher: str = ""
    """The teacher: a Hugging Face folder or hub id."""
    output_dir: str = ""
    """Where the student is saved."""
    student: StudentConfig = field(default_factory=StudentConfig)

    @property
    def folder(self) -> Path:
        """Where the student is saved."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        given = [f"--student.{name}" for name in ("path", "config", "vocab_size") if getattr(self.student, name)]
        problems = _tool_problems(self, "teacher", "output_dir")
        problems += [f"{flag} makes no student from a teacher's layers: leave it out" for flag in given]
        as_in_a_run = RunConfig(student=replace(self.student, path=None, config=None, vocab_size=None))
        _raise([*problems, *_conflict_problems(as_in_a_run)])


@dataclass(frozen=True)
class AverageConfig:
    """Average the weights of several checkpoints or Hugging Face folders of one architecture."""

    checkpoints: list[str] = field(default_factory=list)
    """What to average: Lightning checkpoints of one run, or Hugging Face folders."""
    output_dir: str = ""
    """Where the averaged model is saved, in Hugging Face format."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        _raise(_tool_problems(self, "checkpoints", "output_dir"))


@dataclass(frozen=True)
class ConvertConfig:
    """Turn a Lightning checkpoint of a run into a Hugging Face folder, or a folder into one of other precision."""

    checkpoint: str = ""
    """The checkpoint, in the checkpoints folder of a run; or a Hugging Face folder."""
    output_dir: str = ""
    """Where the model is saved."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the saved weights."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        _raise(_tool_problems(self, "checkpoint", "output_dir"))


@dataclass(frozen=True)
class ExportConfig:
    """Convert a model into a form that is fast to serve, after its outputs were compared with the model's own."""

    model: str = ""
    """The model: a Hugging Face folder or hub id, best/ of a run for example."""
    output_dir: str = ""
    """Where the converted model is saved, with its tokenizer and generation settings."""
    format: Literal["ctranslate2", "onnx"] = "ctranslate2"
    """The form; ctranslate2 needs the extra of that name."""
    quantization: Literal["int8", "int8_float16", "float16", "float32"] = "int8"
    """Of the weights."""
    data: list[str] = field(default_factory=list)
    """Where real texts are taken from to compare outputs; by default the data of the model's run."""
    task: Literal["summarization", "translation"] | None = None
    """Says the prefix and the score; by default the run's."""
    src_lang: str | None = None
    """Source language; by default the run's."""
    tgt_lang: str | None = None
    """Target language; by default the run's."""
    prefix: str | None = None
    """Text put before every source; by default what the model's config says for the task (T5)."""
    n: int = 64
    """Texts to compare."""
    beams: int = 4
    """Beams that the exported model is served with."""
    max_source_length: int = 512
    """Longest source in tokens."""
    max_target_length: int = 142
    """Most tokens to generate."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        _raise(_tool_problems(self, "model", "output_dir"))


def _tool_problems(config: Any, *required: str) -> list[str]:
    missing = [name for name in required if not getattr(config, name)]
    others = [line for line in option_problems(config) if line.split()[0].removeprefix("--") not in missing]
    return [*(f"--{name} is missing: name one" for name in missing), *others]


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))
