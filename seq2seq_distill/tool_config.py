"""The options of the verbs that train nothing, as `config.py` has those of a run."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from seq2seq_distill.checks import option_problems, words
from seq2seq_distill.config import RunConfig, StudentConfig
from seq2seq_distill.conflicts import conflict_problems
from seq2seq_distill.errors import report, shown


def _tool_problems(config: Any, *required: str) -> list[str]:
    missing = [name for name in required if not getattr(config, name)]
    others = [line for line in option_problems(config) if line.split()[0].removeprefix("--") not in missing]
    return [*(f"--{name} is missing: name one" for name in missing), *others]


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
        report([*problems, *conflict_problems(as_in_a_run)])


@dataclass(frozen=True)
class PlanConfig(RunConfig):
    """Measure which students are as fast as they have to be, before any is trained; the options are those of a run."""

    speedup: float | None = None
    """How many times as fast as the teacher the student is to generate a token."""
    max_latency_ms: float | None = None
    """The most milliseconds that decoding a batch may take."""
    rows: int = 1
    """Rows of a batch that is decoded."""
    source_length: int | None = None
    """Tokens of each source; by default the mean of the data, without data 256."""
    output_length: int | None = None
    """Tokens of each output; by default the mean of the data's targets, without data 64."""
    encoder_depths: list[int] | None = None
    """Encoder depths to try; by default the teacher's, halved down to a quarter."""
    decoder_depths: list[int] | None = None
    """Decoder depths to try; by default the teacher's, halved down to one layer."""
    repeats: int = 10
    """Batches on which each layout is timed."""
    write: str | None = None
    """File for the config of the run that trains the chosen student."""

    @property
    def run(self) -> RunConfig:
        """The run that is planned."""
        return RunConfig(**{each.name: getattr(self, each.name) for each in fields(RunConfig)})

    def check(self) -> None:
        """Raise `ConfigError` with every mistake; unlike a run, a plan needs no data."""
        replace(self.run, data=self.data or ["(none)"]).check()
        report([*option_problems(self), *_plan_problems(self)])


def _plan_problems(config: PlanConfig) -> Iterator[str]:
    if config.teacher is None:
        yield "--teacher is missing: name one, or leave out --data too, for the built-in demo"
    if config.write and config.speedup is None and config.max_latency_ms is None:
        yield f"--write {shown(config.write)} needs a choice: add --speedup or --max_latency_ms"
    for name in ("path", "config"):
        if value := getattr(config.student, name):
            yield f"--student.{name} {shown(value)}: a plan is for students cut from a teacher: leave it out"


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
        report(_tool_problems(self, "checkpoints", "output_dir"))


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
        report(_tool_problems(self, "checkpoint", "output_dir"))


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
        report(_tool_problems(self, "model", "output_dir"))


@dataclass(frozen=True)
class EvaluateConfig:
    """Score, time and compare models on one data set; the first is the one that the others are compared with."""

    models: list[str] = field(default_factory=list)
    """What to judge: Hugging Face folders or hub ids, folders of `distill export`, text files with an output a line."""
    names: list[str] | None = None
    """What the models are called in tables; by default after their folders and files."""
    data: list[str] = field(default_factory=list)
    """The data sources; by default those of the first model's run."""
    split: Literal["train", "val", "test"] = "test"
    """Split to judge on."""
    task: Literal["summarization", "translation"] | None = None
    """Says the scores and the prefix; by default the run's."""
    src_lang: str | None = None
    """Source language; by default the run's."""
    tgt_lang: str | None = None
    """Target language; by default the run's."""
    prefix: str | None = None
    """Text put before every source; by default the run's, or what a model's config says for the task (T5)."""
    source_column: str | None = None
    """Column of the sources; by default the run's, or found by its name."""
    target_column: str | None = None
    """Column of the references; by default the run's, or found by its name."""
    n: int | None = None
    """Judge on the first so many examples; by default on all."""
    beams: int | None = None
    """Beams of every model; by default the run's, or each has its own."""
    length_penalty: float | None = None
    """Exponent of the length in beam search; by default the run's, or each model has its own."""
    max_source_length: int | None = None
    """Longest source in tokens; by default the run's, or 1024."""
    max_target_length: int | None = None
    """Most tokens to generate; by default the run's, or 142."""
    batch_size: int = 32
    """Examples decoded together, for the outputs and for the throughput."""
    n_speed: int = 50
    """Examples decoded one at a time to measure latency; 0 measures neither speed nor memory."""
    resamples: int = 1000
    """Bootstrap samples behind intervals and p."""
    seed: int = 12345
    """Of the bootstrap samples; the default is sacrebleu's."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models decode; auto is a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the weights of Hugging Face models; an exported model has its own."""
    output_dir: str = "evaluation"
    """Where results.json, results.md and outputs.jsonl are written."""
    html: str | None = None
    """Also write a page for people to this file; it needs no network."""
    comet: str | None = None
    """Also score translations with this COMET model: an id, Unbabel/wmt22-comet-da say, or a checkpoint."""
    comet_python: str | None = None
    """Python of an environment in which unbabel-comet is installed; it cannot share this one."""

    @property
    def folder(self) -> Path:
        """Where the results are written."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        problems = _tool_problems(self, "models", "output_dir")
        if self.names is not None and len(self.names) != len(self.models):
            problems.append(f"--names {words(self.names)} does not fit {len(self.models)} models: give one for each")
        if self.names is not None and len(set(self.names)) < len(self.names):
            problems.append(f"--names {words(self.names)}: give each model a name of its own")
        if self.comet and not self.comet_python:
            problems.append(f"--comet {self.comet} needs --comet_python: name the Python that has unbabel-comet")
        if self.comet_python and not self.comet:
            problems.append(f"--comet_python {self.comet_python} comes without --comet: name the model")
        if self.comet and self.task == "summarization":
            problems.append(f"--comet {self.comet} scores translations alone: leave it out")
        if self.seed < 1:
            problems.append(f"--seed {self.seed}: sacrebleu takes that for no seed: choose 1 or more")
        report(problems)
