"""From the cost of few layouts to that of all: what a layer adds depends on its widths, what a token adds does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.commands.plan.layouts import Axes, Cost, Layout

Figures = NDArray[np.float64]
"""Time in units of the teacher's, bytes, parameters."""


@dataclass(frozen=True)
class Samples:
    """The layouts that are measured for a prediction: every step of every dimension, on shallow models.

    On the smallest depths, what a step saves is a large part of the time, so it is not lost in the noise of the rest.
    """

    axes: Axes

    @property
    def smallest(self) -> Layout:
        """The smallest depths, with the largest step of everything else."""
        axes = self.axes
        return Layout(axes.encoder[-1], axes.decoder[-1], *axes.ffn[0], axes.heads[0], axes.vocabulary[0])

    def widths(self) -> list[Layout]:
        """The smallest depths with each width of feed-forward blocks, and then with each number of heads."""
        ffn = [replace(self.smallest, encoder_ffn_dim=step[0], decoder_ffn_dim=step[1]) for step in self.axes.ffn]
        return ffn + [replace(self.smallest, num_heads=heads) for heads in self.axes.heads[1:]]

    def corners(self, shallow: Layout) -> list[Layout]:
        """A layout of the smallest depths, and with the deepest encoder and the deepest decoder alone."""
        deeper = (
            replace(shallow, encoder_layers=self.axes.encoder[0]),
            replace(shallow, decoder_layers=self.axes.decoder[0]),
        )
        return list(dict.fromkeys([shallow, *deeper]))

    def groups(self) -> list[list[Layout]]:
        """All that are measured, in groups that are measured side by side."""
        tokens = [[replace(self.smallest, vocabulary=step)] for step in self.axes.vocabulary[1:]]
        return [*map(self.corners, self.widths()), *tokens]


class Predictor:
    """Predicts the cost of any combination of the steps of all dimensions.

    Time, bytes and parameters are taken as a sum of a constant, something for each encoder and for each decoder layer,
    which depends on the width of feed-forward blocks and on the number of heads, each by itself, and something for the
    vocabulary. Of bytes and parameters that is exact.

    Args:
        axes: the steps.
        teacher: what the teacher costs.
        measured: what the layouts of `Samples.groups` cost.
    """

    def __init__(self, axes: Axes, teacher: Cost, measured: Mapping[Layout, Cost]) -> None:
        self._samples, self._teacher = Samples(axes), teacher
        self._known = {
            layout: np.array([1 / cost.speedup, cost.bytes, cost.parameters]) for layout, cost in measured.items()
        }

    def cost(self, layout: Layout) -> Cost:
        """What a layout is expected to cost."""
        smallest = self._samples.smallest
        same_depth = replace(smallest, encoder_layers=layout.encoder_layers, decoder_layers=layout.decoder_layers)
        ffn = replace(same_depth, encoder_ffn_dim=layout.encoder_ffn_dim, decoder_ffn_dim=layout.decoder_ffn_dim)
        heads = replace(same_depth, num_heads=layout.num_heads)
        tokens = self._known[replace(smallest, vocabulary=layout.vocabulary)] - self._known[smallest]
        found = self._at_depth(ffn) + self._at_depth(heads) - self._at_depth(same_depth) + tokens
        time = max(float(found[0]), 1e-9)
        return Cost(
            layout,
            parameters=round(float(found[2])),
            bytes=round(float(found[1])),
            latency_ms=self._teacher.latency_ms * time,
            speedup=1 / time,
        )

    def _at_depth(self, layout: Layout) -> Figures:
        """The figures of a layout of which the widths are known at the smallest and at the largest depths."""
        smallest, axes = self._samples.smallest, self._samples.axes
        shallow = replace(layout, encoder_layers=smallest.encoder_layers, decoder_layers=smallest.decoder_layers)
        found = self._known[shallow].copy()
        for name, steps in (("encoder_layers", axes.encoder), ("decoder_layers", axes.decoder)):
            if steps[0] > steps[-1]:
                deep = self._known[replace(shallow, **{name: steps[0]})]
                share = (getattr(layout, name) - steps[-1]) / (steps[0] - steps[-1])
                found += share * (deep - self._known[shallow])
        return found
