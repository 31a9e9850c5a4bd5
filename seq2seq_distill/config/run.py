"""The options of a run. A config is a frozen dataclass; a field is an option: its type, default, bounds and help."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import between, for_each, option, some_above_zero, without_repeats
from seq2seq_distill.config.data import BatchConfig, EncodeConfig, TaskConfig
from seq2seq_distill.config.label_options import LabelOptions
from seq2seq_distill.config.losses import FeatureLossConfig, LossConfig
from seq2seq_distill.config.noise import NoiseConfig
from seq2seq_distill.config.student import StudentConfig
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.config.teachers import MAX_WEIGHT, CacheConfig, EnsembleConfig, TeacherSourceConfig
from seq2seq_distill.config.training import EvalConfig, OptimConfig, TrainerConfig
from seq2seq_distill.config.trimming import TrimConfig

MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class RunConfig:
    """Everything a run needs; written to run.yaml in the output folder, from which the run can be repeated.

    Examples:
        >>> from seq2seq_distill import RunConfig, StudentConfig
        >>> config = RunConfig(
        ...     task="summarization",
        ...     teacher="facebook/bart-large-xsum",
        ...     data=["EdinburghNLP/xsum"],
        ...     student=StudentConfig(decoder_layers=3),
        ... )
        >>> config.monitor, str(config.folder)
        ('rouge2', 'runs/summarization')
    """

    task: Literal["summarization", "translation"] | None = None
    """Task that the student learns."""
    teacher: str | None = None
    """Teacher: a Hugging Face folder or hub id."""
    data: list[str] | None = None
    """Data sources: folders of {train,val,test}.{source,target}, JSONL, CSV or Parquet files, or hub ids."""
    data_weights: list[float] | None = option(None, for_each(between(0, MAX_WEIGHT)), some_above_zero)
    """How many times each data source is used per data epoch, one weight per source (default: 1 each); with 0, only its
    validation and test splits are used."""
    tasks: list[TaskConfig] = option([])
    """Several tasks in place of --data, one mapping each, such as {"name": "news", "data": ["DIR"],
    "teacher": "PATH"}."""
    task_exponent: float = option(1.0, between(0, 10))
    """Sample tasks in proportion to their size to this power: at 1, each example occurs once per data epoch; at 0, all
    tasks occur equally often."""
    src_lang: str | None = None
    """Source language, as the tokenizer or the data names it."""
    tgt_lang: str | None = None
    """Target language, as the tokenizer or the data names it."""
    output_dir: str | None = None
    """Folder for everything that the run writes (default: runs/TASK)."""
    method: Literal["kd", "sft"] = "kd"
    """Training method: kd learns from the teacher's distributions and the labels; sft (shrink and fine-tune) learns
    from the labels only."""
    targets: Literal["auto", "reference", "teacher", "both"] = "auto"
    """Training targets: reference uses those of the data; teacher has the teacher write them before training; both uses
    each row once with each target; auto chooses teacher if writing the targets is estimated to take no longer than the
    training, otherwise reference."""
    resume: str = "auto"
    """What to do with an earlier run in the output folder: auto resumes it from its last checkpoint, never refuses the
    folder; or the path of a checkpoint to resume from."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do when a loss or gradient is NaN or infinite: stop at the last good checkpoint, or skip that step."""
    seed: int = option(42, between(0, MAX_SEED))
    """Random seed of weights, data order and dropout."""
    teacher_cache: str | None = None
    """Folder of cached teacher outputs, filled by `distill cache` or by the run before its first step."""
    matches: list[FeatureLossConfig] = option([])
    """Feature losses, one mapping each, such as '[{"layers": "last", "loss": "cosine"}]'."""
    logger: list[Literal["tensorboard", "csv", "wandb", "mlflow"]] = option(["tensorboard"], without_repeats)
    """Loggers to write training logs with; [] for none."""
    student: StudentConfig = field(default_factory=StudentConfig)
    trim: TrimConfig = field(default_factory=TrimConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    label: LabelOptions = field(default_factory=LabelOptions)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
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
        return self.eval.monitor or ("loss" if len(self.kinds) > 1 else TASKS[self.kinds[0]].monitor)

    @property
    def kinds(self) -> list[str]:
        """The values of `task` among all tasks, without repeats."""
        return list(dict.fromkeys(config.task or "summarization" for config in self.each_task()))

    @property
    def sources(self) -> list[str]:
        """The data sources of all tasks, without repeats."""
        return list(dict.fromkeys(source for config in self.each_task() for source in config.data or ()))

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output_dir or f"runs/{self.task}").expanduser()

    def each_task(self) -> "list[RunConfig]":
        """The config of each task as if it were alone; of a run without several tasks, itself."""
        if not self.tasks:
            return [self]
        names = ("data", "teacher", "task", "src_lang", "tgt_lang")
        return [
            replace(
                self,
                tasks=[],
                encode=self.encode if entry.prefix is None else replace(self.encode, prefix=entry.prefix),
                **{name: value for name in names if (value := getattr(entry, name)) is not None},
            )
            for entry in self.tasks
        ]
