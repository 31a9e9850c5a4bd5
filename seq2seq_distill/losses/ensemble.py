"""Several teachers with one vocabulary, combined into one."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Combination = Literal["probabilities", "logits", "best"]


def combined(logits: Sequence[Tensor], weights: Sequence[float], combine: Combination, labels: Tensor) -> Tensor:
    """Logits [n, V] of the teachers together; up to a number of each row, which no distribution knows.

    Args:
        logits: [n, V] of each.
        weights: of each, above 0; divided by their sum.
        combine: `probabilities` takes the weighted mean of the distributions, `logits` that of the logits (the
            geometric mean of the distributions), `best` at each position the teacher that gives the label the highest
            probability times its weight (the first of equals).
        labels: [n]
    """
    shares = torch.tensor(weights, dtype=logits[0].dtype, device=logits[0].device)
    shares = shares / shares.sum()
    if combine == "logits":
        return torch.stack([share * each for share, each in zip(shares, logits, strict=True)]).sum(0)
    log_p = torch.stack([F.log_softmax(each, -1) for each in logits]) + shares.log()[:, None, None]
    if combine == "probabilities":
        return log_p.logsumexp(0)
    rows = torch.arange(len(labels), device=labels.device)
    best = log_p[:, rows, labels].argmax(0)
    return log_p[best, rows]
