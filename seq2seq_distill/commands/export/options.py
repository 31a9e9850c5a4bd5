"""The options of `distill export`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import at_least, option
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.problems import Problem


@dataclass(frozen=True)
class ExportConfig(DecodingOptions):
    """Convert a model to a format that is fast to serve, after checking that its outputs stay the same."""

    model: str = option("", required=True)
    """Model to export: a Hugging Face folder, such as best/ of a run, or a hub id."""
    output_dir: str = option("", required=True)
    """Folder in which the exported model is saved, with its tokenizer and generation settings."""
    format: Literal["ctranslate2", "onnx"] = "ctranslate2"
    """Format of the exported model; ctranslate2 needs the extra of that name."""
    quantization: Literal["int8", "int8_float16", "float16", "float32"] = "int8"
    """Numerical format of the exported weights."""
    data: list[str] = option([])
    """Data sources whose texts the outputs are compared on (default: the data of the model's run)."""
    source_column: str | None = None
    """Column with the source texts (default: the run's, or recognised by its name)."""
    target_column: str | None = None
    """Column with the target texts (default: the run's, or recognised by its name)."""
    n: int = option(64, at_least(1))
    """Number of texts on which outputs are compared."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """Any two values go together."""
        return iter(())
