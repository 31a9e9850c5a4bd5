"""Several teachers as one: their distributions by hand, and in the chunked head."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seq2seq_distill.losses.chunks import Ensemble
from seq2seq_distill.losses.divergences import Divergences
from seq2seq_distill.losses.ensemble import combined
from seq2seq_distill.losses.fused import head_loss
from seq2seq_distill.losses.logits import kl_divergence
from seq2seq_distill.models.forward import OutputHead

LABELS = torch.tensor([2, 0, 3])
WAYS = ("probabilities", "logits", "best")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(logits: list[Tensor], weights: list[float], combine: str, labels: Tensor) -> list[list[float]]:
    """Distributions by Python's floats."""
    rows = []
    for row, label in enumerate(labels.tolist()):
        distributions = []
        for each in logits:
            values = [math.exp(value) for value in each[row].tolist()]
            distributions.append([value / sum(values) for value in values])
        if combine == "best":
            rows.append(max(zip(weights, distributions, strict=True), key=lambda pair: pair[0] * pair[1][label])[1])
            continue
        mixed = []
        for token in range(len(distributions[0])):
            if combine == "probabilities":
                mixed.append(sum(w * p[token] for w, p in zip(weights, distributions, strict=True)))
            else:
                powers = [p[token] ** (w / sum(weights)) for w, p in zip(weights, distributions, strict=True)]
                mixed.append(math.prod(powers))
        rows.append([value / sum(mixed) for value in mixed])
    return rows


@pytest.mark.parametrize("combine", WAYS)
@pytest.mark.parametrize("weights", [[1.0, 1.0], [3.0, 0.5]])
def test_by_hand(combine, weights):
    logits = [draw(3, 5, seed=seed) for seed in (1, 2)]
    found = combined(logits, weights, combine, LABELS).softmax(-1)
    torch.testing.assert_close(found, torch.tensor(by_hand(logits, weights, combine, LABELS), dtype=torch.float64))


@pytest.mark.parametrize("combine", WAYS)
def test_one_teacher_twice_is_that_teacher(combine):
    logits = draw(3, 5)
    torch.testing.assert_close(combined([logits, logits], [1, 4], combine, LABELS).softmax(-1), logits.softmax(-1))


def test_the_best_changes_from_token_to_token():
    sure = torch.full((2, 4), -5.0, dtype=torch.float64)
    first, second = sure.clone(), sure.clone()
    first[0, 1], second[1, 2] = 5.0, 5.0
    found = combined([first, second], [1, 1], "best", torch.tensor([1, 2])).softmax(-1)
    torch.testing.assert_close(found, torch.stack([first[0], second[1]]).softmax(-1))


class TestInTheHead:
    """The chunked head with an ensemble gives the dense divergence from the combined logits."""

    def case(self) -> tuple[OutputHead, Tensor, Ensemble, list[Tensor]]:
        heads = [OutputHead(draw(5, width, seed=width), draw(1, 5, seed=9)) for width in (4, 3, 6)]
        hidden = [draw(3, width, seed=10 + width) / 4 for width in (4, 3, 6)]
        student = replace(heads[0], weight=heads[0].weight.requires_grad_())
        members = list(zip(heads[1:], hidden[1:], strict=True))
        ensemble = Ensemble(members, [2.0, 1.0], "probabilities")
        return student, hidden[0].requires_grad_(), ensemble, [head.logits(own) for head, own in members]

    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    @pytest.mark.parametrize("combine", WAYS)
    def test_loss_and_gradients(self, combine, temperature):
        student, hidden, ensemble, logits = self.case()
        ensemble = ensemble._replace(combine=combine)
        loss = head_loss(student, hidden, LABELS, {"ce_loss": 0.7}, ensemble, temperature=temperature)
        loss.loss.backward()
        found = hidden.grad.clone(), student.weight.grad.clone()
        hidden.grad = student.weight.grad = None
        teacher = combined(logits, [2.0, 1.0], combine, LABELS)
        dense = kl_divergence(student.logits(hidden), teacher, LABELS, temperature)
        (0.7 * dense.sum).backward()
        torch.testing.assert_close(loss.terms["ce_loss"].sum, dense.sum.detach())
        torch.testing.assert_close(found, (hidden.grad, student.weight.grad))

    def test_with_another_divergence(self):
        student, hidden, ensemble, logits = self.case()
        reverse = Divergences({"reverse_kl": 1.0})
        loss = head_loss(student, hidden, LABELS, {"ce_loss": 1.0}, ensemble, divergences=reverse)
        teacher = combined(logits, [2.0, 1.0], "probabilities", LABELS)
        turned = kl_divergence(teacher, student.logits(hidden), LABELS)
        torch.testing.assert_close(loss.loss, turned.sum.detach())
