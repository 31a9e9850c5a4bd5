"""The noisy forms of encoded rows, and which of them a row has in an epoch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int32]
STREAM = 1
"""Of a seed: sets the draws of forms apart from those of the order of rows."""


@dataclass(frozen=True, eq=False)
class Forms:
    """Noisy forms of the rows, V of each; an epoch has one of them.

    Args:
        source_lengths, target_lengths: [V, rows], in tokens.
        distilled: [V, rows], whether the target is that of the data, which the teacher knows.
    """

    source_lengths: Lengths
    target_lengths: Lengths
    distilled: NDArray[np.bool_]

    def draw(self, seed: int, epoch: int) -> Lengths:
        """The form of each row in an epoch, from 1 on, [rows]."""
        count, rows = self.source_lengths.shape
        return np.random.default_rng([seed, epoch, STREAM]).integers(1, count + 1, rows, dtype=np.int32)
