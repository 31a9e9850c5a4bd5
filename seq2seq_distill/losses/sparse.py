"""A teacher's distribution reduced to some of its tokens, and the student's divergence from it.

With the rest bucket nothing is renormalised: KL over the k tokens and the bucket is at most the KL over the vocabulary,
and equal to it where the bucket is empty or both models agree inside it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class SparseTeacher(NamedTuple):
    """Distributions at N positions, at the temperature of `ce_loss`: p of some tokens, r of all others together."""

    ids: Tensor
    """[N, k], int64, none twice in a row."""
    probabilities: Tensor
    """[N, k]; where tokens were drawn, each one's share of the draws."""
    rest: Tensor
    """[N], the mass of all other tokens; 0 where tokens were drawn."""
    negentropy: Tensor
    """[N], sum(p log p) + r log r; where tokens were drawn, sum(t log t) of the teacher's whole distribution."""

    def rows(self, start: int, stop: int) -> "SparseTeacher":
        return SparseTeacher(*(column[start:stop] for column in self))


def top_tokens(log_probabilities: Tensor, k: int) -> SparseTeacher:
    """The k most probable tokens of each position, [N, V] log-probabilities; the most probable comes first."""
    chosen = log_probabilities.topk(min(k, log_probabilities.shape[-1]))
    probabilities = chosen.values.exp()
    rest = log_probabilities.scatter(-1, chosen.indices, -torch.inf).exp().sum(-1)
    negentropy = torch.xlogy(probabilities, probabilities).sum(-1) + torch.xlogy(rest, rest)
    return SparseTeacher(chosen.indices, probabilities, rest, negentropy)


def drawn_tokens(log_probabilities: Tensor, draws: int, generator: torch.Generator) -> SparseTeacher:
    """A number of tokens at each position, drawn from [N, V] log-probabilities; the gradient is unbiased.

    Sparse Logit Sampling (arXiv 2503.16870) at a sampling temperature of 1. Slots without a token of their own hold
    the likeliest that were not drawn, with a share of 0. There are as many slots as draws, at most V.
    """
    probabilities = log_probabilities.exp()
    drawn = torch.multinomial(probabilities, draws, replacement=True, generator=generator)
    counts = torch.zeros_like(probabilities).scatter_add_(-1, drawn, torch.ones_like(drawn, dtype=probabilities.dtype))
    slots = min(draws, probabilities.shape[-1])
    ids = (counts + probabilities / 2).topk(slots).indices
    negentropy = (probabilities * log_probabilities.clamp(min=torch.finfo(probabilities.dtype).min)).sum(-1)
    return SparseTeacher(ids, counts.gather(-1, ids) / draws, torch.zeros_like(negentropy), negentropy)


class Cut(NamedTuple):
    """What was taken out of a block [n, V] of the student's exponentials."""

    chosen: Tensor
    """exp(s) of the teacher's tokens, [n, k]"""
    rest: Tensor
    """The sum of all others, [n]"""


def cut_out(exponentials: Tensor, teacher: SparseTeacher) -> Cut:
    """Set the teacher's tokens to zero, in place: so the sum of the others loses nothing to cancellation."""
    chosen = exponentials.gather(1, teacher.ids)
    exponentials.scatter_(1, teacher.ids, 0.0)
    return Cut(chosen, exponentials.sum(-1))


def gap(teacher: SparseTeacher, chosen: Tensor, cut: Cut, total: Tensor) -> Tensor:
    """[n]: sum(p log(p / q)) + r log(r / q_rest), less log(S).

    Args:
        teacher: at these positions.
        chosen: [n, k], the student's logits s of the teacher's tokens.
        cut: of exp(s).
        total: S, the sum of exp(s) over the vocabulary.
    """
    mass = teacher.probabilities.sum(-1) + teacher.rest
    inside = (teacher.probabilities * chosen).sum(-1)
    outside = torch.xlogy(teacher.rest, cut.rest.clamp(min=torch.finfo(cut.rest.dtype).tiny))
    return teacher.negentropy - inside - outside + (mass - 1) * total.log()


def mix_(exponentials: Tensor, teacher: SparseTeacher, cut: Cut, total: Tensor, ce: float, more: Tensor) -> Tensor:
    """Turn exp(s) without the teacher's tokens into the gradient of s, each row up to a factor, in place.

    That of the distance is ce * (q (p + r) - p) for a token of the teacher's, ce * q (p + r - r / q_rest) for another,
    with p + r the whole mass; `more` [n] times exp(s) is added.

    Returns:
        [n], by which each row has yet to be multiplied.
    """
    mass = teacher.probabilities.sum(-1) + teacher.rest
    factor = ce * mass / total + more
    outside = torch.where(teacher.rest > 0, teacher.rest / cut.rest.clamp(min=torch.finfo(cut.rest.dtype).tiny), 0.0)
    exponentials.mul_((1 - ce * outside / factor)[:, None])
    exponentials.scatter_(1, teacher.ids, cut.chosen - teacher.probabilities * (ce / factor)[:, None])
    return factor


def as_outcomes(teacher: SparseTeacher) -> Tensor:
    """Log-probabilities [n, k + 1] of the teacher's tokens and, last, of all others together; none below the log of
    the smallest normal number, which stands for 0."""
    masses = torch.cat([teacher.probabilities, teacher.rest[:, None]], -1)
    return masses.clamp(min=torch.finfo(masses.dtype).tiny).log()


def outcomes(log_q: Tensor, teacher: SparseTeacher) -> Tensor:
    """The same of the student, from its log-probabilities [n, V]."""
    others = log_q.scatter(1, teacher.ids, -torch.inf).logsumexp(-1, keepdim=True)
    floor = math.log(torch.finfo(log_q.dtype).tiny)
    return torch.cat([log_q.gather(1, teacher.ids), others], -1).clamp(min=floor)


def spread_(gradient: Tensor, log_q: Tensor, outcomes: Tensor, teacher: SparseTeacher) -> Tensor:
    """From the gradient of the logits of k + 1 outcomes to that of the vocabulary's, in place of log_q, [n, V].

    The others' common logit is the logarithm of their sum, so each has the share of it that it has in this sum.
    """
    shares = log_q.sub_(outcomes[:, -1:]).exp_().mul_(gradient[:, -1:])
    return shares.scatter_(1, teacher.ids, gradient[:, :-1])
