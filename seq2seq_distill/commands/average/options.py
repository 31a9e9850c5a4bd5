"""The options of `distill average`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seq2seq_distill.config.bounds import option
from seq2seq_distill.config.problems import Problem


@dataclass(frozen=True)
class AverageConfig:
    """Average the weights of several checkpoints or Hugging Face folders of one architecture."""

    checkpoints: list[str] = option([], required=True)
    """Models to average: Lightning checkpoints of one run, or Hugging Face folders."""
    output_dir: str = option("", required=True)
    """Folder in which the averaged model is saved, in Hugging Face format."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """Any two values go together."""
        return iter(())
