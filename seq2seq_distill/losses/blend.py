"""The only division: sums of terms become means over tokens, and means become one loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seq2seq_distill.losses.fused import HEAD_TERMS, HeadLoss
from seq2seq_distill.losses.logits import Term


@dataclass(frozen=True)
class Losses:
    """What a forward pass gives, before the division."""

    head: HeadLoss
    """Of the output head: weighed already, with the division in its scale."""
    others: dict[str, Term]
    """All other terms by name."""

    @property
    def terms(self) -> dict[str, Term]:
        """Sum and count of every term; those of the head take no gradient."""
        return {**self.head.terms, **self.others}


@dataclass(frozen=True)
class LossReport:
    """What a step logs: the loss to differentiate, and each term by its name, a mean over tokens."""

    loss: Tensor
    parts: dict[str, Tensor]

    def named(self, prefix: str = "") -> dict[str, Tensor]:
        """`{"loss": ..., "ce_loss": ..., ...}`, detached, each name behind `prefix`."""
        return {prefix + name: value.detach() for name, value in {"loss": self.loss, **self.parts}.items()}


def blend(
    terms: Mapping[str, Term],
    weights: Mapping[str, float],
    counts: Mapping[str, Tensor | int] | None = None,
    scale: float = 1.0,
    head: Tensor | None = None,
) -> LossReport:
    """Weigh the terms and divide each once.

    Args:
        terms: sums and counts by name.
        weights: weight of each term in the loss; a term without one is only reported.
        counts: by term, the number of positions of the whole optimiser step, over all accumulated batches and
            processes; by default the terms' own.
        scale: undoes what Lightning (accumulation) and DDP (mean over processes) divide by afterwards:
            accumulated batches times processes. So the same rows give the same gradient however they are dealt out.
        head: the part of the loss that the output head has weighed and divided itself; what is differentiated in
            place of those terms that take no gradient.

    An empty batch (count 0) gives 0 and finite gradients.
    """
    parts = {}
    for name, term in terms.items():
        count = term.count if counts is None else counts[name]
        divisor = torch.as_tensor(count, device=term.sum.device, dtype=term.sum.dtype).clamp(min=1)
        parts[name] = term.sum * (scale / divisor)
    ready = () if head is None else HEAD_TERMS
    weighted = [weights[name] * part for name, part in parts.items() if name in weights and name not in ready]
    return LossReport(torch.stack(weighted if head is None else [head, *weighted]).sum(), parts)


def add(a: Mapping[str, Term], b: Mapping[str, Term]) -> dict[str, Term]:
    """Terms of two batches together; `a` may be empty."""
    if not a:
        return dict(b)
    return {name: Term(a[name].sum + b[name].sum, a[name].count + b[name].count) for name in b}
