"""The positions of a batch in chunks: logits of a chunk exist, those of a batch never do.

N is the number of positions, H the width, V the vocabulary.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, overload

import torch
from torch import Tensor

from seq2seq_distill.losses.chunk_likelihood import ChunkTargets
from seq2seq_distill.losses.divergences import Divergences
from seq2seq_distill.losses.ensemble import Combination, combined
from seq2seq_distill.losses.sparse import SparseTeacher


class Head(Protocol):
    """Output head: logits = cap(linear(hidden * scale, weight) + bias), cap(x) = softcap * tanh(x / softcap)."""

    @property
    def weight(self) -> Tensor:
        """[V, H]"""

    @property
    def bias(self) -> Tensor | None:
        """[1, V] or [V], or None"""

    @property
    def scale(self) -> float: ...

    @property
    def softcap(self) -> float | None: ...


class Ensemble(NamedTuple):
    """Several teachers as one; `losses.ensemble.combined` says how."""

    members: Sequence[tuple[Head, Tensor]]
    """Head and hidden states [N, H] of each, for the same vocabulary."""
    weights: Sequence[float]
    """Of each, above 0; divided by their sum."""
    combine: Combination


def chunk_rows(positions: int, vocabulary: int, device: str) -> tuple[int, int]:
    """How many positions have logits at a time, and how many of these are walked over at a time.

    A function of shapes and kind of device alone: other sizes give other last bits. On CPU, chunks have 128 positions,
    from where on larger products are hardly faster: more where the vocabulary is below 8,192, fewer where fp32 logits
    would exceed 128 MiB. A block's take 4 MiB, or one row: little enough for the cache, much enough that threads meet
    rarely. Elsewhere a chunk's take 512 MiB and are one block.
    """
    if device == "cpu":
        limit = max(1, min(2**25 // vocabulary, max(128, 2**20 // vocabulary)))
    else:
        limit = max(1, 2**27 // vocabulary)
    chunks = max(1, -(-positions // limit))
    chunk = max(1, -(-positions // chunks))  # all of nearly the same size
    return chunk, min(chunk, max(1, 2**20 // vocabulary)) if device == "cpu" else chunk


class HeadInputs(NamedTuple):
    """One model's head and hidden states, for logits divided by T."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    softcap: float | None


class EnsembleInputs(NamedTuple):
    """Several models' sides, whose logits become those of one."""

    members: tuple[HeadInputs, ...]
    weights: Sequence[float]
    combine: Combination
    labels: Tensor

    @property
    def weight(self) -> Tensor:
        """Of the first, for its shape, dtype and device."""
        return self.members[0].weight


def head_inputs(head: Head, hidden: Tensor, temperature: float = 1.0) -> HeadInputs:
    """Head and hidden states as they give logits divided by T."""
    factor, bias = head.scale / temperature, head.bias
    if bias is not None and bias.device.type == "cpu" and not (bias.requires_grad or bias.any()):
        bias = None  # that of most models is zero
    return HeadInputs(
        hidden if factor == 1.0 else hidden * factor,
        head.weight,
        None if bias is None else bias.flatten() / temperature,
        None if head.softcap is None else head.softcap / temperature,
    )


@dataclass(frozen=True)
class HeadLossOptions:
    """What is asked of the output head: all that takes no gradient."""

    labels: Tensor
    teacher: HeadInputs | EnsembleInputs | None
    sparse: SparseTeacher | None
    softcap: float | None
    """The student's, as its side has it."""
    temperature: Tensor | float
    """T of all positions, or of each, [N]."""
    divergences: Divergences
    smoothing: float
    ce: float
    mlm: float
    chunk: Tensor | float
    """Of the sum over chunks."""
    scale: Tensor | float
    with_entropy: bool
    differentiate: bool
    chunk_targets: ChunkTargets | None = None
    """Chunks of text, not of positions."""


class Chunks:
    """One or two models' logits, chunk by chunk. The buffers of a chunk serve the next.

    Args:
        student, teacher: the models.
        cuts: where the positions may be divided, ascending, N last; by default anywhere.
    """

    def __init__(
        self,
        student: HeadInputs,
        teacher: HeadInputs | EnsembleInputs | None = None,
        cuts: Sequence[int] | None = None,
    ) -> None:
        self.student = _in_product_dtype(student)
        self.others = [] if teacher is None else [_in_product_dtype(teacher)]
        sides: list[HeadInputs | EnsembleInputs] = [student, *([] if teacher is None else [teacher])]
        self.dtype = torch.float32
        for each in sides:
            self.dtype = torch.promote_types(self.dtype, each.weight.dtype)
        self.device = student.weight.device
        self.positions, self.vocabulary = len(student.hidden), len(student.weight)
        self._cuts = cuts
        between = [] if cuts is None else [last - first for first, last in zip([0, *cuts], cuts, strict=False)]
        self.least = max(1, *between) if between else 1
        """Positions that a block must be able to hold."""
        sizes = chunk_rows(self.positions, self.vocabulary, self.device.type)
        self.chunk, self.block = (max(self.least, size) for size in sizes)
        self._buffers = [self.empty(self.chunk, self.vocabulary) for _ in sides]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First and last position of each chunk."""
        return self._parts(0, self.positions, self.chunk)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """First and last row of each block of a chunk of these positions, counted from its start."""
        for first, last in self._parts(start, stop, self.block):
            yield first - start, last - start

    def _parts(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        while start < stop:
            end = min(start + size, stop)
            if self._cuts is not None:
                end = self._cuts[bisect_right(self._cuts, end) - 1]
            yield start, end
            start = end

    def logits(self, start: int, stop: int) -> tuple[list[Tensor], Tensor | None]:
        """Logits of each model, in its buffer, and the derivative of the first one's cap, where there is one."""
        logits = [buffer[: stop - start] for buffer in self._buffers]
        slope = _logits(self.student, start, stop, logits[0])
        for each, out in zip(self.others, logits[1:], strict=True):
            if isinstance(each, EnsembleInputs):
                _mix(each, start, stop, out)
            else:
                _logits(each, start, stop, out)
        return logits, slope

    def empty_gradients(self, wanted: Sequence[bool], zero: bool) -> list[Tensor | None]:
        """Where the gradients of the first model's hidden states, weight and bias go, those that are wanted.

        They are `zero` if no product is to fill them: none at all would be missed by DDP.
        """
        gradients = [
            self.empty(*x.shape) if want and x is not None else None
            for x, want in zip(self.student[:3], wanted, strict=True)
        ]
        for gradient in gradients:
            if gradient is not None and (zero or self.positions == 0):
                gradient.zero_()
        return gradients

    def products(
        self, start: int, stop: int, logits: Tensor, factor: Tensor, gradients: Sequence[Tensor | None]
    ) -> None:
        """From the gradient of a chunk's logits, each row times its factor, to those of hidden states, weight, bias."""
        student, (of_hidden, of_weight, of_bias) = self.student, gradients
        factor = factor[:, None]
        again = float(start > 0)
        if of_bias is not None:
            torch.addmv(of_bias, logits.t(), factor[:, 0], beta=again, out=of_bias)
        dtype = student.weight.dtype
        if dtype != self.dtype:
            logits, factor = logits.mul_(factor).to(dtype), torch.ones_like(factor)
        if of_hidden is not None:
            of_hidden[start:stop] = (logits @ student.weight) * factor
        if of_weight is not None:
            hidden = (student.hidden[start:stop] * factor).to(dtype)
            if dtype == self.dtype:
                torch.addmm(of_weight, logits.t(), hidden, beta=again, out=of_weight)
            else:  # products in the lower precision, their sum over chunks in the higher
                product = logits.t() @ hidden
                of_weight = of_weight.add_(product) if again else of_weight.copy_(product)

    def empty(self, *shape: int) -> Tensor:
        """A buffer in the precision of the losses."""
        return torch.empty(shape, dtype=self.dtype, device=self.device)


@overload
def _in_product_dtype(side: HeadInputs) -> HeadInputs: ...
@overload
def _in_product_dtype(side: EnsembleInputs) -> EnsembleInputs: ...
def _in_product_dtype(side: HeadInputs | EnsembleInputs) -> HeadInputs | EnsembleInputs:
    if isinstance(side, EnsembleInputs):
        return side._replace(members=tuple(map(_in_product_dtype, side.members)))
    device, dtype = side.weight.device.type, side.weight.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return side._replace(hidden=side.hidden.to(dtype), weight=side.weight.to(dtype))


def _mix(mixed: EnsembleInputs, start: int, stop: int, out: Tensor) -> None:
    logits = [torch.empty_like(out) for _ in mixed.members]
    for member, own in zip(mixed.members, logits, strict=True):
        _logits(member, start, stop, own)
    out.copy_(combined(logits, mixed.weights, mixed.combine, mixed.labels[start:stop]))


def _logits(side: HeadInputs, start: int, stop: int, out: Tensor) -> Tensor | None:
    """Fill `out` with logits; returns the derivative of the cap, where there is one."""
    hidden, weight = side.hidden[start:stop], side.weight.t()
    if weight.dtype != out.dtype:
        out.copy_(hidden @ weight)
        if side.bias is not None:
            out.add_(side.bias)
    elif side.bias is None:
        torch.mm(hidden, weight, out=out)
    else:
        torch.addmm(side.bias, hidden, weight, out=out)
    if side.softcap is None:
        return None
    out.div_(side.softcap).tanh_()
    slope = 1 - out.square()
    out.mul_(side.softcap)
    return slope
