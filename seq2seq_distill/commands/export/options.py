"""The options of `distill export`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import tool_problems
from seq2seq_distill.utils.errors import raise_config_error


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
        raise_config_error(tool_problems(self, "model", "output_dir"))
