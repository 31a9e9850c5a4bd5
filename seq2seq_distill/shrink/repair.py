"""Which inputs of a linear map to keep, and how the map does best without the others.

Shapes: a map [O, F] reads F inputs in F / g units of g inputs each, of which K are kept (KI = K * g inputs).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from seq2seq_distill.shrink.calibration import Moments

DAMPING: Final = 0.01
"""Added to the diagonal of the kept inputs' moments, as a fraction of its mean."""


def unit_scores(weight: Tensor, moments: Moments, size: int = 1) -> Tensor:
    """How much each unit contributes to a map's outputs: root mean square of an input times the norm of its column.

    Args:
        weight: [O, F]
        moments: of the inputs.
        size: inputs g of a unit, whose scores are added in squares.

    Returns:
        [F / g] in float64.
    """
    squares = moments.second.diagonal() * weight.double().square().sum(0)
    return squares.view(-1, size).sum(1).sqrt()


def largest(scores: Tensor, count: int) -> Tensor:
    """Ids [K] of the `count` largest scores, in increasing order; of equal scores the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def columns(units: Tensor, size: int) -> Tensor:
    """The inputs [KI] of the units [K], which have `size` inputs each."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


def least_squares(weight: Tensor, bias: Tensor | None, kept: Tensor, moments: Moments) -> tuple[Tensor, Tensor | None]:
    """The map of the kept inputs whose outputs are nearest to those of the map of all inputs.

    With M the covariance of the inputs, or the second moments about zero if there is no bias to take up the mean, K the
    kept inputs and R the others:

        W' = W_K + W_R M_RK (M_KK + d I)^-1,   b' = b + W mean - W' mean_K

    the least-squares solution, damped towards the kept columns W_K themselves, d = 1% of the mean of M_KK's diagonal.
    So the mean squared error on the calibration data is at most that of W_K alone, and without R nothing changes.

    Args:
        weight: [O, F]
        bias: [O], or None
        kept: ids [KI] of the kept inputs.
        moments: of the inputs.

    Returns:
        Weight [O, KI] and bias [O] in the dtype of the given ones.
    """
    whole = weight.double()
    rest = torch.ones(whole.shape[1], dtype=torch.bool, device=whole.device).index_fill_(0, kept, False)
    matrix = moments.second if bias is None else moments.covariance
    among_kept = matrix[kept][:, kept]
    correction = _solve(among_kept, matrix[kept][:, rest] @ whole[:, rest].T).T
    repaired = whole[:, kept] + correction
    if bias is None:
        return repaired.to(weight.dtype), None
    shift = whole @ moments.mean - repaired @ moments.mean[kept]
    return repaired.to(weight.dtype), (bias.double() + shift).to(bias.dtype)


def corrected(weight: Tensor, bias: Tensor, moments: Moments, outputs: slice) -> tuple[Tensor, Tensor]:
    """The linear map whose outputs are nearest to given targets, damped towards the map itself.

    Args:
        weight: [O, I]
        bias: [O]
        moments: of vectors [I + ...] of an input and, at `outputs`, what the map's output lacks to its target.
        outputs: of length O.

    Returns:
        Weight [O, I] and bias [O]. The mean squared distance from the targets is at most that of the given map.
    """
    size = weight.shape[1]
    correction = _solve(moments.covariance[:size, :size], moments.covariance[:size, outputs]).T
    shift = moments.mean[outputs] - correction @ moments.mean[:size]
    return (weight.double() + correction).to(weight.dtype), (bias.double() + shift).to(bias.dtype)


def corrected_norm(weight: Tensor, bias: Tensor, moments: Moments, outputs: slice) -> tuple[Tensor, Tensor]:
    """As `corrected`, for the weight [F] and the bias [F] of a norm, whose outputs read one input each."""
    size = len(weight)
    variance = moments.covariance.diagonal()[:size]
    damping = DAMPING * variance.mean()
    correction = moments.covariance[:size, outputs].diagonal() / (variance + damping)
    shift = moments.mean[outputs] - correction * moments.mean[:size]
    return (weight.double() + correction).to(weight.dtype), (bias.double() + shift).to(bias.dtype)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """(M + d I)^-1 R, with d = 1% of the mean of M's diagonal."""
    damping = DAMPING * matrix.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve(damped, right)
