"""Losses on hidden states."""

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
    """
    chosen = mask.bool()
    count = chosen.sum()
    if not pairs:
        return Term(count.new_zeros((), dtype=at_least_fp32(mask.float()).dtype), count)
    errors = [_squared_error(student[chosen], teacher[chosen].detach(), normalize) for student, teacher in pairs]
    return Term(torch.stack(errors).mean(), count)


def _squared_error(student: Tensor, teacher: Tensor, normalize: bool) -> Tensor:
    width = student.shape[-1]
    student, teacher = at_least_fp32(student), at_least_fp32(teacher)
    if normalize:
        student, teacher = F.layer_norm(student, (width,)), F.layer_norm(teacher, (width,))
    return (student - teacher).pow(2).sum() / width
