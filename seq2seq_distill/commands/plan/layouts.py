"""Which layouts a student can have, and which of those that were measured to choose: numbers alone."""

from collections.abc import Sequence
from dataclasses import dataclass

Layout = tuple[int, int]
"""Encoder and decoder layers."""
FEWEST_ENCODER_LAYERS = 4
"""Candidates have at least this part of the teacher's encoder: a quarter."""


@dataclass(frozen=True)
class Measured:
    """What a layout costs."""

    encoder_layers: int
    decoder_layers: int
    parameters: int
    bytes: int
    """Of the weights."""
    memory_bytes: int
    """Weights, and what decoding a batch needs besides at its peak."""
    latency_ms: float
    """Median time of a batch."""
    tokens_per_second: float
    speedup: float
    """How many times as fast as the teacher it generates a token."""

    @property
    def name(self) -> str:
        """As in `12-3`."""
        return f"{self.encoder_layers}-{self.decoder_layers}"


def candidates(
    encoder: int, decoder: int, encoders: Sequence[int] | None = None, decoders: Sequence[int] | None = None
) -> list[Layout]:
    """Layouts below the teacher's depths, the largest first: of these encoder and decoder depths, or by default:

    Decoders are halved down to one layer, encoders down to a quarter: a token is decoded once for each of the output,
    a source is encoded once, and a shallow encoder costs more quality (Kasai et al. 2021, arXiv 2006.10369).
    """
    encoders = encoders or [depth for depth in _halved(encoder) if depth * FEWEST_ENCODER_LAYERS >= encoder]
    decoders = decoders or _halved(decoder)
    return [(e, d) for e in sorted(encoders)[::-1] for d in sorted(decoders)[::-1] if (e, d) != (encoder, decoder)]


def frontier(layouts: Sequence[Measured]) -> list[Measured]:
    """Those to which no other is preferable in both size and speed, the largest first."""
    return [
        own
        for own in sorted(layouts, key=lambda each: (-each.parameters, -each.speedup))
        if not any(
            other.parameters >= own.parameters
            and other.speedup >= own.speedup
            and (other.parameters, other.speedup) != (own.parameters, own.speedup)
            for other in layouts
        )
    ]


def choose(
    layouts: Sequence[Measured], speedup: float | None = None, max_latency_ms: float | None = None
) -> Measured | None:
    """Of those that are as fast as asked, the one that keeps the most encoder layers, then the most decoder layers."""
    fast = [
        each
        for each in layouts
        if each.speedup >= (speedup or 0) and (max_latency_ms is None or each.latency_ms <= max_latency_ms)
    ]
    return max(fast, key=lambda each: (each.encoder_layers, each.decoder_layers), default=None)


def _halved(depth: int) -> list[int]:
    depths = [depth]
    while depths[-1] > 1:
        depths.append(-(-depths[-1] // 2))
    return depths
