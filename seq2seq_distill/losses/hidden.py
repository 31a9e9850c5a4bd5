"""Losses on hidden states.

All but `hidden_mse` compare one student layer with one teacher layer (`fsp_gram`: two with two), of hidden states
[B, T, H]; the teacher's take no gradient. `mask` [B, T] is true or 1 where a position counts; padding stands on the
right. A loss of a whole sequence counts once for each of its positions, so that all are means over positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.losses.logits import Term, at_least_fp32


def hidden_mse(pairs: Sequence[tuple[Tensor, Tensor]], mask: Tensor, normalize: bool = False) -> Term:
    """Mean over pairs and width of (h_s - h_t)^2, summed over positions (log names `hid_loss_enc`, `hid_loss_dec`).

    Being a mean over pairs and width, its weight depends on neither depth nor width.

    Args:
        pairs: (student, teacher) layer outputs, each [B, T, H]; the teacher's takes no gradient. A layer that
            LayerDrop left out in this pass is not among them. None at all gives a sum of 0.
        mask: [B, T], true or 1 where a position counts.
        normalize: norm each position over its width (zero mean, unit variance, no affine part) before comparing.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import hidden_mse
        >>> student, teacher = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
        >>> term = hidden_mse([(student, teacher)], mask=torch.tensor([[1, 1, 1], [1, 0, 0]]))
        >>> float(term.sum), int(term.count)
        (4.0, 4)
    """
    chosen = mask.bool()
    count = chosen.sum()
    if not pairs:
        return Term(count.new_zeros((), dtype=at_least_fp32(mask.float()).dtype), count)
    errors = [_squared_error(student[chosen], teacher[chosen].detach(), normalize) for student, teacher in pairs]
    return Term(torch.stack(errors).mean(), count)


def cosine_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Term:
    """1 - cos(h_s, h_t), summed over positions: 0 where the directions agree, 2 where they are opposite."""
    student_states, teacher_states, count = _positions(student, teacher, mask)
    return Term((1 - F.cosine_similarity(student_states, teacher_states, dim=-1)).sum(), count)


def patient_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Term:
    """|h_s / |h_s| - h_t / |h_t||^2, summed over positions (PKD, Sun et al. 2019, arXiv 1908.09355, equation 7).

    The square of the distance of vectors of norm 1, so twice `cosine_distance`.
    """
    student_states, teacher_states, count = _positions(student, teacher, mask)
    return Term((F.normalize(student_states, dim=-1) - F.normalize(teacher_states, dim=-1)).pow(2).sum(), count)


def patient_distance_first(student: Tensor, teacher: Tensor, mask: Tensor) -> Term:
    """`patient_distance` of each sequence's first position, times the number of its positions."""
    student_states, teacher_states = (
        F.normalize(at_least_fp32(states[:, 0]), dim=-1) for states in (student, teacher.detach())
    )
    lengths = mask.bool().sum(1)
    return Term(((student_states - teacher_states).pow(2).sum(-1) * lengths).sum(), lengths.sum())


def nst_mmd(student: Tensor, teacher: Tensor, mask: Tensor) -> Term:
    """Squared maximum mean discrepancy of the units' activations, times the number of positions, summed over sequences.

    Each unit of the width gives one sample: its activations at a sequence's positions, as a vector of norm 1. With
    the kernel k(x, y) = (x . y)^2 the discrepancy is |G_s - G_t|^2, where G = 1/H * sum over units of x x^T, [T, T]
    (Huang and Wang 2017, arXiv 1707.01219, section 4). From 0 to 2 at any width and length; H_s and H_t may differ.
    """
    student_states, teacher_states = (_zeroed(states, mask) for states in (student, teacher.detach()))
    with _full_precision(student_states):
        distances = (_gram_of_positions(student_states) - _gram_of_positions(teacher_states)).pow(2).sum((1, 2))
    lengths = mask.bool().sum(1)
    return Term((distances * lengths).sum(), lengths.sum())


def fsp_gram(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor) -> Term:
    """Mean squared difference of flow matrices, times the number of positions, summed over sequences.

    The flow between two layers is G = 1/n * sum over a sequence's n positions of h_1 h_2^T, [H, H] (FSP, Yim et al.,
    CVPR 2017, section 3.2); the mean is over its H * H elements.

    Args:
        student: two layers' hidden states, each [B, T, H].
        teacher: likewise.
        mask: [B, T].
    """
    lengths = mask.bool().sum(1)
    flows = []
    for first, second in (student, tuple(states.detach() for states in teacher)):
        first, second = _zeroed(first, mask), _zeroed(second, mask)
        with _full_precision(first):
            flows.append(first.mT @ second / lengths.clamp(min=1)[:, None, None])
    distances = (flows[0] - flows[1]).pow(2).mean((1, 2))
    return Term((distances * lengths).sum(), lengths.sum())


def _positions(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States [N, H] of both at the positions that count, and N."""
    chosen = mask.bool()
    return at_least_fp32(student[chosen]), at_least_fp32(teacher[chosen].detach()), chosen.sum()


def _zeroed(states: Tensor, mask: Tensor) -> Tensor:
    """States [B, T, H] that are zero where a position does not count."""
    return at_least_fp32(states).masked_fill(~mask.bool()[..., None], 0)


def _gram_of_positions(states: Tensor) -> Tensor:
    """[B, T, T] of states [B, T, H], each unit's activations a vector of norm 1."""
    units = F.normalize(states, dim=1)
    return units @ units.mT / states.shape[-1]


def _full_precision(states: Tensor) -> torch.autocast:
    """Keeps autocast from computing matrix products in fewer bits."""
    return torch.autocast(states.device.type, enabled=False)


def _squared_error(student: Tensor, teacher: Tensor, normalize: bool) -> Tensor:
    width = student.shape[-1]
    student, teacher = at_least_fp32(student), at_least_fp32(teacher)
    if normalize:
        student, teacher = F.layer_norm(student, (width,)), F.layer_norm(teacher, (width,))
    return (student - teacher).pow(2).sum() / width
