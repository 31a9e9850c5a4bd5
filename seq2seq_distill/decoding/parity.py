"""Whether an exported model gives what the model itself gives."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.decoding.conversion import save_converted
from seq2seq_distill.decoding.engines import CTranslate2Engine, Engine, TransformersEngine
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

LEAST_EQUAL = 0.95
"""Share of equal outputs at full precision below which an export is refused."""


@dataclass(frozen=True)
class Parity:
    """The outputs of two engines for the same sources, side by side."""

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
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    searches: Mapping[str, GenerationConfig],
    sources: Sequence[Sequence[int]],
    wanted_by: str,
    remedy: str,
) -> dict[str, Parity]:
    """Outputs of the model in float32 beside those of transformers, for each way of searching.

    Args:
        model: in float32, on the CPU.
        tokenizer: the model's.
        searches: generation configs by name.
        sources: token ids of some texts.
        wanted_by, remedy: open and end a message.

    Raises:
        ConfigError: CTranslate2 is not installed.
        ModelError: the model cannot be converted, or too many outputs differ.
    """
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for name, config in searches.items():
            folder = Path(place) / name
            folder.mkdir()
            save_converted(folder, model, tokenizer, config, "float32", wanted_by)
            engines = TransformersEngine(model, config, int(tokenizer.pad_token_id)), CTranslate2Engine(folder, config)
            found[name] = compare(*engines, sources, config.max_length)
            logger.info(
                "%s: %.1f%% of %d outputs equal those of transformers, scores differ by at most %.1g",
                name,
                100 * found[name].equal,
                found[name].sources,
                found[name].score_gap,
            )
    for name, parity in found.items():
        if not parity.passes:
            raise ModelError(
                f"{wanted_by}: {parity.equal:.0%} of the outputs ({name}) equal those of transformers, rows "
                f"{list(parity.unequal_rows[:5])} do not: {remedy}"
            )
    return found


def compare(original: Engine, exported: Engine, sources: Sequence[Sequence[int]], limit: int) -> Parity:
    """Decode the sources (token ids) with both.

    Args:
        original, exported: the engines.
        sources: token ids of each.
        limit: most tokens of an output. Of one that is cut there transformers gives a score with an end that it has
            forced, so scores of these are not compared.
    """
    pairs = [(own[0], other[0]) for own, other in zip(original.decode(sources), exported.decode(sources), strict=True)]
    unequal = tuple(row for row, (own, other) in enumerate(pairs) if own.ids != other.ids)
    whole = [(own, other) for own, other in pairs if own.ids == other.ids and len(own.ids) < limit - 2]
    gaps = [abs(own.score - other.score) for own, other in whole]
    return Parity(len(pairs), 1 - len(unequal) / max(1, len(pairs)), max(gaps, default=0.0), unequal)
