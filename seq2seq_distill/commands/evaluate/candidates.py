"""What is evaluated: a model in transformers, an exported one, or a file of ready outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file

from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.data.length_batches import batches_by_length
from seq2seq_distill.data.readers.lines import read_lines
from seq2seq_distill.decoding.decoder import Decoder, Hypothesis, TransformersDecoder
from seq2seq_distill.decoding.exported import engine_of, open_exported
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.decoding.loading import export_record, load_exported, load_model
from seq2seq_distill.metrics.cost import PeakMemory, count_parameters, model_bytes
from seq2seq_distill.utils.distributed import device_of
from seq2seq_distill.utils.errors import DataError

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model.bin", "onnx/*.onnx")
"""Files of a folder that hold a model's weights; the first kind that is there is read, whatever else there is."""


@dataclass(frozen=True)
class OpenModel:
    """A model ready to decode, and what is known of its size."""

    decoder: Decoder
    tokenizer: PreTrainedTokenizerBase
    parameters: int | None
    bytes: int | None
    """Of the weights on disk."""
    beams: int

    def tensor_memory(self, texts: Sequence[str]) -> int | None:
        """Bytes of the weights and, at their peak, of the tensors that decoding one text at a time makes besides; None
        where nobody can count them."""
        if not isinstance(self.decoder, TransformersDecoder):
            return None
        model = self.decoder.model
        with PeakMemory(model.device) as peak:
            for source in self.decoder.encode(texts):
                self.decoder.decode([source], with_scores=False)
        return model_bytes(model) + peak.bytes


def open_model(config: EvaluateConfig, name: str) -> OpenModel | None:
    """One of `models`, loaded; None for a file of outputs.

    Raises:
        UserError: it cannot be loaded.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return None
    settings, device = GenerationSettings.of_command(config), device_of(config.device)
    if engine_of(path):
        loaded = load_exported(path, "models", config, settings, within_export=False)
        decoder: Decoder = open_exported(path, loaded, "models", batch_size=config.batch_size, device=device)
        parameters, size = export_record(str(path), "models").get("parameters"), size_of(path)
    else:
        loaded = load_model(name, "models", config, settings, getattr(torch, config.dtype))
        decoder = TransformersDecoder(loaded, batch_size=config.batch_size, device=device)
        model = loaded.torch_model
        folder = Path(str(cached_file(str(model.name_or_path), "config.json"))).parent
        parameters, size = count_parameters(model), size_of(folder)
    return OpenModel(decoder, loaded.tokenizer, parameters, size, loaded.generation.num_beams or 1)


def decode_all(
    decoder: Decoder, texts: Sequence[str], batch_size: int, rank: int = 0, world: int = 1
) -> list[Hypothesis]:
    """The output for each source text, in order, on every process.

    The batches are those of one process, in length order, dealt out in turn: so the outputs are the same.
    """
    inputs = decoder.encode(texts)
    batches = batches_by_length(list(map(len, inputs)), size=batch_size)
    rows = [row for batch in batches[rank::world] for row in batch]
    hypotheses = decoder.decode([inputs[row] for row in rows], with_scores=False)
    decoded = {row: best for row, (best,) in zip(rows, hypotheses, strict=True)}
    parts = [decoded]
    if world > 1:
        parts = [{} for _ in range(world)]
        dist.all_gather_object(parts, decoded)
    by_row = {row: hypothesis for part in parts for row, hypothesis in part.items()}
    return [by_row[row] for row in range(len(texts))]


def read_outputs(file: str, rows: int, wanted: int) -> list[str]:
    """The first `wanted` lines of a file with an output for each of the split's `rows`, or with so many lines."""
    given = f"`models` {file}"
    try:
        batches = read_lines(given, Path(file).expanduser())
        lines = [line for batch in batches for line in batch.to_pylist()]
    except OSError as error:
        raise DataError(f"{given}: {error.strerror}: give a file that can be read") from None
    if len(lines) not in (rows, wanted):
        raise DataError(f"`models` {file} has {len(lines)} lines for {wanted} examples: give one output a line")
    return [line.strip() for line in lines[:wanted]]


def size_of(folder: Path) -> int | None:
    """Bytes of the files with a model's weights; None where there are none."""
    for pattern in WEIGHTS:
        if files := list(folder.glob(pattern)):
            return sum(file.stat().st_size for file in files)
    return None
