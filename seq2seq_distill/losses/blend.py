"""The division: sums of terms become means over tokens, and means become one loss.

One other place divides by the same numbers: the output head makes its gradients in its forward pass, and multiplies
them by `StepTokens.head_scale` there.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seq2seq_distill.losses.chunk_likelihood import CHUNK_LOSS
from seq2seq_distill.losses.fused import HEAD_TERMS, HeadLoss
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.utils.constants import IGNORE_INDEX


@dataclass(frozen=True)
class Losses:
    """The terms of a forward pass, before the division."""

    head: HeadLoss
    """Of the output head: weighed already, with the division in its scale."""
    others: dict[str, Term]
    """All other terms by name."""

    @property
    def terms(self) -> dict[str, Term]:
        """Sum and count of every term; those of the head take no gradient."""
        return {**self.head.terms, **self.others}


@dataclass(frozen=True)
class StepTokens:
    """What the losses of a micro-batch are divided by: the tokens and chunks of the whole optimiser step."""

    target: Tensor | int
    """Labels, over all micro-batches and processes."""
    source: Tensor | int
    """Source tokens, likewise."""
    parts: int = 1
    """Micro-batches of the step, over processes and accumulation. It undoes what Lightning (accumulation) and DDP (mean
    over processes) divide by afterwards, so the same rows give the same gradient however they are dealt out."""
    chunks: Tensor | int = 0
    """Chunks of targets with a likelihood, over all micro-batches and processes."""
    distill: Tensor | int | None = None
    """Labels of the rows whose targets the teacher knows, likewise; None if it knows all."""

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> "StepTokens":
        """Those of a batch that is a step by itself; a row of -1 counts nowhere."""
        source = batch["attention_mask"] * (batch["row"] >= 0)[:, None]
        chunks = len(batch["chunk_logprobs"]) if "chunk_logprobs" in batch else 0
        labelled = batch["labels"] != IGNORE_INDEX
        distill = (labelled * batch["distill_mask"][:, None]).sum() if "distill_mask" in batch else None
        return cls(labelled.sum(), source.sum(), chunks=chunks, distill=distill)

    @property
    def head_scale(self) -> Tensor | float:
        """Multiplies the output head's part of the loss, a sum over target tokens."""
        return self.parts / _at_least_one(self.target)

    @property
    def per_chunk(self) -> Tensor | float:
        """Target tokens for each chunk: times `head_scale`, it multiplies the head's sum over chunks."""
        return _at_least_one(self.target) / _at_least_one(self.chunks)

    @property
    def per_distilled(self) -> Tensor | float:
        """Target tokens for each that the teacher knows: times `head_scale`, it multiplies the head's `ce_loss`."""
        return 1.0 if self.distill is None else _at_least_one(self.target) / _at_least_one(self.distill)

    def counts(
        self, terms: Iterable[str], source_terms: Container[str], teacher_terms: Container[str] = ()
    ) -> dict[str, Tensor | int]:
        """The number of tokens, or of chunks, that divides each term.

        Args:
            terms: by name.
            source_terms: those over source tokens.
            teacher_terms: those over target tokens that ask the teacher, which does not know every target.
        """
        known = self.target if self.distill is None else self.distill
        counts = {
            name: self.source if name in source_terms else known if name in teacher_terms else self.target
            for name in terms
        }
        return counts | ({CHUNK_LOSS: self.chunks} if CHUNK_LOSS in counts else {})


def _at_least_one(count: Tensor | int) -> Tensor | int:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(1, count)


@dataclass(frozen=True)
class LossReport:
    """What a step logs: the loss to differentiate, and each term by its name, a mean over tokens."""

    loss: Tensor
    parts: dict[str, Tensor]
    terms: Mapping[str, Term] = field(default_factory=dict)
    """Sums and counts of the batch, before the division; those of the output head take no gradient."""

    def named(self, prefix: str = "") -> dict[str, Tensor]:
        """`{"loss": ..., "ce_loss": ..., ...}`, detached, each name prefixed with `prefix`."""
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

    Examples:
        >>> import torch
        >>> from seq2seq_distill import Term, blend
        >>> four = torch.tensor(4)
        >>> terms = {"ce_loss": Term(torch.tensor(6.0), four), "mlm_loss": Term(torch.tensor(8.0), four)}
        >>> report = blend(terms, {"ce_loss": 0.8, "mlm_loss": 0.2})
        >>> round(float(report.loss), 3), float(report.parts["ce_loss"])
        (1.6, 1.5)
    """
    parts = {}
    for name, term in terms.items():
        count = term.count if counts is None else counts[name]
        divisor = torch.as_tensor(count, device=term.sum.device, dtype=term.sum.dtype).clamp(min=1)
        parts[name] = term.sum * (scale / divisor)
    ready = () if head is None else HEAD_TERMS
    weighted = [weights[name] * part for name, part in parts.items() if name in weights and name not in ready]
    return LossReport(torch.stack(weighted if head is None else [head, *weighted]).sum(), parts, dict(terms))


def add(a: Mapping[str, Term], b: Mapping[str, Term]) -> dict[str, Term]:
    """The terms of two batches added up; `a` may be empty."""
    if not a:
        return dict(b)
    return {name: Term(a[name].sum + b[name].sum, a[name].count + b[name].count) for name in b}
