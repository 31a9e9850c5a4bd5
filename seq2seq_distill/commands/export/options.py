"""The options of `distill export`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import at_least, between, option
from seq2seq_distill.config.problems import Problem


@dataclass(frozen=True)
class ExportConfig:
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
    task: Literal["summarization", "translation"] | None = None
    """Task that selects the prefix and the metrics (default: the run's)."""
    src_lang: str | None = None
    """Source language (default: the run's)."""
    tgt_lang: str | None = None
    """Target language (default: the run's)."""
    prefix: str | None = option(None, free_text=True)
    """Text put before every source (default: what the model's config names for the task, as T5's does)."""
    n: int = option(64, at_least(1))
    """Number of texts on which outputs are compared."""
    beams: int = option(4, between(1, 1000))
    """Number of beams that the exported model is served with."""
    max_source_length: int = option(512, at_least(2))
    """Maximum source length in tokens."""
    max_target_length: int = option(142, at_least(1))
    """Maximum number of tokens to generate."""

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """Any two values go together."""
        return iter(())
