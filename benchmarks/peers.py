"""This package's losses and schedules against TRL's and TextBrewer's, on the same random tensors in float64.

    pip install --no-deps trl==1.16.0 textbrewer==0.2.1.post1 accelerate psutil    # for this comparison only
    python -m benchmarks.peers

Prints one JSON line per peer function: its definition in terms of this package's losses, and the largest relative
difference between both sides of that equation, in value and, where it exists, in gradient. docs/losses.md has the
table.
"""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from textbrewer import losses as textbrewer_losses
from textbrewer import schedulers as textbrewer_schedulers
from torch import Tensor
from trl.experimental.gkd import GKDTrainer

from seq2seq_distill.losses.adaptive import adaptive_temperature
from seq2seq_distill.losses.divergences import divergence
from seq2seq_distill.models.forward import OutputHead
from seq2seq_distill.modules.schedules import weight_factor
from seq2seq_distill.utils.constants import IGNORE_INDEX

T = 2.0
"""Temperature."""


class Case(NamedTuple):
    """Logits [B, T, V] of both models, and labels [B, T] with padding."""

    student: Tensor
    teacher: Tensor
    labels: Tensor

    @property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """The logits of positions with a label, [N, V], because TextBrewer's functions do not handle padding."""
        return self.student[self.labels != IGNORE_INDEX], self.teacher[self.labels != IGNORE_INDEX]

    def ours(self, name: str, temperature: float = T, **options: float) -> Tensor:
        """One of our divergences as a mean over tokens."""
        term = divergence(self.student, self.teacher, self.labels, name, temperature, **options)
        return term.sum / term.count

    def temperatures(self, way: str) -> Tensor:
        """Our temperatures for the first target, all of whose tokens have labels, with bounds never reached."""
        head = OutputHead(torch.eye(self.student.shape[-1], dtype=self.student.dtype), None)
        student, teacher = ((head, logits[0].detach()) for logits in (self.student, self.teacher))
        first = self.labels[:1] != IGNORE_INDEX
        return adaptive_temperature(way, student, teacher, first, T, strength=0.1, exponent=2.0, bounds=(1e-9, 1e9))  # type: ignore[arg-type]


class Row(NamedTuple):
    """A peer function and its definition in terms of ours."""

    theirs: str
    relation: str
    sides: Callable[[Case], tuple[Tensor, Tensor]]


def _jsd(case: Case, beta: float) -> Tensor:
    return GKDTrainer.generalized_jsd_loss(case.student, case.teacher, case.labels, beta, T)


ROWS = (
    Row("TRL generalized_jsd_loss, beta 0.3", "jsd / T^2", lambda c: (_jsd(c, 0.3), c.ours("jsd", beta=0.3) / T**2)),
    Row("TRL generalized_jsd_loss, beta 0", "forward_kl / T^2", lambda c: (_jsd(c, 0.0), c.ours("forward_kl") / T**2)),
    Row("TRL generalized_jsd_loss, beta 1", "reverse_kl / T^2", lambda c: (_jsd(c, 1.0), c.ours("reverse_kl") / T**2)),
    Row(
        "TextBrewer kd_mse_loss",
        "mse / T^2",
        lambda c: (textbrewer_losses.kd_mse_loss(*c.labelled, T), c.ours("mse") / T**2),
    ),
    Row(
        "TextBrewer kd_ce_loss",
        "forward_kl / T^2 + entropy of softmax(t / T)",
        lambda c: (
            textbrewer_losses.kd_ce_loss(*c.labelled, T),
            c.ours("forward_kl") / T**2 + _mean_entropy(c.teacher / T, c.labels),
        ),
    ),
    Row(
        "TextBrewer flsw_temperature_scheduler",
        "flsw, of one target, within bounds",
        lambda c: (_textbrewer_flsw(c.student[0], c.teacher[0], T), c.temperatures("flsw")),
    ),
    Row(
        "TextBrewer cwsm_temperature_scheduler",
        "cwsm, of one target, within bounds",
        lambda c: (_textbrewer_cwsm(c.student[0], c.teacher[0], T), c.temperatures("cwsm")),
    ),
    Row(
        "TextBrewer linear_growth_weight_scheduler",
        "linear_growth, times the weight",
        lambda c: _courses("linear_growth", textbrewer_schedulers.linear_growth_weight_scheduler),
    ),
    Row(
        "TextBrewer linear_decay_weight_scheduler",
        "linear_decay, times the weight",
        lambda c: _courses("linear_decay", textbrewer_schedulers.linear_decay_weight_scheduler),
    ),
)
_textbrewer_flsw: Callable[..., Tensor] = textbrewer_schedulers.flsw_temperature_scheduler_builder(0.1, 2.0, 0.0)
_textbrewer_cwsm: Callable[..., Tensor] = textbrewer_schedulers.cwsm_temperature_scheduler_builder(0.1)


def main() -> None:
    for line in lines():
        print(json.dumps(line))


def lines() -> Iterator[dict[str, object]]:
    """The benchmark's JSON lines."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(3, 8, 50, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(50, (3, 8), generator=generator)
    labels[1, 5:] = labels[2, 2:] = IGNORE_INDEX
    for row in ROWS:
        theirs, ours = row.sides(Case(student.requires_grad_(), teacher, labels))
        line = {"benchmark": "peers", "theirs": row.theirs, "ours": row.relation, "difference": _off(theirs, ours)}
        if theirs.requires_grad:
            line["gradient_difference"] = _off(*(torch.autograd.grad(each, student)[0] for each in (theirs, ours)))
        yield line


def _off(theirs: Tensor, ours: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float(f"{((theirs - ours).abs().max() / theirs.abs().max()).item():.1e}")


def _mean_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits[labels != IGNORE_INDEX].log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


def _courses(course: str, theirs: Callable[[float], float], steps: int = 11) -> tuple[Tensor, Tensor]:
    """Weight factors of all steps of a run."""
    ours = [weight_factor(course, step, steps, 0) for step in range(steps)]  # type: ignore[arg-type]
    return torch.tensor([theirs(step / (steps - 1)) for step in range(steps)]), torch.tensor(ours)


if __name__ == "__main__":
    main()
