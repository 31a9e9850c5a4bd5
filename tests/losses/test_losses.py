"""Losses on logits and hidden states: closed forms, gradients, and what must not change them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.losses.hidden import hidden_mse
from seq2seq_distill.losses.logits import Term, at_least_fp32, cross_entropy, kl_divergence
from seq2seq_distill.utils.constants import IGNORE_INDEX
from tests.losses.reference import entropy

V = 7


def mean(term: Term) -> Tensor:
    return term.sum / term.count


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return 3 * torch.randn(*shape, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def labels(*shape: int, seed: int = 0, padded: int = 2) -> Tensor:
    """Random labels; the last `padded` positions of each row but the first have none."""
    drawn = torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))
    drawn[1:, shape[1] - padded :] = IGNORE_INDEX
    return drawn


def log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    total = top + math.log(sum(math.exp(x - top) for x in row))
    return [x - total for x in row]


def looped_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits.reshape(-1, V).tolist(), labels.flatten().tolist(), strict=True):
        if label != IGNORE_INDEX:
            log_p = log_softmax(row)
            total += (1 - smoothing) * -log_p[label] + smoothing * -sum(log_p) / V
    return total


def looped_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> float:
    total = 0.0
    rows = zip(student.reshape(-1, V).tolist(), teacher.reshape(-1, V).tolist(), labels.flatten().tolist(), strict=True)
    for own, other, label in rows:
        if label != IGNORE_INDEX:
            log_q = log_softmax([x / temperature for x in own])
            log_p = log_softmax([x / temperature for x in other])
            total += sum(math.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True))
    return temperature**2 * total


def looped_mse(pairs: list[tuple[Tensor, Tensor]], mask: Tensor, normalize: bool) -> float:
    def normed(vector: list[float]) -> list[float]:
        centre = sum(vector) / len(vector)
        variance = sum((x - centre) ** 2 for x in vector) / len(vector)
        return [(x - centre) / math.sqrt(variance + 1e-5) for x in vector]

    total = 0.0
    for student, teacher in pairs:
        for b, t in mask.nonzero().tolist():
            own, other = student[b, t].tolist(), teacher[b, t].tolist()
            if normalize:
                own, other = normed(own), normed(other)
            total += sum((x - y) ** 2 for x, y in zip(own, other, strict=True)) / len(own)
    return total / len(pairs)


class TestCrossEntropy:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_equals_a_loop(self, smoothing: float) -> None:
        own, gold = logits(3, 5), labels(3, 5)
        term = cross_entropy(own, gold, smoothing)
        assert term.count == 11
        assert mean(term).item() == pytest.approx(looped_cross_entropy(own.double(), gold, smoothing) / 11, abs=1e-5)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    def test_gradient(self, smoothing: float) -> None:
        own, gold = logits(2, 3, dtype=torch.float64).requires_grad_(), labels(2, 3, padded=1)
        assert torch.autograd.gradcheck(lambda x: cross_entropy(x, gold, smoothing).sum, own)

    def test_smoothed_is_no_sum_over_tokens_beside_a_mean(self) -> None:
        """H3: with label smoothing the cross-entropy was a sum over tokens, the KL a mean."""
        one, many = logits(1, 1), logits(1, 1).expand(8, 5, V)
        gold = torch.zeros(8, 5, dtype=torch.int64)
        for smoothing in (0.0, 0.1):
            few = mean(cross_entropy(one, gold[:1, :1], smoothing))
            torch.testing.assert_close(mean(cross_entropy(many, gold, smoothing)), few)

    def test_uniform_logits_cost_the_log_of_the_vocabulary(self) -> None:
        term = cross_entropy(torch.zeros(2, 3, V), torch.ones(2, 3, dtype=torch.int64), 0.3)
        assert mean(term).item() == pytest.approx(math.log(V))


class TestKlDivergence:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 8.0])
    def test_equals_a_loop(self, temperature: float) -> None:
        own, other, gold = logits(3, 5), logits(3, 5, seed=1), labels(3, 5)
        term = kl_divergence(own, other, gold, temperature)
        assert term.count == 11
        expected = looped_kl(own.double(), other.double(), gold, temperature) / 11
        assert mean(term).item() == pytest.approx(expected, abs=1e-5)

    def test_gradient(self) -> None:
        own, other = (logits(2, 3, seed=seed, dtype=torch.float64) for seed in (0, 1))
        gold = labels(2, 3, padded=1)
        assert torch.autograd.gradcheck(lambda x: kl_divergence(x, other, gold, 2.0).sum, own.requires_grad_())

    @given(st.floats(0.2, 20), st.integers(0, 50))
    def test_equal_models_cost_nothing_at_any_temperature(self, temperature: float, seed: int) -> None:
        """H34: soft cross-entropy is not zero for equal models."""
        own = logits(2, 4, seed=seed).requires_grad_()
        term = kl_divergence(own, own.detach().clone(), labels(2, 4), temperature)
        assert abs(mean(term).item()) < 1e-6
        assert torch.autograd.grad(term.sum, own)[0].abs().max() < 1e-5 * temperature

    @given(st.floats(0.2, 20), st.integers(0, 50))
    def test_is_never_negative(self, temperature: float, seed: int) -> None:
        term = kl_divergence(logits(2, 4, seed=seed), logits(2, 4, seed=seed + 1), labels(2, 4), temperature)
        assert term.sum > 0

    def test_weight_does_not_fall_with_temperature(self) -> None:
        """H34: T^2 keeps the gradient's scale; in the limit it is that of centred logits, (s - t) / V."""
        own, other, gold = logits(2, 4, dtype=torch.float64), logits(2, 4, seed=1, dtype=torch.float64), labels(2, 4)

        def gradient(temperature: float) -> Tensor:
            free = own.clone().requires_grad_()
            return torch.autograd.grad(kl_divergence(free, other, gold, temperature).sum, free)[0]

        difference = own - other
        limit = (difference - difference.mean(-1, keepdim=True)) / V
        limit[gold == IGNORE_INDEX] = 0
        torch.testing.assert_close(gradient(1e4), limit, rtol=1e-3, atol=1e-4)
        assert 0.5 < gradient(8.0).norm() / gradient(2.0).norm() < 2

    def test_teacher_takes_no_gradient(self) -> None:
        """H6: the target of the KL had a gradient of its own."""
        own, other = logits(2, 3).requires_grad_(), logits(2, 3, seed=1).requires_grad_()
        kl_divergence(own, other, labels(2, 3), 2.0).sum.backward()
        assert own.grad is not None and other.grad is None

    def test_mask_is_the_labels_so_the_first_token_counts(self) -> None:
        """H2: a mask by decoder inputs left out the first token where decoding starts with pad."""
        own, other = logits(1, 3), logits(1, 3, seed=1)
        gold = torch.tensor([[4, IGNORE_INDEX, IGNORE_INDEX]])
        expected = looped_kl(own[:, :1].double(), other[:, :1].double(), gold[:, :1], 2.0)
        assert kl_divergence(own, other, gold, 2.0).sum.item() == pytest.approx(expected, abs=1e-5)


class TestEntropy:
    def test_is_that_of_the_distribution(self) -> None:
        gold = labels(2, 4)
        assert mean(entropy(torch.zeros(2, 4, V), gold)).item() == pytest.approx(math.log(V))
        p = F.softmax(logits(2, 4, dtype=torch.float64), -1)
        expected = -(p * p.log()).sum(-1)[gold != IGNORE_INDEX].sum()
        torch.testing.assert_close(entropy(logits(2, 4, dtype=torch.float64), gold).sum, expected)

    def test_kl_is_cross_entropy_less_entropy(self) -> None:
        own, other, gold = (logits(2, 4, dtype=torch.float64), logits(2, 4, seed=1, dtype=torch.float64), labels(2, 4))
        chosen = gold != IGNORE_INDEX
        soft = -(F.softmax(other, -1) * F.log_softmax(own, -1))[chosen].sum()
        torch.testing.assert_close(kl_divergence(own, other, gold).sum, soft - entropy(other, gold).sum)


class TestHiddenMse:
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("depth", [1, 3])
    def test_equals_a_loop(self, normalize: bool, depth: int) -> None:
        pairs, mask = states(depth), labels(3, 5) != IGNORE_INDEX
        term = hidden_mse(pairs, mask, normalize)
        expected = looped_mse([(own.double(), other.double()) for own, other in pairs], mask, normalize) / 11
        assert term.count == 11
        assert mean(term).item() == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("normalize", [False, True])
    def test_gradient(self, normalize: bool) -> None:
        (own, other), (second, target) = states(2, shape=(2, 3), dtype=torch.float64)
        mask = labels(2, 3, padded=1) != IGNORE_INDEX
        leaves = (own.requires_grad_(), second.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda a, b: hidden_mse([(a, other), (b, target)], mask, normalize).sum, leaves, atol=1e-6
        )

    @pytest.mark.parametrize("normalize", [False, True])
    @given(depth=st.integers(1, 6))
    def test_weight_does_not_grow_with_depth(self, normalize: bool, depth: int) -> None:
        """H5: the loss was a sum over layers."""
        pair, mask = states(1), labels(3, 5)
        once, often = (hidden_mse(pair * n, mask != IGNORE_INDEX, normalize) for n in (1, depth))
        torch.testing.assert_close(once.sum, often.sum)

    @pytest.mark.parametrize("normalize", [False, True])
    @given(times=st.integers(1, 6))
    def test_weight_does_not_grow_with_width(self, normalize: bool, times: int) -> None:
        """H35: the loss was divided by tokens but not by width."""
        (own, other), mask = states(1)[0], labels(3, 5) != IGNORE_INDEX
        wide = hidden_mse([(own.repeat(1, 1, times), other.repeat(1, 1, times))], mask, normalize)
        torch.testing.assert_close(hidden_mse([(own, other)], mask, normalize).sum, wide.sum)

    def test_normalising_looks_at_one_position_alone(self) -> None:
        """H4: batch, time and width were normed together, padding included."""
        (own, other), mask = states(1)[0], labels(3, 5) != IGNORE_INDEX
        parts = [hidden_mse([(own[b : b + 1], other[b : b + 1])], mask[b : b + 1], True).sum for b in range(3)]
        torch.testing.assert_close(hidden_mse([(own, other)], mask, True).sum, torch.stack(parts).sum())
        assert hidden_mse([(own, 5 * own + 3)], mask, True).sum < 1e-3  # scale and offset of a position do not matter

    def test_teacher_takes_no_gradient_and_equal_states_cost_nothing(self) -> None:
        own, mask = states(1)[0][0].requires_grad_(), labels(3, 5) != IGNORE_INDEX
        other = own.detach().clone().requires_grad_()
        term = hidden_mse([(own, other)], mask)
        term.sum.backward()
        assert term.sum == 0 and other.grad is None

    def test_no_pairs_give_zero(self) -> None:
        term = hidden_mse([], torch.tensor([[1, 1, 0]]))
        assert (term.sum.item(), term.count.item()) == (0.0, 2)


def states(
    depth: int, shape: tuple[int, int] = (3, 5), width: int = 6, dtype: torch.dtype = torch.float32
) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(depth)
    drawn = torch.randn(depth, 2, *shape, width, generator=chance, dtype=torch.float64).to(dtype)
    return [(own, other) for own, other in drawn]


def all_terms(own: Tensor, other: Tensor, gold: Tensor) -> dict[str, Term]:
    return {
        "ce": kl_divergence(own, other, gold, 2.0),
        "mlm": cross_entropy(own, gold),
        "smoothed": cross_entropy(own, gold, 0.1),
        "entropy": entropy(other, gold),
        "hidden": hidden_mse([(own, other)], gold != IGNORE_INDEX),
        "normed": hidden_mse([(own, other)], gold != IGNORE_INDEX, normalize=True),
    }


def test_an_empty_batch_gives_zero_and_finite_gradients() -> None:
    gold = torch.full((2, 3), IGNORE_INDEX)
    own = logits(2, 3).requires_grad_()
    for name, term in all_terms(own, logits(2, 3, seed=1), gold).items():
        assert (term.sum.item(), term.count.item()) == (0.0, 0), name
        if term.sum.requires_grad:
            assert torch.equal(torch.autograd.grad(term.sum, own, retain_graph=True)[0], torch.zeros(2, 3, V)), name


@given(columns=st.integers(1, 9), noise=st.floats(-1e4, 1e4))
def test_padding_columns_change_nothing(columns: int, noise: float) -> None:
    """H4, H33: pads were counted, and normed over."""
    own, other, gold = logits(3, 5), logits(3, 5, seed=1), labels(3, 5)
    garbage = torch.full((3, columns, V), noise) * torch.randn(3, columns, V)
    wide = all_terms(
        torch.cat([own, garbage], 1), torch.cat([other, -garbage], 1), F.pad(gold, (0, columns), value=IGNORE_INDEX)
    )
    for name, term in all_terms(own, other, gold).items():
        torch.testing.assert_close(wide[name].sum, term.sum, msg=name)
        assert wide[name].count == term.count, name


@given(times=st.integers(1, 5), longer=st.integers(1, 5))
def test_means_grow_with_neither_batch_nor_length(times: int, longer: int) -> None:
    """H33: the KL was divided by the batch size, so that it grew with length."""
    own, other, gold = logits(2, 4), logits(2, 4, seed=1), labels(2, 4)
    many = all_terms(own.repeat(times, longer, 1), other.repeat(times, longer, 1), gold.repeat(times, longer))
    for name, term in all_terms(own, other, gold).items():
        torch.testing.assert_close(mean(many[name]), mean(term), msg=name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    own, other, gold = logits(2, 4, dtype=dtype), logits(2, 4, seed=1, dtype=dtype), labels(2, 4)
    wide = all_terms(own.float(), other.float(), gold)
    for name, term in all_terms(own, other, gold).items():
        assert term.sum.dtype == torch.float32
        torch.testing.assert_close(term.sum, wide[name].sum, msg=name)
    assert at_least_fp32(own.double()).dtype == torch.float64
