"""The output head and its losses in one: logits of a chunk of positions exist, those of a batch never do.

Gradients are made in the forward pass, chunk by chunk, while the chunk's logits are there (as in Liger Kernel, Hsu et
al. 2024, arXiv 2410.10989).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seq2seq_distill.losses.chunk_likelihood import CHUNK_LOSS, ChunkTargets, cuts
from seq2seq_distill.losses.chunked_divergences import ChunkedDivergences
from seq2seq_distill.losses.chunked_kl import ChunkedKl
from seq2seq_distill.losses.chunks import (
    Chunks,
    Ensemble,
    EnsembleInputs,
    Head,
    HeadInputs,
    HeadLossOptions,
    head_inputs,
)
from seq2seq_distill.losses.divergences import Divergences
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.losses.sparse import SparseTeacher

HEAD_TERMS = ("ce_loss", "mlm_loss", "teacher_entropy", CHUNK_LOSS)
"""What the output head can report, besides the divergences that `ce_loss` is made of."""
FORWARD_KL = Divergences()
Kernel = type[ChunkedKl] | type[ChunkedDivergences]


class HeadLoss(NamedTuple):
    """Losses of the output head."""

    loss: Tensor
    """scale * (sum over terms of weight * sum): a scalar, the one part to differentiate."""
    terms: dict[str, Term]
    """`mlm_loss`; with a teacher `ce_loss`; on demand, of a whole one, `teacher_entropy`; where `ce_loss` is made of
    several divergences, each by its name; with chunks `chunk_loss`: sums and counts, without gradient."""


def head_loss(
    student: Head,
    hidden: Tensor,
    labels: Tensor,
    weights: Mapping[str, float],
    teacher: tuple[Head, Tensor] | Ensemble | SparseTeacher | None = None,
    *,
    divergences: Divergences = FORWARD_KL,
    temperature: Tensor | float = 1.0,
    label_smoothing: float = 0.0,
    scale: Tensor | float = 1.0,
    with_entropy: bool = False,
    chunks: ChunkTargets | None = None,
    tokens_per_chunk: Tensor | float = 1.0,
) -> HeadLoss:
    """`cross_entropy`, `divergence`, `chunk_likelihood` and the teacher's entropy, directly from hidden states.

    Gradients of hidden states, head weight and head bias are made at once, for those that need one; the backward
    pass multiplies them by the upstream gradient. There is no second derivative. Matrix products run in the dtype of
    the head (in that of autocast, where it is on), everything else in fp32 or wider.

    Args:
        student: the head to train; its weight is a whole tensor, no shard.
        hidden: [N, H_s], the student's last hidden states at the positions with a label.
        labels: [N], none of them -100.
        weights: weight of `ce_loss`, `mlm_loss` and `chunk_loss`, not below 0; a term without one is only reported.
        teacher: its head, of the same vocabulary, and its hidden states [N, H_t]; neither takes a gradient. Or several
            as one. Or its distributions by some of their tokens.
        divergences: what `ce_loss` is made of.
        temperature: T > 0 of `ce_loss`; with a whole teacher one for each position is possible, [N].
        label_smoothing: of `mlm_loss`, 0 to below 1.
        scale: multiplies `loss`, not the terms. With 1 / count here the upstream gradient is 1, which saves the
            backward pass a walk over the gradients on CPU.
        with_entropy: report the teacher's entropy too, where its whole distribution is there.
        chunks: chunks of text with the likelihoods that another teacher gives them.
        tokens_per_chunk: multiplies `chunk_loss` in `loss`, so that a scale of 1 / tokens makes it a mean over chunks.
    """
    if teacher is None:
        temperature, divergences = 1.0, FORWARD_KL
    way: Kernel = ChunkedDivergences
    divisor = 1.0
    plain = divergences.weights.keys() == {"forward_kl"} and not isinstance(temperature, Tensor)
    if plain and not isinstance(teacher, Ensemble) and chunks is None:
        way, divisor = ChunkedKl, float(temperature)
    own = head_inputs(student, hidden, divisor)
    sparse = teacher if isinstance(teacher, SparseTeacher) else None
    whole = None if teacher is None or sparse is not None else _whole(teacher, divisor, labels)
    settings = HeadLossOptions(
        labels=labels,
        teacher=whole,
        sparse=sparse,
        softcap=own.softcap,
        temperature=temperature,
        divergences=divergences,
        smoothing=label_smoothing,
        ce=0.0 if teacher is None else weights.get("ce_loss", 0.0),
        mlm=weights.get("mlm_loss", 0.0),
        chunk=weights.get(CHUNK_LOSS, 0.0) * tokens_per_chunk,
        scale=scale,
        with_entropy=with_entropy and whole is not None,
        differentiate=torch.is_grad_enabled(),
        chunk_targets=chunks,
    )
    reported = list(HEAD_TERMS[1:2] if teacher is None else HEAD_TERMS[: 2 + settings.with_entropy])
    if chunks is not None:
        reported.append(CHUNK_LOSS)
    if len(divergences.weights) > 1:
        reported += divergences.weights
    loss, *sums = _HeadLoss.apply(own.hidden, own.weight, own.bias, settings, way, reported)
    counts = {name: torch.full((), len(labels), device=labels.device) for name in reported}
    if chunks is not None:
        counts[CHUNK_LOSS] = torch.full((), len(chunks.log_probabilities), device=labels.device)
    return HeadLoss(loss, {name: Term(total, counts[name]) for name, total in zip(reported, sums, strict=True)})


def _whole(teacher: Any, divisor: float, labels: Tensor) -> HeadInputs | EnsembleInputs:
    if isinstance(teacher, Ensemble):
        members = tuple(head_inputs(head, hidden) for head, hidden in teacher.members)
        return EnsembleInputs(members, teacher.weights, teacher.combine, labels)
    head, own = teacher
    return head_inputs(head, own, divisor)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        settings: HeadLossOptions,
        way: Kernel,
        reported: list[str],
    ) -> Any:
        inputs = (hidden, weight, bias)
        student = HeadInputs(*inputs, settings.softcap)
        targets = settings.chunk_targets
        chunks = Chunks(student, settings.teacher, None if targets is None else cuts(targets.numbers))
        walk = way(chunks, settings)
        wanted = [settings.differentiate and needed for needed in ctx.needs_input_grad[:3]]
        learns = any(wanted) and bool(settings.ce or settings.mlm or targets is not None)
        gradients = chunks.empty_gradients(wanted, zero=not learns)
        for start, stop in chunks:
            logits, factor = walk.gradient(start, stop, learns)
            if learns:
                chunks.products(start, stop, logits, factor * settings.scale, gradients)
        ctx.save_for_backward(
            *(g if g is None or x is None else g.to(x.dtype) for g, x in zip(gradients, inputs, strict=True))
        )
        losses = walk.losses()
        sums = [losses[name] for name in reported]
        ctx.mark_non_differentiable(*sums)
        loss = settings.ce * losses["ce_loss"] + settings.mlm * losses["mlm_loss"]
        if targets is not None:
            loss = loss + settings.chunk * losses[CHUNK_LOSS]
        return loss * settings.scale, *sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> Any:
        gradients = ctx.saved_tensors
        if upstream.device.type != "cpu" or upstream.item() != 1.0:  # to look would stall another device
            gradients = [None if g is None else g * upstream.to(g.dtype) for g in gradients]
        return *gradients, None, None, None
