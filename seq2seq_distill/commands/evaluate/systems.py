"""What is judged: a model in transformers, an exported one in CTranslate2, or a file of ready outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from transformers import GenerationConfig
from transformers.utils import cached_file

from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.data.encoding import Collator
from seq2seq_distill.decoding.engines import CTranslate2Engine, check_exported_options
from seq2seq_distill.decoding.generation import (
    GenerationSettings,
    decoding,
    generate_batch,
    generated_length,
    text_of,
    to_device,
    with_settings,
)
from seq2seq_distill.decoding.likelihood import token_ids
from seq2seq_distill.decoding.loading import LoadedModel, export_record, load_model
from seq2seq_distill.metrics.cost import PeakMemory, count_parameters, model_bytes, synchronize
from seq2seq_distill.models import architectures
from seq2seq_distill.utils.distributed import local_device
from seq2seq_distill.utils.errors import ConfigError, DataError, ModelError
from seq2seq_distill.utils.optional import optional

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "model.bin")
"""Files of a folder that hold a model's weights; the first kind that is there is read, whatever else there is."""

THREADS = torch.get_num_threads()


@dataclass(frozen=True)
class Output:
    """What was decoded for one source."""

    text: str
    tokens: int
    """Tokens that the model chose, the end of sentence included."""
    cut: bool
    """Whether it reached the limit of tokens."""


class System(Protocol):
    """Something that decodes."""

    engine: str
    """transformers or ctranslate2."""
    parameters: int | None
    bytes: int | None
    """Of the weights on disk."""
    beams: int

    @property
    def threads(self) -> str:
        """How it uses the cores, in words."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of sources."""

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Output]:
        """Decode sources given in length order, as many together as `--batch_size` says."""

    def tensor_memory(self, texts: Sequence[str]) -> int | None:
        """Bytes of the weights and, at its peak, of the tensors that decoding one text at a time makes besides; None
        where nobody can count them."""


class TransformersSystem:
    """Decodes with `generate`, on as many threads as torch had at first: CTranslate2 changes them for the process."""

    engine = "transformers"

    def __init__(self, loaded: LoadedModel, size: int | None, batch_size: int, device: torch.device) -> None:
        self._loaded, self._batch_size = loaded, batch_size
        self._model = loaded.model.to(device)  # type: ignore[arg-type]
        self._collate = Collator(int(loaded.tokenizer.pad_token_id), architectures.extra_inputs(loaded.model.config))
        self.parameters: int | None = count_parameters(loaded.model)
        self.bytes = size
        self.beams = loaded.generation.num_beams or 1

    @property
    def threads(self) -> str:
        """As `System.threads`."""
        if self._model.device.type == "cuda":
            return torch.cuda.get_device_name()
        return f"{THREADS} thread{'s' if THREADS > 1 else ''}"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `System.encode`."""
        return self._loaded.source_ids(texts)

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Output]:
        """As `System.decode`."""
        torch.set_num_threads(THREADS)
        outputs: list[list[int]] = []
        with decoding(self._model):
            for start in range(0, len(sources), self._batch_size):
                rows = sources[start : start + self._batch_size]
                batch = self._collate([{"input_ids": ids, "row": row} for row, ids in enumerate(rows)])
                outputs += generate_batch(self._model, to_device(batch, self._model.device), self._loaded.generation)
        synchronize(self._model.device)
        return [self._output(ids) for ids in outputs]

    def tensor_memory(self, texts: Sequence[str]) -> int:
        """As `System.tensor_memory`."""
        with PeakMemory(self._model.device) as peak:
            for source in self.encode(texts):
                self.decode([source])
        return model_bytes(self._model) + peak.bytes

    def _output(self, ids: list[int]) -> Output:
        config = self._loaded.generation
        cut = len(ids) >= config.max_length - 1
        return Output(text_of(self._loaded.tokenizer, ids), generated_length(ids, config), cut)


class CTranslate2System:
    """Decodes with CTranslate2."""

    engine = "ctranslate2"

    def __init__(self, folder: Path, config: EvaluateConfig) -> None:
        about = export_record(str(folder), "models")
        if not about:
            raise ModelError(f"`models` {folder}: an exported model without export.json: export it anew")
        optional("ctranslate2", f"`models` {folder}")
        positions = about.get("max_positions") or [None, None]
        settings = _exported_settings(folder, config, positions[1])
        device = device_of(config.device)
        self._engine = CTranslate2Engine(folder, settings, device=device, batch_size=config.batch_size)
        self._prefix = about.get("prefix") or "" if config.prefix is None else config.prefix
        self._longest = min(filter(None, (config.source_limit, positions[0])))
        self._forced = settings.forced_bos_token_id is not None
        # Where transformers forces the end at the limit, the engine leaves one token less to the model.
        self._ends = settings.forced_eos_token_id is not None
        self._limit = settings.max_length - 1 - self._ends
        self.parameters: int | None = about.get("parameters")
        self.bytes = size_of(folder)
        self.beams = settings.num_beams or 1

    @property
    def threads(self) -> str:
        """Known once it has decoded."""
        if self._engine.device.type == "cuda":
            return torch.cuda.get_device_name()
        side_by_side, each = self._engine.threads or (1, 1)
        return f"{side_by_side} x {each} threads"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `System.encode`."""
        return token_ids(self._engine.tokenizer, [self._prefix + text for text in texts], self._longest)

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Output]:
        """As `System.decode`."""
        outputs = []
        for hypotheses in self._engine.decode(sources):
            ids = list(hypotheses[0].ids)
            cut = len(ids) >= self._limit
            tokens = len(ids) - self._forced + (self._ends or not cut)
            outputs.append(Output(text_of(self._engine.tokenizer, ids), tokens, cut))
        return outputs

    def tensor_memory(self, texts: Sequence[str]) -> None:
        """As `System.tensor_memory`."""


def open_system(config: EvaluateConfig, name: str) -> System | None:
    """One of `--models`, loaded; None for a file of outputs.

    Raises:
        UserError: it cannot be loaded.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return None
    if (path / "model.bin").is_file():
        return CTranslate2System(path, config)
    loaded = load_model(name, "models", config, GenerationSettings.of_command(config), getattr(torch, config.dtype))
    place = Path(str(cached_file(str(loaded.model.name_or_path), "config.json"))).parent
    return TransformersSystem(loaded, size_of(place), config.batch_size, device_of(config.device))


def device_of(name: str) -> torch.device:
    """The device of `--device`: auto is a GPU where there is one, this process's own among several."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` cuda: torch sees no GPU here: choose cpu, or auto")
    return local_device(name)


def read_outputs(file: str, rows: int, wanted: int) -> list[str]:
    """The first `wanted` lines of a file with an output for each of the split's `rows`, or with so many lines."""
    try:
        lines = Path(file).expanduser().read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"`models` {file}: not UTF-8 ({error.reason} at byte {error.start}): convert it") from None
    except OSError as error:
        raise DataError(f"`models` {file}: {error.strerror}: give a file that can be read") from None
    if lines[-1] == "":
        lines.pop()
    if len(lines) not in (rows, wanted):
        raise DataError(f"`models` {file} has {len(lines)} lines for {wanted} examples: give one output a line")
    return [line.strip() for line in lines[:wanted]]


def size_of(folder: Path) -> int | None:
    """Bytes of the files with a model's weights; None where there are none."""
    for pattern in WEIGHTS:
        if files := list(folder.glob(pattern)):
            return sum(file.stat().st_size for file in files)
    return None


def _exported_settings(folder: Path, config: EvaluateConfig, positions: int | None) -> GenerationConfig:
    own = GenerationConfig.from_pretrained(folder)
    settings = with_settings(own, GenerationSettings.of_command(config), positions)
    check_exported_options(f"`models` {folder}", config.generate, own)
    return settings
