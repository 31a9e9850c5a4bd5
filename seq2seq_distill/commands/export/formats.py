"""What `distill export` writes, for each format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from seq2seq_distill.data.tokenization.tokenizer_json import write_tokenizer_json
from seq2seq_distill.decoding.conversion import LOADERS, save_converted
from seq2seq_distill.decoding.generation import without_beams
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.onnx_model import FAMILIES, save_onnx
from seq2seq_distill.decoding.parity import Convert, to_ctranslate2, to_onnx
from seq2seq_distill.utils.files import write_json
from seq2seq_distill.utils.optional import optional

NOT_IN_BROWSERS = ("pegasus",)
"""Model types that transformers.js has no class for."""


@dataclass(frozen=True)
class Format:
    """A format of exported models."""

    engine: str
    """The package that decodes with it."""
    title: str
    """Its name in sentences."""
    packages: tuple[str, ...]
    """What an export needs."""
    families: Sequence[str]
    """Model types that it can hold."""
    convert: Callable[[str, Sequence[int]], Convert]
    """Given what opens a message, and the tokens that get the first rows, `convert` of `check_parity`."""
    save: Callable[[Path, LoadedModel, str, Iterable[str], str, Sequence[int]], dict[str, Any]]
    """Fills a folder, given the model, the precision, sources, what opens a message, and the tokens that get the first
    rows; what export.json says of it."""


def _save_ctranslate2(
    folder: Path, loaded: LoadedModel, precision: str, texts: Iterable[str], wanted_by: str, first: Sequence[int]
) -> dict[str, Any]:
    save_converted(folder, loaded.torch_model, loaded.tokenizer, loaded.generation, precision, wanted_by, first)
    return {"ctranslate2": optional("ctranslate2", wanted_by).__version__}


def _save_onnx(
    folder: Path, loaded: LoadedModel, precision: str, texts: Iterable[str], wanted_by: str, first: Sequence[int]
) -> dict[str, Any]:
    model, generation = loaded.torch_model, loaded.generation
    save_onnx(folder, model, precision, wanted_by)
    loaded.tokenizer.save_pretrained(folder)
    compared = write_tokenizer_json(folder, loaded.tokenizer, (loaded.prefix + text for text in texts), wanted_by)
    without_beams(generation).save_pretrained(folder)
    _save_config(folder, model.config, precision)
    kind = model.config.model_type
    return {
        "onnxruntime": optional("onnxruntime", wanted_by).__version__,
        "search": {name: getattr(generation, name) for name in ("num_beams", "length_penalty", "early_stopping")},
        "transformers.js": f"it has no class for {kind}" if kind in NOT_IN_BROWSERS else "greedy search",
        "tokenizer_json": asdict(compared) if compared else None,
        "int8": INT8 if precision == "int8" else None,
    }


INT8 = (
    "Matrices are 7-bit integers with a scale per output, activations 8-bit integers with a scale per batch: outputs "
    "depend a little on the processor, the version of onnxruntime, and the other texts of a batch."
)


def _save_config(folder: Path, config: PreTrainedConfig, precision: str) -> None:
    """config.json, which tells transformers.js the precision of the files."""
    config.save_pretrained(folder)
    path = folder / "config.json"
    values = json.loads(path.read_text("utf-8"))
    write_json(path, {**values, "transformers.js_config": {"dtype": "q8" if precision == "int8" else "fp32"}})


FORMATS: Mapping[str, Format] = {
    "ctranslate2": Format(
        "ctranslate2", "CTranslate2", ("ctranslate2",), (*LOADERS,), to_ctranslate2, _save_ctranslate2
    ),
    "onnx": Format("onnxruntime", "onnxruntime", ("onnx", "onnxruntime"), FAMILIES, to_onnx, _save_onnx),
}
