"""Losses on attention weights: each query's distribution over the keys, of every head.

Student and teacher have weights [B, heads, Q, K], of one attention module each; the teacher's take no gradient.
`queries` [B, Q] and `keys` [B, K] are true or 1 where a position counts. Heads are compared one by one, or, where the
numbers of heads differ, by their mean. All are means over heads and sums over keys, so that neither the number of heads
nor the length of a text changes the weight.
"""

import torch
from torch import Tensor

from seq2seq_distill.losses.logits import Term, at_least_fp32


def attention_mse(student: Tensor, teacher: Tensor, queries: Tensor, keys: Tensor) -> Term:
    """Squared distance of the two distributions, mean over heads, summed over queries: 0 to 2 for each.

    After TinyBERT (Jiao et al. 2019, arXiv 1909.10351, equation 7), which compares scores before the softmax.
    """
    student_weights, teacher_weights = _distributions(student, teacher, queries, keys)
    return Term((student_weights - teacher_weights).pow(2).sum(-1).mean(-1).sum(), queries.bool().sum())


def attention_ce(student: Tensor, teacher: Tensor, queries: Tensor, keys: Tensor) -> Term:
    """KL(teacher || student), mean over heads, summed over queries (MobileBERT, Sun et al. 2020, arXiv 2004.02984).

    The cross-entropy less the teacher's entropy: the same gradient, and zero for equal weights.
    """
    student_weights, teacher_weights = _distributions(student, teacher, queries, keys)
    least = torch.finfo(student_weights.dtype).tiny  # a weight may underflow to 0
    divergences = (
        torch.xlogy(teacher_weights, teacher_weights) - teacher_weights * student_weights.clamp(min=least).log()
    )
    return Term(divergences.sum(-1).mean(-1).sum(), queries.bool().sum())


def _distributions(student: Tensor, teacher: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Both [N, heads, K] at the N queries that count, zero at the keys that do not."""
    chosen, padding = queries.bool(), ~keys.bool()[:, None, None]
    student_weights, teacher_weights = (
        at_least_fp32(weights).masked_fill(padding, 0) for weights in (student, teacher.detach())
    )
    if student_weights.shape[1] != teacher_weights.shape[1]:
        student_weights, teacher_weights = student_weights.mean(1, keepdim=True), teacher_weights.mean(1, keepdim=True)
    return student_weights.transpose(1, 2)[chosen], teacher_weights.transpose(1, 2)[chosen]
