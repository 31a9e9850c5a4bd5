"""The options of `distill convert`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import option
from seq2seq_distill.config.problems import Problem


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a Lightning checkpoint of a run, or a Hugging Face folder, to a Hugging Face folder of any dtype."""

    checkpoint: str = option("", required=True)
    """Model to convert: a checkpoint in the checkpoints folder of a run, or a Hugging Face folder."""
    output_dir: str = option("", required=True)
    """Folder in which the model is saved."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Data type of the saved weights."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """Any two values go together."""
        return iter(())
