"""Likelihoods of chunks of text: a teacher's distributions for a student with other tokens (ALM, arXiv 2503.20083).

A chunk is a stretch of the target at whose ends tokens of teacher and student end. l_T and l_S are the
log-probabilities that both give to its text: the sums over its tokens. With u = l_T / t and v = l_S / t the loss of a
chunk is the divergence of two yes-or-no distributions,

    KL = e^u (u - v) + (1 - e^u) (log(1 - e^u) - log(1 - e^v)),

where t = 100 keeps the likelihoods of long chunks apart from 0. Zero where l_S = l_T. As t grows, t * KL tends to
(l_T - l_S) + l_T (log(-l_S) - log(-l_T)).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seq2seq_distill.losses.logits import Term, at_least_fp32

CHUNK_LOSS = "chunk_loss"
"""Name of the term."""
TEMPERATURE = 100.0
"""t; that of the paper's reference code."""
LARGEST = -1e-6
"""Log-probabilities are cut to at most this: log(1 - e^0) is infinite."""


class ChunkTargets(NamedTuple):
    """The chunks of N positions with a label, and what the teacher says of them."""

    numbers: Tensor
    """[N], int64: the chunk of each position, or -1. Chunks are numbered as they come, from 0, without gaps."""
    log_probabilities: Tensor
    """[C], l_T of each chunk."""


def chunk_likelihood(label_log_probabilities: Tensor, targets: ChunkTargets, temperature: float = TEMPERATURE) -> Term:
    """The divergence above, summed over chunks (log name `chunk_loss`); the count is the number of chunks.

    Args:
        label_log_probabilities: [N], the student's, of each label; any float type, computed in fp32 or wider.
        targets: chunks of these positions; take no gradient.
        temperature: t > 0.
    """
    numbers, teacher = targets
    own = at_least_fp32(label_log_probabilities)
    student = own.new_zeros(len(teacher) + 1).index_add(0, numbers % (len(teacher) + 1), own)[:-1]
    total = binary_divergence(student, teacher.to(own.dtype), temperature).sum()
    return Term(total, torch.full((), len(teacher), device=own.device))


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """KL of each chunk, [C], from l_S and l_T; differentiable for l_S, with a slope of 0 where that is cut."""
    u, v = (x.clamp(max=LARGEST) / temperature for x in (teacher.detach(), student))
    return u.exp() * (u - v) - torch.expm1(u) * (_log1mexp(u) - _log1mexp(v))


def slope(student: Tensor, teacher: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The derivative of `binary_divergence` for l_S, [C]: (e^v - e^u) / (1 - e^v) / t, without cancellation."""
    u, v = (x.clamp(max=LARGEST) / temperature for x in (teacher, student))
    difference = torch.sign(v - u) * torch.maximum(u, v).exp() * torch.expm1(-(u - v).abs())
    return (difference / torch.expm1(v) / temperature).masked_fill(student > LARGEST, 0)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x), x < 0, each half of its range by the form that loses nothing there (Maechler 2012)."""
    far = x < -math.log(2)
    near = torch.log(-torch.expm1(x.masked_fill(far, -1.0)))
    return torch.where(far, torch.log1p(-x.masked_fill(~far, -1.0).exp()), near)


class ChunkWalk:
    """The chunks of a walk over the positions that splits none of them.

    Args:
        targets: of all positions.
        dtype: of the losses.
    """

    def __init__(self, targets: ChunkTargets, dtype: torch.dtype) -> None:
        self._numbers = targets.numbers
        self._teacher = targets.log_probabilities.to(dtype)
        self.losses = torch.zeros_like(self._teacher)
        """[C], of the chunks so far."""
        self._ends = np.maximum.accumulate(targets.numbers.cpu().numpy() + 1)  # chunks up to each position

    def slopes(self, label_log_probabilities: Tensor, start: int) -> Tensor:
        """Fill the losses of the chunks at the positions from `start` on; the derivative for each position, [n].

        It is 0 outside chunks.
        """
        stop = start + len(label_log_probabilities)
        first, last = int(self._ends[start - 1]) if start else 0, int(self._ends[stop - 1])
        inside = self._numbers[start:stop]
        inside = torch.where(inside < 0, last - first, inside - first)
        student = label_log_probabilities.new_zeros(last - first + 1).index_add(0, inside, label_log_probabilities)
        teacher = self._teacher[first:last]
        self.losses[first:last] = binary_divergence(student[:-1], teacher)
        return torch.cat([slope(student[:-1], teacher), student.new_zeros(1)])[inside]


def cuts(numbers: Tensor) -> list[int]:
    """Where positions [N] can be divided without splitting a chunk: the number of positions before each such place,
    ascending; the last one is N."""
    each = numbers.cpu().numpy()
    between = (each[1:] != each[:-1]) | (each[1:] < 0)
    return [*(np.flatnonzero(between) + 1).tolist(), len(each)]
