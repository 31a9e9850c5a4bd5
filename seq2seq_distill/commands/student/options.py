"""The options of `distill student`."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from seq2seq_distill.config.bounds import option
from seq2seq_distill.config.conflicts import layer_conflicts
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.student import StudentConfig
from seq2seq_distill.utils.errors import format_value


@dataclass(frozen=True)
class StudentOnlyConfig:
    """Create a student from a teacher, without training, and save it in Hugging Face format."""

    teacher: str = option("", required=True)
    """Teacher: a Hugging Face folder or hub id."""
    output_dir: str = option("", required=True)
    """Folder in which the student is saved."""
    student: StudentConfig = field(default_factory=StudentConfig)

    @property
    def folder(self) -> Path:
        """Where the student is saved."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        for name in ("path", "config", "vocab_size"):
            if getattr(self.student, name):
                yield Problem(
                    (f"student.{name}",),
                    f"`student.{name}` does not build a student from a teacher's layers: leave it out",
                )
        for name, value in self.student.widths.items():
            yield Problem(
                (f"student.{name}",),
                f"`student.{name}` {value:g} is calibrated on training data, which `distill student` does not read: "
                "leave it out, and set it in a run, which saves the student as student_init/",
            )
        for name in ("freeze_encoder", "freeze_embeds", "repair", "calibration_rows"):
            if (value := getattr(self.student, name)) != getattr(StudentConfig(), name):
                yield Problem(
                    (f"student.{name}",), f"`student.{name}` {format_value(value)} is an option of runs: leave it out"
                )
        yield from layer_conflicts(replace(self.student, path=None, config=None))
