"""The configuration: frozen dataclasses that are the command line. A field is a flag: type, default and help."""

import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from seq2seq_distill.config.bounds import DivergenceName, option_problems
from seq2seq_distill.config.conflicts import conflict_problems, source_problems
from seq2seq_distill.config.task_conflicts import task_problems
from seq2seq_distill.utils.errors import raise_config_error

DEFAULT_MONITOR = {"summarization": "rouge2", "translation": "bleu"}


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
    """An existing model with the teacher's target tokens as student: a folder or a hub id."""
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


WeightSchedule = Literal["constant", "linear_growth", "linear_decay", "warmup"]
"""What a weight is multiplied by over the run."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How temperature and weights change over the run; docs/losses.md has the formulas. Validation knows no change."""

    temperature: Literal["constant", "linear", "cosine", "flsw", "cwsm"] = "constant"
    """Of ce_loss: linear and cosine go to temperature_end; flsw and cwsm give each token its own, by what the models
    say of it."""
    temperature_end: float = 1.0
    """Temperature of the last step, with linear and cosine."""
    temperature_range: tuple[float, float] = (1.0, 8.0)
    """Bounds of flsw and cwsm, whatever the models say."""
    strength: float = 1.0
    """How far flsw and cwsm go from the temperature (beta in TextBrewer)."""
    exponent: float = 1.0
    """Of flsw's distance (gamma in TextBrewer)."""
    alpha_ce: WeightSchedule = "constant"
    """What alpha_ce is multiplied by: 1; the share of the run that is done or to come; or a warm-up from 0 to 1."""
    alpha_mlm: WeightSchedule = "constant"
    """The same of alpha_mlm."""
    alpha_hid: WeightSchedule = "constant"
    """The same of alpha_hid."""
    warmup_steps: int | None = None
    """Steps of a warm-up of weights; by default those of the learning rate."""


@dataclass(frozen=True)
class LossConfig:
    """What the student learns from; docs/losses.md has the formulas."""

    alpha_ce: float = 0.8
    """Weight of ce_loss, the divergence from the teacher's distribution."""
    alpha_mlm: float = 0.2
    """Weight of mlm_loss, the cross-entropy with the labels."""
    alpha_hid: float = 0.0
    """Weight of hid_loss_enc + hid_loss_dec, the mean squared distance of supervised layers."""
    temperature: float = 2.0
    """Both distributions are softened by this in ce_loss."""
    divergence: DivergenceName | dict[str, float] = "forward_kl"
    """What ce_loss is: a divergence, or several with weights, such as {"forward_kl": 1, "reverse_kl": 0.5}."""
    beta: float = 0.5
    """Of jsd: near 0 it is like forward_kl, near 1 like reverse_kl."""
    skew: float = 0.1
    """Of skewed_forward_kl and skewed_reverse_kl: share of the first distribution that is mixed into the second."""
    label_smoothing: float = 0.0
    """Label smoothing of mlm_loss."""
    normalize_hidden: bool = False
    """Norm each position over its width before hidden states are compared."""
    supervise_forward: bool = False
    """Match each student layer with the end of the teacher block it stands for, not with its origin."""
    on_policy: float = 0.0
    """Share of the steps whose targets the student samples itself, for the teacher to judge; without mlm_loss."""
    on_policy_temperature: float = 1.0
    """Of the student's distribution when it samples."""
    on_policy_max_length: int | None = None
    """Most tokens to sample; by default --encode.max_target_length."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    @property
    def divergences(self) -> dict[str, float]:
        """Weight of each divergence in ce_loss."""
        return {self.divergence: 1.0} if isinstance(self.divergence, str) else self.divergence


@dataclass(frozen=True)
class FeatureLossConfig:
    """An inner state of the student to be compared with one of the teacher's; docs/losses.md has the formulas."""

    side: Literal["encoder", "decoder"] = "decoder"
    """The stack whose layers are compared."""
    feature: Literal["hidden", "self_attention", "cross_attention"] = "hidden"
    """A layer's output, or its attention weights."""
    layers: Literal["copied", "spread", "last"] | None = None
    """Which layers, instead of student and teacher: each with its origin, with its block's end, or the last ones."""
    student: int | list[int] | None = None
    """Student layer, counted from 0, or from the end by -1, -2, ...; two for gram."""
    teacher: int | list[int] | None = None
    """Teacher layer, likewise."""
    loss: Literal["mse", "cosine", "pkd", "pkd_first", "mmd", "gram", "ce"] = "mse"
    """How they are compared; attention weights by mse or ce."""
    weight: float = 1.0
    """Of this comparison in the loss, whatever the number of layers."""
    schedule: WeightSchedule = "constant"
    """What the weight is multiplied by over the run, as in --loss.schedule."""
    projection: Literal["linear", "relu", "tanh"] | None = None
    """A trained map of the student's states to the teacher's width."""


@dataclass(frozen=True)
class TaskConfig:
    """One of several tasks of a student; what it does not say is as for the whole run. docs/data.md has an example."""

    name: str | None = None
    """In logs and results: letters, digits, - and _."""
    data: list[str] = field(default_factory=list)
    """Data sources, as in --data."""
    teacher: str | None = None
    """Its teacher, of the same tokenizer as all others'; by default --teacher."""
    task: Literal["summarization", "translation"] | None = None
    """What is learned; by default --task."""
    prefix: str | None = None
    """Text put before every source; by default as --encode.prefix."""
    src_lang: str | None = None
    """Source language; by default --src_lang."""
    tgt_lang: str | None = None
    """Target language; by default --tgt_lang."""


@dataclass(frozen=True)
class EnsembleConfig:
    """Further teachers besides --teacher, of the same tokenizer; docs/losses.md says how they become one."""

    teachers: list[str] = field(default_factory=list)
    """Hugging Face folders or hub ids."""
    weights: list[float] | None = None
    """Of --teacher and of each of these; by default equal."""
    combine: Literal["probabilities", "logits", "best"] = "probabilities"
    """The mean of their probabilities or of their logits; or for each token the teacher that likes the label best."""


@dataclass(frozen=True)
class TeacherSourceConfig:
    """What the teacher reads in place of the student's sources; docs/data.md says what that changes."""

    prefix: str | None = None
    """Text put before every source of the teacher; by default as --encode.prefix."""
    max_length: int | None = None
    """Longest source of the teacher in tokens; by default --encode.max_source_length."""
    src_lang: str | None = None
    """Source language as the teacher's tokenizer names it; by default --src_lang."""


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
    projection_lr: float | None = None
    """Peak learning rate of the projections of --matches; by default lr."""
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
    """How often a row of each source comes in a data epoch; by default once; 0 takes its val and test alone."""
    tasks: list[TaskConfig] = field(default_factory=list)
    """Several tasks instead of --data: {"name": "news", "data": ["DIR"], "teacher": "PATH"}, one mapping each."""
    task_exponent: float = 1.0
    """Tasks are drawn by their size to this power: 1 takes each row once a data epoch, 0 all tasks equally often."""
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
    matches: list[FeatureLossConfig] = field(default_factory=list)
    """Inner states to compare with the teacher's, such as '[{"layers": "last", "loss": "cosine"}]'."""
    logger: list[Literal["tensorboard", "csv", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """Training logs to write; [] for none."""
    student: StudentConfig = field(default_factory=StudentConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    teacher_source: TeacherSourceConfig = field(default_factory=TeacherSourceConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    @property
    def monitor(self) -> str:
        """Name of the validation value that chooses the best student, without its `val_`."""
        return self.eval.monitor or ("loss" if len(self.kinds) > 1 else DEFAULT_MONITOR[self.kinds[0]])

    @property
    def kinds(self) -> list[str]:
        """What is learned, by all tasks; each once."""
        return list(dict.fromkeys(own.task or "summarization" for own in self.each_task()))

    @property
    def sources(self) -> list[str]:
        """The data of all tasks; each once."""
        return list(dict.fromkeys(source for own in self.each_task() for source in own.data or ()))

    @property
    def folder(self) -> str:
        """The output folder."""
        return os.path.expanduser(self.output_dir or f"runs/{self.task}")

    @property
    def is_bare(self) -> bool:
        """Whether nothing says what to train on or from, which means the built-in demo."""
        return self.teacher is None and not self.data and not self.tasks

    def each_task(self) -> "list[RunConfig]":
        """The config of each task as if it were alone; of a run without several tasks, itself."""
        if not self.tasks:
            return [self]
        own = ("data", "teacher", "task", "src_lang", "tgt_lang")
        return [
            replace(
                self,
                tasks=[],
                encode=self.encode if entry.prefix is None else replace(self.encode, prefix=entry.prefix),
                **{name: value for name in own if (value := getattr(entry, name)) is not None},
            )
            for entry in self.tasks
        ]

    def check(self) -> None:
        """Raise `ConfigError` with every mistake that needs no torch to see, a line each."""
        problems = option_problems(self)
        wrong = {line.split()[0] for line in problems}
        others = [*source_problems(self), *conflict_problems(self), *task_problems(self)]
        raise_config_error(
            [*problems, *(line for line in others if wrong.isdisjoint(line.split()))]
        )  # may follow from the former
