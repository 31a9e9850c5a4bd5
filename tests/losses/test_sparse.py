"""Distances from a teacher that is known by some of its tokens."""

import math

import pytest
import torch
from torch import Tensor

from seq2seq_distill.losses.fused import HeadLoss, head_loss
from seq2seq_distill.losses.logits import kl_divergence
from seq2seq_distill.losses.sparse import SparseTeacher, drawn_tokens, top_tokens
from tests.losses.test_fused import BOTH, MIXES, Case, assert_same, chunks, gradients

TEMPERATURES = [0.7, 1.0, 2.0, 3.0]


def log_probabilities(case: Case, temperature: float) -> Tensor:
    return (case.heads[1].logits(case.hidden[1]) / temperature).log_softmax(-1)


def sparse_loss(case: Case, teacher: SparseTeacher, weights: dict[str, float] = BOTH, **options: float) -> HeadLoss:
    return head_loss(case.heads[0], case.hidden[0], case.labels, weights, teacher, **options)


def looped(student_logits: Tensor, teacher: SparseTeacher, temperature: float) -> float:
    """The definition, position by position and token by token."""
    total = 0.0
    for logits, ids, probabilities, rest in zip(student_logits, *teacher[:3], strict=True):
        scaled = [math.exp(x / temperature) for x in logits.tolist()]
        left = sum(scaled)
        for token, p in zip(ids.tolist(), probabilities.tolist(), strict=True):
            q = scaled[token] / sum(scaled)
            total += p * math.log(p / q) if p else 0.0
            left -= scaled[token]
        r = rest.item()
        total += r * math.log(r / (left / sum(scaled))) if r else 0.0
    return total * temperature**2


def dense(case: Case, teacher: SparseTeacher, weights: dict[str, float], temperature: float) -> Tensor:
    """The same in torch, for its gradient."""
    logits = case.heads[0].logits(case.hidden[0])
    log_q = (logits / temperature).log_softmax(-1)
    inside = -(teacher.probabilities * log_q.gather(1, teacher.ids)).sum()
    others = log_q.exp().scatter(1, teacher.ids, 0.0).sum(-1)
    outside = -(teacher.rest * others.clamp(min=1e-300).log()).sum()
    ce = (teacher.negentropy.sum() + inside + outside) * temperature**2
    mlm = -logits.log_softmax(-1).gather(1, case.labels[:, None]).sum()
    return weights.get("ce_loss", 0.0) * ce + weights.get("mlm_loss", 0.0) * mlm


@pytest.fixture(autouse=True)
def small_chunks():
    """Chunks of 3 positions, walked over by 2: neither divides the other, nor 7."""
    with chunks(3, 2):
        yield


class TestTopTokens:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("k", [1, 4, 10, 11])
    def test_loss_is_the_definition(self, k: int, temperature: float) -> None:
        case = Case()
        teacher = top_tokens(log_probabilities(case, temperature), k)
        ours = sparse_loss(case, teacher, temperature=temperature)
        expected = looped(case.heads[0].logits(case.hidden[0]), teacher, temperature)
        assert ours.terms["ce_loss"].sum.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("k", [1, 4, 11])
    @pytest.mark.parametrize("weights", MIXES)
    def test_gradient_is_its_derivative(self, weights: dict[str, float], k: int, temperature: float) -> None:
        case = Case()
        teacher = top_tokens(log_probabilities(case, temperature), k)
        ours = sparse_loss(case, teacher, weights, temperature=temperature)
        expected = dense(case, teacher, weights, temperature)
        torch.testing.assert_close(ours.loss, expected)
        for own, other in zip(gradients(case, ours.loss), gradients(case, expected), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_of_the_whole_vocabulary_are_the_dense_loss(self, temperature: float) -> None:
        case = Case()
        teacher = top_tokens(log_probabilities(case, temperature), 11)
        ours = sparse_loss(case, teacher, temperature=temperature, label_smoothing=0.1)
        assert_same(case, ours, case.dense(temperature=temperature, label_smoothing=0.1))

    def test_with_the_rest_are_at_most_the_dense_loss_and_grow_towards_it(self) -> None:
        case = Case()
        whole = case.dense().terms["ce_loss"].sum.item()
        sums = [
            sparse_loss(case, top_tokens(log_probabilities(case, 1.0), k)).terms["ce_loss"].sum.item()
            for k in range(1, 12)
        ]
        assert sums == sorted(sums) and sums[-1] == pytest.approx(whole)

    def test_are_zero_for_equal_models(self) -> None:
        case = Case(widths=(3, 3))
        teacher = top_tokens(case.heads[0].logits(case.hidden[0]).detach().log_softmax(-1), 4)
        loss = sparse_loss(case, teacher, {"ce_loss": 1.0})
        assert abs(loss.terms["ce_loss"].sum.item()) < 1e-12
        assert all(gradient.abs().max() < 1e-12 for gradient in gradients(case, loss.loss))

    @pytest.mark.parametrize("size", [0.1, 30.0])
    def test_stay_finite_where_the_student_gives_the_rest_nothing(self, size: float) -> None:
        case = Case(dtype=torch.float32, size=size)
        teacher = top_tokens(log_probabilities(case, 1.0).detach(), 2)
        loss = sparse_loss(case, teacher)
        assert loss.loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients(case, loss.loss))


class TestDrawnTokens:
    """The gradient for the student's logits, of 40 positions with a vocabulary of 60."""

    REPEATS = 400

    @pytest.fixture(scope="class")
    def logits(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        own, other = (2 * torch.randn(40, 60, generator=generator, dtype=torch.float64) for _ in range(2))
        return own, other

    def gradient(self, own: Tensor, teacher: SparseTeacher) -> Tensor:
        own = own.clone().requires_grad_()
        log_q = own.log_softmax(-1)
        return torch.autograd.grad(-(teacher.probabilities * log_q.gather(1, teacher.ids)).sum(), own)[0]

    def ours(self, own: Tensor, teacher: SparseTeacher) -> Tensor:
        """By the chunked head: hidden states are the logits, the head is the unit matrix."""
        hidden = own.clone().requires_grad_()
        head = Case(1, 1).heads[0].__class__(torch.eye(own.shape[-1], dtype=own.dtype), None)
        loss = head_loss(head, hidden, torch.zeros(len(own), dtype=torch.int64), {"ce_loss": 1.0}, teacher)
        return torch.autograd.grad(loss.loss, hidden)[0]

    def exact(self, own: Tensor, other: Tensor) -> Tensor:
        own = own.clone().requires_grad_()
        return torch.autograd.grad(kl_divergence(own, other, torch.zeros(len(own), dtype=torch.int64)).sum, own)[0]

    def deviations(self, gradients: Tensor, exact: Tensor) -> Tensor:
        """How many standard errors the mean is off, in blocks of 10 positions by 12 tokens."""
        blocks = (gradients - exact).unflatten(2, (5, 12)).unflatten(1, (4, 10)).sum((2, 4))
        return blocks.mean(0).abs() / (blocks.std(0) / len(blocks) ** 0.5).clamp(min=1e-9)

    def repeated(self, own: Tensor, other: Tensor, draws: int) -> Tensor:
        generator = torch.Generator().manual_seed(draws)
        log_p = other.log_softmax(-1)
        return torch.stack([self.gradient(own, drawn_tokens(log_p, draws, generator)) for _ in range(self.REPEATS)])

    def test_gradient_is_that_of_the_definition(self, logits) -> None:
        own, other = logits
        teacher = drawn_tokens(other.log_softmax(-1), 20, torch.Generator().manual_seed(1))
        torch.testing.assert_close(self.ours(own, teacher), self.gradient(own, teacher))

    @pytest.mark.parametrize("draws", [5, 50])
    def test_mean_gradient_is_the_dense_one(self, logits, draws: int) -> None:
        deviations = self.deviations(self.repeated(*logits, draws), self.exact(*logits))
        assert deviations.max() < 4

    def test_a_renormalised_top_k_would_be_noticed(self, logits) -> None:
        """H37: such a target is biased."""
        own, other = logits
        teacher = top_tokens(other.log_softmax(-1), 20)
        shares = teacher.probabilities / teacher.probabilities.sum(-1, keepdim=True)
        biased = self.gradient(own, teacher._replace(probabilities=shares))
        noise = self.repeated(own, other, 50) - self.exact(own, other)
        assert self.deviations(biased + noise, self.exact(own, other)).max() > 4

    def test_error_falls_with_the_root_of_the_draws(self, logits) -> None:
        exact = self.exact(*logits)
        few, many = ((self.repeated(*logits, draws) - exact).pow(2).mean().sqrt() for draws in (5, 45))
        assert few / many == pytest.approx(3, rel=0.1)

    def test_loss_is_right_on_average(self, logits) -> None:
        own, other = logits
        labels, generator = torch.zeros(len(own), dtype=torch.int64), torch.Generator().manual_seed(3)
        head = Case(1, 1).heads[0].__class__(torch.eye(60, dtype=own.dtype), None)
        teachers = [drawn_tokens(other.log_softmax(-1), 20, generator) for _ in range(200)]
        losses = torch.stack([head_loss(head, own, labels, {}, t).terms["ce_loss"].sum for t in teachers])
        exact = kl_divergence(own, other, labels).sum
        assert abs(losses.mean() - exact) < 4 * losses.std() / 200**0.5

    def test_shares_add_up_to_one_and_no_token_comes_twice(self, logits) -> None:
        teacher = drawn_tokens(logits[1].log_softmax(-1), 70, torch.Generator().manual_seed(1))
        assert teacher.ids.shape == (40, 60)
        torch.testing.assert_close(teacher.probabilities.sum(-1), torch.ones(40, dtype=torch.float64))
        assert all(len(set(row)) == 60 for row in teacher.ids.tolist())
