"""What the losses of one optimiser step depend on besides the batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepOptions:
    """Computed once at the beginning of a step, and passed down."""

    weights: Mapping[str, float]
    """Weight of each term in the loss."""
    temperature: float = 1.0
    """Of `ce_loss`; where a schedule gives each token its own, the one that it starts from."""
    training: bool = True
    """In validations schedules do not apply, so that validations can be compared."""
    sampled: bool = False
    """Whether the student has sampled the targets itself."""
    scheduled: Mapping[str, float] = field(default_factory=dict)
    """Values that a schedule changes over the run, by the names under which they are logged."""
