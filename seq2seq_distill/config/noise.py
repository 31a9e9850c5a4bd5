"""Options of noise in the sources of the student."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from seq2seq_distill.config.bounds import between, fraction, option

NoiseKind = Literal["upper", "title", "no_stop", "typos", "unicode", "emoji", "lines"]
PRESETS: Final[Mapping[str, Mapping[NoiseKind, float]]] = MappingProxyType(
    {"firefox": {"no_stop": 0.2, "upper": 0.07, "title": 0.05, "typos": 0.05, "lines": 0.0005}}
)
"""Rates by kind. firefox: those at which OpusTrainer trains the students of Firefox Translations."""
CHANGES_TARGETS: Final[tuple[NoiseKind, ...]] = ("upper", "title", "no_stop", "emoji", "lines")


@dataclass(frozen=True)
class NoiseConfig:
    """Noise: it is added to the training sources of the student, while the teacher reads the clean ones.

    Examples:
        >>> from seq2seq_distill import NoiseConfig
        >>> NoiseConfig(upper=0.05, typos=0.1).rates
        {'upper': 0.05, 'typos': 0.1}
    """

    preset: Literal["firefox"] | None = None
    """Preset of the rates that are not set themselves: firefox uses those of Firefox Translations."""
    subword_sampling: float = option(0.0, fraction())
    """Sample the subwords of the student's sources: smoothing alpha of Unigram tokenizers (0.1 to 0.5), dropout of
    merges in BPE tokenizers (0.1); 0 disables it."""
    upper: float | None = option(None, between(0, 1))
    """Share of training examples in capitals, source and target."""
    title: float | None = option(None, between(0, 1))
    """Share of training examples whose words begin with capitals, source and target."""
    no_stop: float | None = option(None, between(0, 1))
    """Share of training examples without their final punctuation mark, source and target."""
    typos: float | None = option(None, between(0, 1))
    """Share of training examples with typing errors in the source: at most one of each kind in a sentence."""
    unicode: float | None = option(None, between(0, 1))
    """Share of training examples with other forms of the same characters in the source: decomposed accents, curly or
    straight quotes, full-width letters in East Asian text."""
    emoji: float | None = option(None, between(0, 1))
    """Share of training examples with an emoji at the same end of source and target."""
    lines: float | None = option(None, between(0, 1))
    """Share of training examples replaced by random characters, which the student learns to copy."""
    variants: int = option(4, between(1, 64))
    """Number of noisy forms in which each training example is encoded; every epoch draws one of them."""

    @property
    def rates(self) -> dict[NoiseKind, float]:
        """Share of the training examples by kind, of those above 0."""
        kinds: tuple[NoiseKind, ...] = (*CHANGES_TARGETS, "typos", "unicode")
        preset = PRESETS.get(self.preset or "", {})
        given = {kind: getattr(self, kind) for kind in kinds}
        rates = {kind: preset.get(kind, 0.0) if rate is None else rate for kind, rate in given.items()}
        return {kind: rate for kind, rate in rates.items() if rate}

    @property
    def is_on(self) -> bool:
        """Whether the sources of the student differ from those of the data."""
        return bool(self.subword_sampling or self.rates)

    @property
    def changes_targets(self) -> bool:
        """Whether some targets are no longer those of the data."""
        return any(kind in self.rates for kind in CHANGES_TARGETS)
