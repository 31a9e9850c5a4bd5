"""The output head and its losses in one: logits of a chunk of positions exist, those of a batch never do.

Gradients are made in the forward pass, chunk by chunk, while the chunk's logits are there (as in Liger Kernel, Hsu et
al. 2024, arXiv 2410.10989). What is left besides matrix products are walks over [N, V], so everything is arranged for
few of them, in place, over blocks of rows that stay in the processor's cache. In what follows N is the number of
positions, H the width, V the vocabulary; s and t are the logits of student and teacher divided by the temperature T,
S and R the sums of exp(s) and exp(t) over the vocabulary.

- There are no log-probabilities: KL = sum(exp(t) (t - s)) / R + log(S / R), which is exactly 0 for equal models, and
  -log p[label] = log S - s[label] at T = 1.
- There are no probabilities: each row of the gradient is made up to a factor, which goes to the [N, H] side of the
  products.
- On CPU, exp is taken as it is. A chunk with a sum that is not safe is done again, less the maximum of each row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seq2seq_distill.losses.logits import Term
from seq2seq_distill.losses.sparse import Cut, SparseTeacher, cut_out, gap, mix_

HEAD_TERMS = ("ce_loss", "mlm_loss", "teacher_entropy")
"""What the output head can report."""
SAFE = (1e-18, 1e18)
"""Between these bounds a sum of exponentials, and a ratio of two, loses nothing to overflow or underflow in fp32."""


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


class HeadLoss(NamedTuple):
    """Losses of the output head."""

    loss: Tensor
    """scale * (sum over terms of weight * sum): a scalar, the one part to differentiate."""
    terms: dict[str, Term]
    """`mlm_loss`; with a teacher `ce_loss`; on demand, of a whole one, `teacher_entropy`: sums and counts, without
    gradient."""


def head_loss(
    student: Head,
    hidden: Tensor,
    labels: Tensor,
    weights: Mapping[str, float],
    teacher: tuple[Head, Tensor] | SparseTeacher | None = None,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    scale: Tensor | float = 1.0,
    with_entropy: bool = False,
) -> HeadLoss:
    """`cross_entropy`, `kl_divergence` and `entropy` of `losses.logits`, straight from hidden states.

    Gradients of hidden states, head weight and head bias are made at once, for those that need one; the backward
    pass multiplies them by the upstream gradient. There is no second derivative. Matrix products run in the dtype of
    the head (in that of autocast, where it is on), everything else in fp32 or wider.

    Args:
        student: the head to train; its weight is a whole tensor, no shard.
        hidden: [N, H_s], the student's last hidden states at the positions with a label.
        labels: [N], none of them -100.
        weights: weight of `ce_loss` and of `mlm_loss`, not below 0; a term without one is only reported.
        teacher: its head, of the same vocabulary, and its hidden states [N, H_t]; neither takes a gradient. Or its
            distributions by some of their tokens.
        temperature: T > 0 of `ce_loss`.
        label_smoothing: of `mlm_loss`, 0 to below 1.
        scale: multiplies `loss`, not the terms. With 1 / count here the upstream gradient is 1, which saves the
            backward pass a walk over the gradients on CPU.
        with_entropy: report the teacher's entropy too, where its whole distribution is there.
    """
    temperature = 1.0 if teacher is None else temperature
    own = _side(student, hidden, temperature)
    sparse = teacher if isinstance(teacher, SparseTeacher) else None
    whole = None if teacher is None or isinstance(teacher, SparseTeacher) else _side(*teacher, temperature)
    settings = _Settings(
        labels=labels,
        teacher=whole,
        sparse=sparse,
        softcap=own.softcap,
        temperature=temperature,
        smoothing=label_smoothing,
        ce=0.0 if teacher is None else weights.get("ce_loss", 0.0),
        mlm=weights.get("mlm_loss", 0.0),
        scale=scale,
        with_entropy=with_entropy and whole is not None,
        differentiate=torch.is_grad_enabled(),
    )
    loss, *sums = _HeadLoss.apply(own.hidden, own.weight, own.bias, settings)
    reported = HEAD_TERMS[1:2] if teacher is None else HEAD_TERMS[: 2 + settings.with_entropy]
    count = torch.full((), len(labels), device=labels.device)
    found = dict(zip(HEAD_TERMS, sums, strict=True))
    return HeadLoss(loss, {name: Term(found[name], count) for name in reported})


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


class _Side(NamedTuple):
    """One model's head and hidden states, for logits divided by T."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    softcap: float | None


def _side(head: Head, hidden: Tensor, temperature: float) -> _Side:
    factor, bias = head.scale / temperature, head.bias
    if bias is not None and bias.device.type == "cpu" and not (bias.requires_grad or bias.any()):
        bias = None  # that of most models is zero
    return _Side(
        hidden if factor == 1.0 else hidden * factor,
        head.weight,
        None if bias is None else bias.flatten() / temperature,
        None if head.softcap is None else head.softcap / temperature,
    )


@dataclass(frozen=True)
class _Settings:
    """All that takes no gradient."""

    labels: Tensor
    teacher: _Side | None
    sparse: SparseTeacher | None
    softcap: float | None
    """The student's, divided by T."""
    temperature: float
    smoothing: float
    ce: float
    mlm: float
    scale: Tensor | float
    with_entropy: bool
    differentiate: bool


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Any:
        inputs = (hidden, weight, bias)
        learns = settings.differentiate and bool(settings.ce or settings.mlm)
        walk = _Walk(_Side(*inputs, settings.softcap), settings)
        gradients = walk.run([learns and needed for needed in ctx.needs_input_grad[:3]])
        ctx.save_for_backward(
            *(g if g is None or x is None else g.to(x.dtype) for g, x in zip(gradients, inputs, strict=True))
        )
        ce, mlm, entropy = walk.losses()
        ctx.mark_non_differentiable(ce, mlm, entropy)
        return (settings.ce * ce + settings.mlm * mlm) * settings.scale, ce, mlm, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> Any:
        gradients = ctx.saved_tensors
        if upstream.device.type != "cpu" or upstream.item() != 1.0:  # to look would stall another device
            gradients = [None if g is None else g * upstream.to(g.dtype) for g in gradients]
        return *gradients, None


class _Sums(NamedTuple):
    """What is kept of each position, mostly sums over the vocabulary; each [N]."""

    student: Tensor
    """exp(s)"""
    sharp: Tensor
    """exp(T s)"""
    teacher: Tensor
    """exp(t)"""
    gap: Tensor
    """exp(t) (t - s)"""
    total: Tensor
    """s"""
    gold: Tensor
    """s of the label"""
    entropy: Tensor
    """of softmax(T t)"""
    factor: Tensor
    """by which the row of the gradient has yet to be multiplied"""

    def rows(self, start: int, stop: int) -> "_Sums":
        return _Sums(*(column[start:stop] for column in self))


class _Walk:
    """One walk through all positions. The buffers of a chunk serve the next."""

    def __init__(self, student: _Side, settings: _Settings) -> None:
        sides = [student] if settings.teacher is None else [student, settings.teacher]
        self.settings = settings
        self.dtype = torch.float32
        for side in sides:
            self.dtype = torch.promote_types(self.dtype, side.weight.dtype)
        self.device = student.weight.device
        self.sides = [_in_product_dtype(side) for side in sides]
        self.positions, self.vocabulary = len(student.hidden), len(student.weight)
        self.chunk, self.block = chunk_rows(self.positions, self.vocabulary, self.device.type)
        self.buffers = [self._empty(self.chunk, self.vocabulary) for _ in sides]
        self.scratch = self._empty(self.block, self.vocabulary)
        self.cut: Cut | None = None
        self.sums = _Sums(*self._empty(len(_Sums._fields), self.positions).fill_(1))
        self.one_softmax = settings.temperature == 1.0
        if self.one_softmax:
            self.sums = self.sums._replace(sharp=self.sums.student)

    def run(self, wanted: list[bool]) -> list[Tensor | None]:
        """Fill the sums; returns the gradients of hidden states, weight and bias that are wanted."""
        gradients = [
            self._empty(*x.shape) if want and x is not None else None
            for x, want in zip(self.sides[0][:3], wanted, strict=True)
        ]
        for gradient in gradients:
            if gradient is not None and self.positions == 0:
                gradient.zero_()
        on_cpu = self.device.type == "cpu"
        for start in range(0, self.positions, self.chunk):
            stop = min(start + self.chunk, self.positions)
            logits = self._walk_chunk(start, stop, any(wanted), shift=not on_cpu)
            if on_cpu and not self._is_safe(start, stop):
                logits = self._walk_chunk(start, stop, any(wanted), shift=True)
            if any(wanted):
                self._products(start, stop, logits, gradients)
        return gradients

    def losses(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over positions: KL divergence times T^2, cross-entropy, entropy of the teacher."""
        sums, t, smoothing = self.sums, self.settings.temperature, self.settings.smoothing
        ce = (sums.gap / sums.teacher + (sums.student / sums.teacher).log()) * t**2
        gold = sums.gold if smoothing == 0 else torch.lerp(sums.gold, sums.total / self.vocabulary, smoothing)
        return ce.sum(), (sums.sharp.log() - t * gold).sum(), sums.entropy.sum()

    def _walk_chunk(self, start: int, stop: int, learns: bool, shift: bool) -> Tensor:
        """Fill the sums of a chunk; returns the gradient of the student's logits, each row divided by its factor."""
        logits = [buffer[: stop - start] for buffer in self.buffers]
        slopes = [_logits(side, start, stop, out) for side, out in zip(self.sides, logits, strict=True)]
        if shift:
            for own in logits:
                own.sub_(own.amax(-1, keepdim=True))
        sums, labels = self.sums.rows(start, stop), self.settings.labels[start:stop]
        torch.gather(logits[0], 1, labels[:, None], out=sums.gold[:, None])
        for first in range(0, stop - start, self.block):
            last = min(first + self.block, stop - start)
            block, of_block = [own[first:last] for own in logits], sums.rows(first, last)
            sparse = None
            if self.settings.sparse is not None:
                sparse = self.settings.sparse.rows(start + first, start + last)
            self._exponentials(block, of_block, sparse)
            if learns:
                self._mix(block, of_block, sparse)
        if learns:
            mlm = self.settings.mlm * self.settings.temperature
            rows = torch.arange(len(labels), device=self.device)
            logits[0][rows, labels] -= mlm * (1 - self.settings.smoothing) / sums.factor
            if slopes[0] is not None:
                logits[0].mul_(slopes[0])
        return logits[0]

    def _exponentials(self, logits: list[Tensor], sums: _Sums, sparse: SparseTeacher | None) -> None:
        """Turn logits into their exponentials, in place, and sum; leave exp(T s) in the scratch buffer.

        A sparse teacher's tokens are cut out of them.
        """
        student, *teacher = logits
        scratch, t = self.scratch[: len(student)], self.settings.temperature
        if self.settings.smoothing:
            torch.sum(student, -1, out=sums.total)
        for other in teacher:
            if self.settings.with_entropy:
                torch.sum(torch.special.entr(torch.softmax(other * t, -1)), -1, out=sums.entropy)
            torch.sub(other, student, out=scratch)
            torch.sum(other.exp_(), -1, out=sums.teacher)
            torch.sum(scratch.mul_(other), -1, out=sums.gap)
        if not self.one_softmax and t != 2:
            torch.sum(torch.mul(student, t, out=scratch).exp_(), -1, out=sums.sharp)
        chosen = None if sparse is None else student.gather(1, sparse.ids)
        student.exp_()
        if not self.one_softmax and t == 2:  # a product costs less than another exp
            torch.sum(torch.mul(student, student, out=scratch), -1, out=sums.sharp)
        if sparse is None:
            torch.sum(student, -1, out=sums.student)
        else:
            assert chosen is not None
            self.cut = cut_out(student, sparse)
            torch.add(self.cut.chosen.sum(-1), self.cut.rest, out=sums.student)
            sums.gap.copy_(gap(sparse, chosen, self.cut, sums.student))

    def _mix(self, exponentials: list[Tensor], sums: _Sums, sparse: SparseTeacher | None) -> None:
        """The gradient of the logits but for the labels', in place of the student's exponentials."""
        student, *teacher = exponentials
        scratch, t = self.scratch[: len(student)], self.settings.temperature
        ce, mlm = self.settings.ce * t**2, self.settings.mlm * t
        if sparse is not None and (ce or self.one_softmax):
            assert self.cut is not None
            more = mlm / sums.student if self.one_softmax else torch.zeros_like(sums.student)
            sums.factor.copy_(mix_(student, sparse, self.cut, sums.student, ce, more))
            if mlm and not self.one_softmax:
                student.addcmul_(scratch, (mlm / sums.sharp / sums.factor)[:, None])
        else:
            self._mix_whole(student, scratch, teacher, sums)
        if mlm and self.settings.smoothing:
            student.sub_((mlm * self.settings.smoothing / self.vocabulary / sums.factor)[:, None])

    def _mix_whole(self, student: Tensor, scratch: Tensor, teacher: list[Tensor], sums: _Sums) -> None:
        t = self.settings.temperature
        ce, mlm = self.settings.ce * t**2, self.settings.mlm * t
        if self.one_softmax:
            parts = [(student, ce + mlm, sums.student)]
        else:
            parts = [(student, ce, sums.student), (scratch, mlm, sums.sharp)]
        parts += [(other, -ce, sums.teacher) for other in teacher]
        (first, weight, total), *rest = [part for part in parts if part[1]]
        torch.div(weight, total, out=sums.factor)
        for other, other_weight, other_total in rest:
            first.addcmul_(other, (total / other_total * (other_weight / weight))[:, None])
        if first is not student:
            student.copy_(first)

    def _is_safe(self, start: int, stop: int) -> bool:
        sums = self.sums.rows(start, stop)
        exponentials = torch.stack([sums.student, sums.sharp, sums.teacher])
        return bool(((exponentials > SAFE[0]) & (exponentials < SAFE[1])).all())

    def _products(self, start: int, stop: int, logits: Tensor, gradients: list[Tensor | None]) -> None:
        """From the gradient of a chunk's logits to those of hidden states, weight and bias."""
        student, (of_hidden, of_weight, of_bias) = self.sides[0], gradients
        factor = (self.sums.factor[start:stop] * self.settings.scale)[:, None]
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

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.dtype, device=self.device)


def _in_product_dtype(side: _Side) -> _Side:
    device, dtype = side.weight.device.type, side.weight.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return side._replace(hidden=side.hidden.to(dtype), weight=side.weight.to(dtype))


def _logits(side: _Side, start: int, stop: int, out: Tensor) -> Tensor | None:
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
