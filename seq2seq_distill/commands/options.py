"""The options of the small tools: student, average, convert."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import tool_problems
from seq2seq_distill.config.conflicts import conflict_problems
from seq2seq_distill.config.schema import RunConfig, StudentConfig
from seq2seq_distill.utils.errors import raise_config_error


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
        problems = tool_problems(self, "teacher", "output_dir")
        problems += [f"{flag} makes no student from a teacher's layers: leave it out" for flag in given]
        as_in_a_run = RunConfig(student=replace(self.student, path=None, config=None, vocab_size=None))
        raise_config_error([*problems, *conflict_problems(as_in_a_run)])


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
        raise_config_error(tool_problems(self, "checkpoints", "output_dir"))


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
        raise_config_error(tool_problems(self, "checkpoint", "output_dir"))
