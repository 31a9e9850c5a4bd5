"""The options of the verbs that train nothing, as `config.py` has those of a run."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from seq2seq_distill.checks import option_problems
from seq2seq_distill.config import RunConfig, StudentConfig
from seq2seq_distill.conflicts import conflict_problems, label_problems
from seq2seq_distill.errors import report


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
class LabelConfig:
    """Let a model write the targets of a data set (pseudo-labels), or score those that it has, and filter them."""

    model: str = ""
    """The teacher: a Hugging Face folder or hub id, or a folder made by `distill export`."""
    data: list[str] = field(default_factory=list)
    """What to label: sources as a run takes them; by default the data of the model's run."""
    output_dir: str = ""
    """Where the labelled data set is written; on the same folder the same command goes on where it was."""
    split: Literal["train", "val", "test"] = "train"
    """Which split."""
    n: int | None = None
    """Only the first n rows."""
    targets: Literal["generate", "reference"] = "generate"
    """generate: the model writes them; reference: keep the data's own, scored by the model, to filter them."""
    task: Literal["summarization", "translation"] | None = None
    """Says the prefix and the way to decode, where the model's config has some for it; by default the run's."""
    src_lang: str | None = None
    """Source language; by default the run's."""
    tgt_lang: str | None = None
    """Target language; by default the run's."""
    prefix: str | None = None
    """Text put before every source; by default what the model's config says for the task (T5)."""
    source_column: str | None = None
    """Column of the source text; by default found by name."""
    target_column: str | None = None
    """Column of the reference; by default found by name."""
    engine: Literal["auto", "transformers", "ctranslate2"] = "auto"
    """auto: CTranslate2 where it is installed, takes the model, and gives the same outputs for 64 sources."""
    quantization: Literal["int8", "int8_float16", "float16", "float32"] = "float32"
    """Of the weights of CTranslate2's model; int8 is faster and changes some outputs."""
    beams: int | None = None
    """Beams; by default the model's own generation config."""
    n_best: int = 1
    """Candidates for each row."""
    sample: bool = False
    """Draw the candidates instead of searching for them."""
    temperature: float = 1.0
    """With sample: of the distribution."""
    top_k: int = 0
    """With sample: draw from so many likeliest tokens; 0 draws from all."""
    top_p: float = 1.0
    """With sample: draw from the likeliest tokens that have this mass together."""
    seed: int = 42
    """With sample: of the draws."""
    keep: Literal["top1", "best-chrf", "best-bleu", "best-rouge", "all"] = "top1"
    """Which candidates stay: the likeliest, the closest to the reference (by chrF, BLEU or ROUGE-L), or all."""
    max_source_length: int = 1024
    """Longest source in tokens; longer ones are cut. Never more than the model's positions."""
    max_target_length: int = 142
    """Most tokens to generate."""
    length_penalty: float | None = None
    """Length penalty of beam search; by default the model's own."""
    max_tokens: int = 4096
    """Source tokens decoded together, padding counted."""
    shard_rows: int = 4096
    """Rows of a shard: what is lost when the command is killed, and one file of the data set."""
    min_words: int = 1
    """Drop targets of fewer words; 1 drops the empty ones."""
    min_score: float | None = None
    """Drop targets whose mean log-probability under the model is below this."""
    min_gain: float | None = None
    """With --targets reference: drop targets that their source makes more likely by less than this, in mean
    log-probability, than another row's source does."""
    min_rouge2: float | None = None
    """Drop targets whose ROUGE-2 with the reference, 0 to 100, is below this."""
    min_chrf: float | None = None
    """Drop targets whose chrF2 with the reference, 0 to 100, is below this."""
    min_length_ratio: float | None = None
    """Drop targets with fewer words than so many times those of the source."""
    max_length_ratio: float | None = None
    """Drop targets with more words than so many times those of the source."""
    max_repetition: float | None = None
    """Drop targets in which a larger share of the 4-grams has been there before in the same target."""
    max_copied: float | None = None
    """Drop targets whose chrF2 with the source, 0 to 100, is above this: not translated."""
    min_script: float | None = None
    """Drop targets in which a smaller share of the letters is of the references' script."""
    backward_model: str | None = None
    """A model of the other direction, target to source: it scores each source given its target."""
    drop_fraction: float = 0.0
    """Drop this share of what the other filters leave, the worst by the backward model."""

    @property
    def folder(self) -> Path:
        """Where the data set is written."""
        return Path(self.output_dir).expanduser()

    def check(self) -> None:
        """Raise `ConfigError` with every mistake."""
        problems = _tool_problems(self, "model", "output_dir")
        wrong = {line.split()[0] for line in problems}
        report([*problems, *(line for line in label_problems(self) if wrong.isdisjoint(line.split()))])
