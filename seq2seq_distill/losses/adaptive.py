"""Temperatures adapted to the outputs of the models at each token (Dynamic Temperature Distillation, arXiv 1911.07471).

A token that the student finds hard gets a lower temperature than the others of its target, so that the teacher speaks
more clearly. The mean is that of the target, which is never dealt out to two processes: so they are the same however
many there are.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.losses.chunks import Chunks, Head, head_inputs

SMALLEST = 1e-3
"""Added to the largest probability, of which CWSM takes the inverse; as TextBrewer has it."""


@torch.no_grad()
def adaptive_temperature(
    way: Literal["flsw", "cwsm"],
    student: tuple[Head, Tensor],
    teacher: tuple[Head, Tensor],
    labelled: Tensor,
    temperature: float,
    *,
    strength: float = 1.0,
    exponent: float = 1.0,
    bounds: tuple[float, float] = (1.0, 8.0),
) -> Tensor:
    """T + strength * (mean of w over the target - w), kept within bounds: a temperature for each position, [N].

    w says how hard a token is: with `flsw`, (1 - cos(s, t))^exponent of the logits of both models; with `cwsm`,
    1 / (max softmax(s) + 0.001).

    Args:
        way: flsw (focal loss style weights) or cwsm (confidence weighted by student max).
        student, teacher: head and hidden states [N, H] at the positions with a label; no gradient.
        labelled: [B, T], where a target has a label: N in all.
        temperature: T.
        strength, exponent: as above.
        bounds: lowest and highest temperature, above 0.
    """
    chunks = Chunks(head_inputs(*student), head_inputs(*teacher) if way == "flsw" else None)
    weights = chunks.empty(chunks.positions)
    for start, stop in chunks:
        logits, _ = chunks.logits(start, stop)
        for first, last in chunks.blocks(start, stop):
            block = [each[first:last] for each in logits]
            weights[start + first : start + last] = _hardness(block, exponent)
    by_target = weights.new_zeros(labelled.shape).masked_scatter_(labelled, weights)
    means = by_target.sum(1) / labelled.sum(1).clamp(min=1)
    differences = (means[:, None] - by_target)[labelled]
    return (temperature + strength * differences).clamp(*bounds)


def _hardness(logits: list[Tensor], exponent: float) -> Tensor:
    """Of two models' logits by their angle, of one's by its confidence; [n]"""
    student, *teacher = logits
    if teacher:
        return (1 - F.cosine_similarity(student, teacher[0], dim=-1)).clamp(min=0) ** exponent
    return 1 / ((student.amax(-1) - student.logsumexp(-1)).exp() + SMALLEST)
