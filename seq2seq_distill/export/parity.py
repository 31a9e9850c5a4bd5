"""Whether an exported model gives what the model itself gives."""

from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq_distill.engines import Engine

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
