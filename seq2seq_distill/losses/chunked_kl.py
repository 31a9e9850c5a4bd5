"""Forward KL and cross-entropy of logits in chunks, at one temperature: the fast way.

What is left besides matrix products are walks over [N, V], so everything is arranged for few of them, in place, over
blocks of rows that stay in the processor's cache. In what follows s and t are the logits of student and teacher
divided by the temperature T, S and R the sums of exp(s) and exp(t) over the vocabulary.

- There are no log-probabilities: KL = sum(exp(t) (t - s)) / R + log(S / R), which is exactly 0 for equal models, and
  -log p[label] = log S - s[label] at T = 1.
- There are no probabilities: each row of the gradient is made up to a factor, which goes to the [N, H] side of the
  products.
- On CPU, exp is taken as it is. A chunk with a sum that is not safe is done again, less the maximum of each row.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq_distill.losses.chunks import Chunks, HeadLossOptions
from seq2seq_distill.losses.sparse import Cut, SparseTeacher, cut_out, gap, mix_

SAFE = (1e-18, 1e18)
"""Between these bounds a sum of exponentials, and a ratio of two, loses nothing to overflow or underflow in fp32."""


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


class ChunkedKl:
    """The losses of the chunks so far, and the gradient of each chunk's logits."""

    def __init__(self, chunks: Chunks, settings: HeadLossOptions) -> None:
        assert not isinstance(settings.temperature, Tensor)
        self.chunks, self.settings, self.temperature = chunks, settings, settings.temperature
        self.weight = settings.divergences.weights.get("forward_kl", 1.0)
        self.ce = settings.ce * self.weight
        self.scratch = chunks.empty(chunks.block, chunks.vocabulary)
        self.cut: Cut | None = None
        self.sums = _Sums(*chunks.empty(len(_Sums._fields), chunks.positions).fill_(1))
        self.one_softmax = self.temperature == 1.0
        if self.one_softmax:
            self.sums = self.sums._replace(sharp=self.sums.student)

    def gradient(self, start: int, stop: int, learns: bool) -> tuple[Tensor, Tensor]:
        """Fill the sums of a chunk; returns the gradient of the student's logits, each row divided by its factor, and
        these factors."""
        on_cpu = self.chunks.device.type == "cpu"
        logits = self._walk(start, stop, learns, shift=not on_cpu)
        if on_cpu and not self._is_safe(start, stop):
            logits = self._walk(start, stop, learns, shift=True)
        return logits, self.sums.factor[start:stop]

    def losses(self) -> dict[str, Tensor]:
        """Sums over positions: KL divergence times T^2, cross-entropy, entropy of the teacher."""
        sums, t, smoothing = self.sums, self.temperature, self.settings.smoothing
        ce = (sums.gap / sums.teacher + (sums.student / sums.teacher).log()) * t**2
        gold = sums.gold if smoothing == 0 else torch.lerp(sums.gold, sums.total / self.chunks.vocabulary, smoothing)
        return {
            "ce_loss": ce.sum() * self.weight,
            "mlm_loss": (sums.sharp.log() - t * gold).sum(),
            "teacher_entropy": sums.entropy.sum(),
        }

    def _walk(self, start: int, stop: int, learns: bool, shift: bool) -> Tensor:
        """Fill the sums of a chunk; returns the gradient of the student's logits, each row divided by its factor."""
        logits, slope = self.chunks.logits(start, stop)
        if shift:
            for own in logits:
                own.sub_(own.amax(-1, keepdim=True))
        sums, labels = self.sums.rows(start, stop), self.settings.labels[start:stop]
        torch.gather(logits[0], 1, labels[:, None], out=sums.gold[:, None])
        for first, last in self.chunks.blocks(start, stop):
            block, of_block = [own[first:last] for own in logits], sums.rows(first, last)
            sparse = None
            if self.settings.sparse is not None:
                sparse = self.settings.sparse.rows(start + first, start + last)
            self._exponentials(block, of_block, sparse)
            if learns:
                self._mix(block, of_block, sparse)
        if learns:
            mlm = self.settings.mlm * self.temperature
            rows = torch.arange(len(labels), device=self.chunks.device)
            logits[0][rows, labels] -= mlm * (1 - self.settings.smoothing) / sums.factor
            if slope is not None:
                logits[0].mul_(slope)
        return logits[0]

    def _exponentials(self, logits: list[Tensor], sums: _Sums, sparse: SparseTeacher | None) -> None:
        """Turn logits into their exponentials, in place, and sum; leave exp(T s) in the scratch buffer.

        A sparse teacher's tokens are cut out of them.
        """
        student, *teacher = logits
        scratch, t = self.scratch[: len(student)], self.temperature
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
        scratch, t = self.scratch[: len(student)], self.temperature
        ce, mlm = self.ce * t**2, self.settings.mlm * t
        if sparse is not None and (ce or self.one_softmax):
            assert self.cut is not None
            more = mlm / sums.student if self.one_softmax else torch.zeros_like(sums.student)
            sums.factor.copy_(mix_(student, sparse, self.cut, sums.student, ce, more))
            if mlm and not self.one_softmax:
                student.addcmul_(scratch, (mlm / sums.sharp / sums.factor)[:, None])
        else:
            self._mix_whole(student, scratch, teacher, sums)
        if mlm and self.settings.smoothing:
            student.sub_((mlm * self.settings.smoothing / self.chunks.vocabulary / sums.factor)[:, None])

    def _mix_whole(self, student: Tensor, scratch: Tensor, teacher: list[Tensor], sums: _Sums) -> None:
        t = self.temperature
        ce, mlm = self.ce * t**2, self.settings.mlm * t
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
