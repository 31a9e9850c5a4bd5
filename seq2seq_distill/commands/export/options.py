"""The options of `distill export`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import above, at_least, at_most, option
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.problems import Problem

ONNX_PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class ExportConfig(DecodingOptions):
    """Convert a model to a format that is fast to serve, and verify its outputs first."""

    model: str = option("", required=True)
    """Model to export: the output folder of a run, a Hugging Face folder, or a hub id."""
    output_dir: str = option("", required=True)
    """Folder in which the exported model is saved, with its tokenizer and generation settings."""
    format: Literal["ctranslate2", "onnx"] = "ctranslate2"
    """Format of the exported model; each needs the extra of that name."""
    quantization: Literal["int8", "int8_float16", "float16", "float32"] | None = None
    """Numerical format of the exported weights; onnx supports int8 and float32 (default: int8 for ctranslate2, float32
    for onnx)."""
    shortlist: bool = False
    """Write a shortlist, with which CTranslate2 scores only a few hundred target pieces that suit the source; needs
    --format ctranslate2."""
    shortlist_coverage: float = option(0.995, above(0), at_most(1))
    """Fraction of the pieces of the model's outputs on the val split that the shortlist must contain."""
    shortlist_max_loss: float = option(1.0, at_least(0))
    """Points of the task's main score (BLEU or ROUGE-L) that the shortlist may cost, at the upper end of the 95%
    interval; otherwise the export is refused."""
    page: bool = False
    """Add index.html, a page that runs the model in a browser; needs --format onnx."""
    data: list[str] = option([])
    """Data sources with the texts on which outputs are compared (default: the data of the model's run)."""
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

    @property
    def precision(self) -> str:
        """The numerical format, given or not."""
        return self.quantization or ("int8" if self.format == "ctranslate2" else "float32")

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        if self.format == "onnx" and self.precision not in ONNX_PRECISIONS:
            yield Problem(
                ("quantization", "format"),
                f"`quantization` {self.quantization} is not for `format` onnx: choose {' or '.join(ONNX_PRECISIONS)}",
            )
        if self.shortlist and self.format != "ctranslate2":
            yield Problem(
                ("shortlist", "format"), f"`shortlist` needs `format` ctranslate2, not {self.format}: leave it out"
            )
        if self.page and self.format != "onnx":
            yield Problem(("page", "format"), f"`page` needs `format` onnx, not {self.format}: browsers run no other")
