"""A noisy form of every row of a split: a function of the options, the seed and the row alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from seq2seq_distill.config.noise import NoiseConfig
from seq2seq_distill.data.noise.kinds import Languages, with_noise

FORMAT = 1
"""Raised when the same options give other texts."""


@dataclass(frozen=True)
class Variant:
    """One of the noisy forms of a split.

    Args:
        noise: the kinds and their rates.
        seed: of the draws.
        number: of the form, from 1 on.
        languages: of source and target, for their case.
    """

    noise: NoiseConfig
    seed: int
    number: int
    languages: Languages

    @property
    def key(self) -> dict[str, Any]:
        """Stands for all that the form depends on besides the texts and the tokenizer."""
        options = {"rates": self.noise.rates, "subword_sampling": self.noise.subword_sampling}
        return {"format": FORMAT, **options, **{k: v for k, v in asdict(self).items() if k != "noise"}}

    def texts(self, first: int, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[str], list[str]]:
        """Noisy sources and targets of the rows from `first` on."""
        pairs = [
            with_noise(source, target, self.noise.rates, self._rng("text", row), self.languages)
            for row, (source, target) in enumerate(zip(sources, targets, strict=True), start=first)
        ]
        return [source for source, _ in pairs], [target for _, target in pairs]

    def rng(self, row: int) -> Random:
        """The generator of the subwords of a row."""
        return self._rng("subwords", row)

    def _rng(self, what: str, row: int) -> Random:
        return Random(f"{what} {self.seed} {self.number} {row}")
