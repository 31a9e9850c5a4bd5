"""Losses on output distributions. Each returns the sum over labelled positions and their number; `blend` divides."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.utils.constants import IGNORE_INDEX


class Term(NamedTuple):
    """A loss before the division: what the positions add up to, and how many there are.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import Term
        >>> term = Term(torch.tensor(6.0), torch.tensor(4))
        >>> float(term.sum / term.count)
        1.5
    """

    sum: Tensor
    """Scalar, fp32 or wider, differentiable."""
    count: Tensor  # type: ignore[assignment]  # a tuple's own count method is of no use here
    """Scalar, number of positions."""


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Term:
    """Cross-entropy with the labels, summed over positions that have one (log name `mlm_loss`).

    Args:
        logits: [..., V], any float type; computed in fp32 or wider.
        labels: [...], -100 where there is none.
        label_smoothing: as in `torch.nn.functional.cross_entropy`, 0 to below 1.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import cross_entropy
        >>> logits, labels = torch.zeros(2, 3, 8), torch.tensor([[1, 2, 3], [4, -100, -100]])
        >>> term = cross_entropy(logits, labels)  # log(8) at each of four positions
        >>> round(float(term.sum), 3), int(term.count)
        (8.318, 4)
    """
    total = F.cross_entropy(
        at_least_fp32(logits).flatten(0, -2),
        labels.flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return Term(total, (labels != IGNORE_INDEX).sum())


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Term:
    """T^2 KL(softmax(t / T) || softmax(s / T)), summed over positions with a label (log name `ce_loss`).

    T^2 keeps the gradient's scale independent of the temperature (Hinton et al. 2015, arXiv 1503.02531, section 2).
    Zero for equal models.

    Args:
        student_logits: [..., V].
        teacher_logits: [..., V]; takes no gradient.
        labels: [...], -100 where a position does not count. The first target token counts like any other.
        temperature: T > 0.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import kl_divergence
        >>> logits, labels = torch.randn(2, 3, 8), torch.tensor([[1, 2, 3], [4, -100, -100]])
        >>> term = kl_divergence(logits, logits, labels, temperature=2.0)
        >>> float(term.sum), int(term.count)
        (0.0, 4)
    """
    labelled = labels != IGNORE_INDEX
    student = F.log_softmax(at_least_fp32(student_logits[labelled]) / temperature, dim=-1)
    teacher = F.log_softmax(at_least_fp32(teacher_logits[labelled].detach()) / temperature, dim=-1)
    total = F.kl_div(student, teacher, reduction="sum", log_target=True) * temperature**2
    return Term(total, labelled.sum())


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, or as it is if wider: fp64 stays fp64, which `gradcheck` needs."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
