"""Divergences of the student's output distribution from the teacher's, each with its gradient in closed form.

p is the teacher's distribution, q the student's, both [n, outcomes] and given by their logarithms. A function returns
the divergence of each position, [n], and its gradient for the logits of q, [n, outcomes]. With a gradient g for q
itself that is q (g - sum(q g)). The outcomes are the vocabulary, or some tokens and all others as one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seq2seq_distill.losses.logits import Term, at_least_fp32
from seq2seq_distill.utils.constants import IGNORE_INDEX

ValueAndGradient = tuple[Tensor, Tensor]
"""Divergence of each position, and gradient for the student's logits."""


def forward_kl(log_q: Tensor, log_p: Tensor) -> ValueAndGradient:
    """KL(p || q)."""
    p = log_p.exp()
    return (p * (log_p - log_q)).sum(-1), log_q.exp() - p


def reverse_kl(log_q: Tensor, log_p: Tensor) -> ValueAndGradient:
    """KL(q || p)."""
    q, ratio = log_q.exp(), log_q - log_p
    loss = (q * ratio).sum(-1)
    return loss, q * (ratio - loss[:, None])


def jsd(log_q: Tensor, log_p: Tensor, beta: float) -> ValueAndGradient:
    """beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, 0 < beta < 1.

    The generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649, section 2). Divided by beta it tends to
    KL(p || q) as beta falls to 0; divided by 1 - beta, to KL(q || p) as beta rises to 1.
    """
    q, log_m = log_q.exp(), _log_mixture(log_p, log_q, beta)
    ratio = log_q - log_m
    of_student = (q * ratio).sum(-1)
    loss = beta * (log_p.exp() * (log_p - log_m)).sum(-1) + (1 - beta) * of_student
    return loss, (1 - beta) * q * (ratio - of_student[:, None])


def total_variation(log_q: Tensor, log_p: Tensor) -> ValueAndGradient:
    """Half the sum of |p - q|; where p = q, the gradient of |p - q| is taken to be 0."""
    q = log_q.exp()
    difference = q - log_p.exp()
    half_sign = difference.sign() / 2
    return difference.abs().sum(-1) / 2, q * (half_sign - (q * half_sign).sum(-1, keepdim=True))


def skewed_forward_kl(log_q: Tensor, log_p: Tensor, skew: float) -> ValueAndGradient:
    """KL(p || m) with m = skew p + (1 - skew) q, 0 <= skew < 1 (DistiLLM, arXiv 2402.03898, section 3.1)."""
    p, log_m = log_p.exp(), _log_mixture(log_p, log_q, skew)
    weighted = (skew - 1) * p * (log_q - log_m).exp()  # q g
    return (p * (log_p - log_m)).sum(-1), weighted - log_q.exp() * weighted.sum(-1, keepdim=True)


def skewed_reverse_kl(log_q: Tensor, log_p: Tensor, skew: float) -> ValueAndGradient:
    """KL(q || m) with m = (1 - skew) p + skew q, 0 <= skew < 1 (DistiLLM, arXiv 2402.03898, section 3.1)."""
    q, log_m = log_q.exp(), _log_mixture(log_q, log_p, skew)
    ratio = log_q - log_m
    slope = ratio if skew == 0 else ratio - (ratio + math.log(skew)).exp()
    return (q * ratio).sum(-1), q * (slope - (q * slope).sum(-1, keepdim=True))


def mse(logits_q: Tensor, logits_p: Tensor) -> ValueAndGradient:
    """Mean over the vocabulary of (s - t)^2, of logits as they are."""
    difference = logits_q - logits_p
    return difference.square().mean(-1), difference * (2 / difference.shape[-1])


def _log_mixture(log_a: Tensor, log_b: Tensor, share: float) -> Tensor:
    """log(share a + (1 - share) b)"""
    return log_b if share == 0 else torch.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))


class DivergenceSpec(NamedTuple):
    """A divergence and how to compute it."""

    function: Callable[..., ValueAndGradient]
    power: int
    """Of the temperature, by which the divergence is multiplied: what keeps the scale of the gradient."""
    parameter: str | None = None
    """Name of its further argument."""
    of_logits: bool = False
    """Whether it compares the logits themselves: no distributions, no temperature."""


# Near p = q a smooth divergence falls with the square of the temperature, and the total variation with the temperature.
DIVERGENCES: Mapping[str, DivergenceSpec] = {
    "forward_kl": DivergenceSpec(forward_kl, 2),
    "reverse_kl": DivergenceSpec(reverse_kl, 2),
    "jsd": DivergenceSpec(jsd, 2, "beta"),
    "total_variation": DivergenceSpec(total_variation, 1),
    "skewed_forward_kl": DivergenceSpec(skewed_forward_kl, 2, "skew"),
    "skewed_reverse_kl": DivergenceSpec(skewed_reverse_kl, 2, "skew"),
    "mse": DivergenceSpec(mse, 0, of_logits=True),
}


@dataclass(frozen=True)
class Divergences:
    """Which divergences `ce_loss` is the weighted sum of."""

    weights: Mapping[str, float] = field(default_factory=lambda: {"forward_kl": 1.0})
    """By name."""
    beta: float = 0.5
    """Of `jsd`."""
    skew: float = 0.1
    """Of the skewed ones."""

    def compare(self, name: str, own: Tensor, other: Tensor) -> ValueAndGradient:
        """One of them, unweighted, of log-probabilities (`mse`: of logits) of student and teacher, [n, outcomes]."""
        row = DIVERGENCES[name]
        return row.function(own, other, *([] if row.parameter is None else [getattr(self, row.parameter)]))


def divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    name: str = "forward_kl",
    temperature: float = 1.0,
    *,
    beta: float = 0.5,
    skew: float = 0.1,
) -> Term:
    """A divergence of `DIVERGENCES` between softmax(s / T) and softmax(t / T), summed over positions with a label.

    Multiplied by T^2, the total variation by T, so that the gradient's scale does not depend on T; `mse` compares
    logits and knows no T. Zero for equal models. There is no second derivative.

    Args:
        student_logits: [..., V], any float type; computed in fp32 or wider.
        teacher_logits: [..., V]; takes no gradient.
        labels: [...], -100 where a position does not count.
        name: of the divergence.
        temperature: T > 0.
        beta: of `jsd`, above 0 and below 1.
        skew: of the skewed divergences, 0 to below 1.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import divergence
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> term = divergence(student, teacher, torch.tensor([1]), "total_variation")
        >>> round(float(term.sum), 3), int(term.count)
        (0.381, 1)
    """
    labelled = labels != IGNORE_INDEX
    own, other = (at_least_fp32(logits[labelled]) for logits in (student_logits, teacher_logits.detach()))
    row = DIVERGENCES[name]
    if not row.of_logits:
        own, other = (F.log_softmax(logits / temperature, -1) for logits in (own, other))
    total = _Summed.apply(own, other, Divergences({name: 1.0}, beta, skew), name)
    return Term(total * temperature**row.power, labelled.sum())


class _Summed(torch.autograd.Function):
    # The gradient for log-probabilities, from the one for logits: log_softmax's own backward leaves it as it is.
    @staticmethod
    def forward(ctx: Any, own: Tensor, other: Tensor, divergences: Divergences, name: str) -> Tensor:
        losses, gradient = divergences.compare(name, own, other)
        ctx.save_for_backward(gradient)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None
