"""This package's feature losses against TextBrewer's, on the same random tensors in float64.

    pip install --no-deps textbrewer==0.2.1.post1    # for this comparison only
    python -m benchmarks.peers_of_matches

Prints one JSON line per TextBrewer function: its definition in terms of ours, and the largest relative difference
between both sides of that equation, in value and in gradient. docs/losses.md has the table.
"""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from textbrewer import losses as theirs
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.losses import attention, hidden
from seq2seq_distill.losses.logits import Term

ROWS, LENGTH, WIDTH, HEADS = 3, 6, 8, 2
EQUAL_LENGTHS, UNEQUAL_LENGTHS = (LENGTH, LENGTH, LENGTH), (LENGTH, 4, 1)


class Case(NamedTuple):
    """Inputs of both models: states [2, B, T, H] of two layers, or attention scores [B, heads, T, T]."""

    student: Tensor
    teacher: Tensor
    mask: Tensor
    """[B, T], 1 where a position counts."""

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """Attention weights for the scores, zero at padded keys, as a model returns them."""
        padding = self.mask[:, None, None] == 0
        student, teacher = (s.masked_fill(padding, -torch.inf).softmax(-1) for s in (self.student, self.teacher))
        return student, teacher


class Row(NamedTuple):
    """A TextBrewer function and its definition in terms of ours."""

    name: str
    relation: str
    lengths: tuple[int, ...]
    sides: Callable[[Case], tuple[Tensor, Tensor]]
    """Theirs and ours."""


def mean(term: Term) -> Tensor:
    return term.sum / term.count


def _first(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    return case.student[0], case.teacher[0], case.mask


def _gram(case: Case) -> tuple[Tensor, Tensor]:
    ours = hidden.fsp_gram((case.student[0], case.student[1]), (case.teacher[0], case.teacher[1]), case.mask)
    return theirs.fsp_loss(list(case.student), list(case.teacher), case.mask), mean(ours)


def _mmd(case: Case, *mask: Tensor) -> tuple[Tensor, Tensor]:
    """TextBrewer's loss for states normalised as in NST, in which the activations of each unit have norm 1."""
    own, other = (F.normalize(states[0], dim=1) for states in (case.student, case.teacher))
    return theirs.mmd_loss([own, own], [other, other], *mask), mean(hidden.nst_mmd(*_first(case))) / LENGTH**2


def _masked_mmd(case: Case) -> tuple[Tensor, Tensor]:
    masked, ours = _mmd(case, case.mask)
    return masked, ours * (WIDTH / LENGTH) ** 2


def _attention_mse(case: Case) -> tuple[Tensor, Tensor]:
    """TextBrewer averages over query-key pairs, so that long texts count by their squared length."""
    own, other = case.weights
    ours = attention.attention_mse(own, other, case.mask, case.mask).sum / case.mask.sum(1).pow(2).sum()
    return theirs.att_mse_loss(own, other, case.mask), ours


def _attention_ce(case: Case) -> tuple[Tensor, Tensor]:
    own, other = case.weights
    chosen = case.mask.bool()[:, None].expand(other.shape[:3])
    entropy = -torch.xlogy(other, other).sum(-1)[chosen].mean()
    ours = attention.attention_ce(own, other, case.mask, case.mask)
    return theirs.att_ce_loss(case.student, case.teacher, case.mask), mean(ours) + entropy


def _mse(case: Case) -> tuple[Tensor, Tensor]:
    own, other, mask = _first(case)
    return theirs.hid_mse_loss(own, other, mask), mean(hidden.hidden_mse([(own, other)], mask))


def _cosine(case: Case) -> tuple[Tensor, Tensor]:
    return theirs.cos_loss(*_first(case)), mean(hidden.cosine_distance(*_first(case)))


def _pkd(case: Case) -> tuple[Tensor, Tensor]:
    return theirs.pkd_loss(*_first(case)), mean(hidden.patient_distance_first(*_first(case)))


HIDDEN = (
    Row("hid_mse_loss", "mse", UNEQUAL_LENGTHS, _mse),
    Row("cos_loss", "cosine", UNEQUAL_LENGTHS, _cosine),
    Row("pkd_loss", "pkd_first, texts of one length", EQUAL_LENGTHS, _pkd),
    Row("fsp_loss", "gram, texts of one length", EQUAL_LENGTHS, _gram),
    Row("mmd_loss without mask, of normed units", "mmd / T^2, texts of one length T", EQUAL_LENGTHS, _mmd),
    Row("mmd_loss with mask, of normed units", "mmd H^2 / T^4, texts of one length T", EQUAL_LENGTHS, _masked_mmd),
)
ATTENTION = (
    Row("att_mse_loss", "mse, its sum divided by that of T^2", UNEQUAL_LENGTHS, _attention_mse),
    Row("att_ce_loss, of scores", "ce + entropy of the teacher's weights", EQUAL_LENGTHS, _attention_ce),
)


def main() -> None:
    for line in lines():
        print(json.dumps(line))


def lines() -> Iterator[dict[str, object]]:
    """The benchmark's JSON lines."""
    generator = torch.Generator().manual_seed(0)
    for rows, shape in ((HIDDEN, (2, ROWS, LENGTH, WIDTH)), (ATTENTION, (ROWS, HEADS, LENGTH, LENGTH))):
        student, teacher = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        student.requires_grad_()
        for row in rows:
            mask = (torch.arange(LENGTH) < torch.tensor(row.lengths)[:, None]).long()
            pair = row.sides(Case(student, teacher, mask))
            gradients = [torch.autograd.grad(each, student, retain_graph=True)[0] for each in pair]
            yield {
                "benchmark": "peers_of_matches",
                "theirs": row.name,
                "ours": row.relation,
                "difference": _off(*pair),
                "gradient_difference": _off(*gradients),
            }


def _off(theirs: Tensor, ours: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float(f"{((theirs - ours).abs().max() / theirs.abs().max()).item():.1e}")


if __name__ == "__main__":
    main()
