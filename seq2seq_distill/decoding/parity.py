"""Whether an exported model gives what the model itself gives."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import GenerationConfig

from seq2seq_distill.decoding.conversion import save_converted
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import Decoder, TransformersDecoder
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.onnx_decoder import OnnxDecoder
from seq2seq_distill.decoding.onnx_model import save_onnx
from seq2seq_distill.utils.errors import ModelError

logger = logging.getLogger(__name__)

Convert = Callable[[Path, LoadedModel], Decoder]
"""Writes a model into an empty folder, and opens it there."""
LEAST_EQUAL = 0.95
"""Share of equal outputs at full precision below which an export is refused."""


@dataclass(frozen=True)
class Parity:
    """The outputs of two decoders for the same sources, side by side."""

    sources: int
    equal: float
    """Share of sources with the same best output."""
    score_gap: float
    """Largest difference of score where the outputs are equal and not cut at the limit."""
    unequal_rows: tuple[int, ...]
    """Sources whose outputs differ."""

    @property
    def passes(self) -> bool:
        """Whether enough outputs are equal."""
        return self.equal >= LEAST_EQUAL


def check_parity(
    loaded: LoadedModel,
    searches: Mapping[str, GenerationConfig],
    sources: Sequence[Sequence[int]],
    convert: Convert,
    wanted_by: str,
    remedy: str,
) -> dict[str, Parity]:
    """Outputs of the model in float32 beside those of transformers, for each way of searching.

    Args:
        loaded: the model, in float32 and on the CPU.
        searches: generation configs by name.
        sources: token ids of some texts.
        convert: writes the model into an empty folder, and opens it there.
        wanted_by, remedy: open and end a message.

    Raises:
        ConfigError: the engine is not installed.
        ModelError: the model cannot be converted, or too many outputs differ.
    """
    parities = {}
    with tempfile.TemporaryDirectory() as place:
        for name, config in searches.items():
            folder = Path(place) / name
            folder.mkdir()
            searching = replace(loaded, generation=config)
            decoders = TransformersDecoder(searching), convert(folder, searching)
            parities[name] = compare(*decoders, sources, config.max_length)
            logger.info(
                "%s: %.1f%% of %d outputs equal those of transformers, scores differ by at most %.1g",
                name,
                100 * parities[name].equal,
                parities[name].sources,
                parities[name].score_gap,
            )
    for name, parity in parities.items():
        if not parity.passes:
            raise ModelError(
                f"{wanted_by}: {parity.equal:.0%} of the outputs ({name}) equal those of transformers, rows "
                f"{list(parity.unequal_rows[:5])} do not: {remedy}"
            )
    return parities


def to_ctranslate2(wanted_by: str, first: Sequence[int] = ()) -> Convert:
    """`convert` of `check_parity`, for CTranslate2 in float32; `wanted_by` opens a message, and the tokens `first` get
    the first rows."""

    def convert(folder: Path, loaded: LoadedModel) -> Decoder:
        save_converted(folder, loaded.torch_model, loaded.tokenizer, loaded.generation, "float32", wanted_by, first)
        return CTranslate2Decoder(folder, loaded)

    return convert


def to_onnx(wanted_by: str, first: Sequence[int] = ()) -> Convert:
    """`convert` of `check_parity`, for onnxruntime in float32; `wanted_by` opens a message. Rows keep their order."""

    def convert(folder: Path, loaded: LoadedModel) -> Decoder:
        save_onnx(folder, loaded.torch_model, "float32", wanted_by)
        return OnnxDecoder(folder, loaded)

    return convert


def compare(original: Decoder, exported: Decoder, sources: Sequence[Sequence[int]], limit: int) -> Parity:
    """Decode the sources (token ids) with both.

    Args:
        original, exported: the decoders.
        sources: token ids of each.
        limit: most tokens of an output. Of one that is cut there transformers gives a score with an end that it has
            forced, so scores of these are not compared.
    """
    first, second = ([best for best, *_ in decoder.decode(sources)] for decoder in (original, exported))
    pairs = list(zip(first, second, strict=True))
    unequal = tuple(row for row, (one, two) in enumerate(pairs) if one.ids != two.ids)
    whole = [(one, two) for one, two in pairs if one.ids == two.ids and len(one.ids) < limit - 2]
    gaps = [abs(one.score - two.score) for one, two in whole if one.score is not None and two.score is not None]
    return Parity(len(pairs), 1 - len(unequal) / max(1, len(pairs)), max(gaps, default=0.0), unequal)
