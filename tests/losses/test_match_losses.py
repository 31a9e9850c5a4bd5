"""Losses of --matches: loops in float64, gradients, and what must not change them."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seq2seq_distill.losses.attention import attention_ce, attention_mse
from seq2seq_distill.losses.hidden import (
    cosine_distance,
    fsp_gram,
    hidden_mse,
    nst_mmd,
    patient_distance,
    patient_distance_first,
)
from seq2seq_distill.losses.logits import Term

Loss = Callable[..., Term]
LENGTHS = (5, 3, 1, 0)
"""Positions that count in each row; the last row is one that a process without rows gets."""
N = sum(LENGTHS)


def mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Term:
    return hidden_mse([(student, teacher)], mask)


def gram(student: Tensor, teacher: Tensor, mask: Tensor) -> Term:
    """Of the flow from a layer to one that is a fixed function of it."""
    return fsp_gram((student, student.flip(-1)), (teacher, teacher.flip(-1)), mask)


def mask_of(width: int = 5) -> Tensor:
    return torch.arange(width) < torch.tensor(LENGTHS)[:, None]


def states(seed: int, width: int = 6, length: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(len(LENGTHS), length, width, generator=chance, dtype=torch.float64).to(dtype)


def unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector] if norm else vector


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def minus(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def looped_positions(student: Tensor, teacher: Tensor, distance: Callable[[list[float], list[float]], float]) -> float:
    rows = zip(student.tolist(), teacher.tolist(), LENGTHS, strict=True)
    return sum(distance(own[t], other[t]) for own, other, length in rows for t in range(length))


def looped_cosine(student: Tensor, teacher: Tensor) -> float:
    return looped_positions(student, teacher, lambda a, b: 1 - dot(unit(a), unit(b)))


def looped_mse(student: Tensor, teacher: Tensor) -> float:
    return looped_positions(
        student, teacher, lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
    )


def squared_distance(a: list[float], b: list[float]) -> float:
    difference = minus(unit(a), unit(b))
    return dot(difference, difference)


def looped_pkd(student: Tensor, teacher: Tensor) -> float:
    return looped_positions(student, teacher, squared_distance)


def looped_pkd_first(student: Tensor, teacher: Tensor) -> float:
    rows = zip(student.tolist(), teacher.tolist(), LENGTHS, strict=True)
    return sum(length * squared_distance(own[0], other[0]) for own, other, length in rows)


def looped_mmd(student: Tensor, teacher: Tensor) -> float:
    """By the kernel, as a sum over pairs of units."""

    def mean_kernel(first: list[list[float]], second: list[list[float]]) -> float:
        return sum(dot(x, y) ** 2 for x in first for y in second) / (len(first) * len(second))

    total = 0.0
    for own, other, length in zip(student, teacher, LENGTHS, strict=True):
        s, t = ([unit(x) for x in rows[:length].T.tolist()] for rows in (own, other))
        total += length * (mean_kernel(s, s) + mean_kernel(t, t) - 2 * mean_kernel(s, t))
    return total


def looped_gram(student: Tensor, teacher: Tensor) -> float:
    def flow(rows: Tensor, length: int) -> list[list[float]]:
        first, second = rows[:length].T.tolist(), rows.flip(-1)[:length].T.tolist()
        return [[dot(a, b) / length for b in second] for a in first]

    total = 0.0
    for own, other, length in zip(student, teacher, LENGTHS, strict=True):
        if length:
            cells = zip(sum(flow(own, length), []), sum(flow(other, length), []), strict=True)
            total += length * sum((a - b) ** 2 for a, b in cells) / own.shape[-1] ** 2
    return total


HIDDEN: dict[str, tuple[Loss, Callable[[Tensor, Tensor], float]]] = {
    "mse": (mse, looped_mse),
    "cosine": (cosine_distance, looped_cosine),
    "pkd": (patient_distance, looped_pkd),
    "pkd_first": (patient_distance_first, looped_pkd_first),
    "mmd": (nst_mmd, looped_mmd),
    "gram": (gram, looped_gram),
}
every_loss = pytest.mark.parametrize("loss", [pair[0] for pair in HIDDEN.values()], ids=list(HIDDEN))


class TestHiddenLosses:
    @pytest.mark.parametrize("name", HIDDEN)
    def test_equal_a_loop(self, name: str) -> None:
        loss, loop = HIDDEN[name]
        own, other = states(0), states(1)
        term = loss(own, other, mask_of())
        assert term.count == N
        assert term.sum.item() == pytest.approx(loop(own, other), rel=1e-9) and term.sum > 0.1
        in_fp32 = loss(own.float(), other.float(), mask_of())
        assert in_fp32.sum.item() == pytest.approx(term.sum.item(), rel=1e-5)

    @every_loss
    def test_gradient(self, loss: Loss) -> None:
        own, other = states(0).requires_grad_(), states(1)
        assert torch.autograd.gradcheck(lambda x: loss(x, other, mask_of()).sum, own)

    @every_loss
    def test_padding_changes_nothing(self, loss: Loss) -> None:
        """H33: pads were counted. What stands there does not matter either."""
        own, other = states(0), states(1)
        wide = [torch.cat([x, torch.full((4, 3, 6), value)], 1) for x, value in ((own, 7.0), (other, -9.0))]
        term, padded = loss(own, other, mask_of()), loss(*wide, mask_of(8))
        torch.testing.assert_close(padded.sum, term.sum)
        assert padded.count == term.count

    @every_loss
    def test_equal_states_cost_nothing_and_the_teacher_takes_no_gradient(self, loss: Loss) -> None:
        own = states(0).requires_grad_()
        other = own.detach().clone().requires_grad_()
        term = loss(own, other, mask_of())
        term.sum.backward()
        assert abs(term.sum.item()) < 1e-12
        assert own.grad is not None and own.grad.abs().max() < 1e-7 and other.grad is None

    @every_loss
    @given(times=st.integers(2, 5))
    def test_weight_does_not_depend_on_width(self, loss: Loss, times: int) -> None:
        """H35: the sum over the width grew with it."""
        own, other = states(0), states(1)
        wide = loss(own.repeat(1, 1, times), other.repeat(1, 1, times), mask_of())
        torch.testing.assert_close(wide.sum, loss(own, other, mask_of()).sum)

    @every_loss
    @given(times=st.integers(2, 5))
    def test_weight_does_not_depend_on_the_batch(self, loss: Loss, times: int) -> None:
        own, other, mask = states(0), states(1), mask_of()
        many = loss(own.repeat(times, 1, 1), other.repeat(times, 1, 1), mask.repeat(times, 1))
        once = loss(own, other, mask)
        torch.testing.assert_close(many.sum / many.count, once.sum / once.count)

    @every_loss
    @given(times=st.integers(2, 5))
    def test_weight_does_not_depend_on_length(self, loss: Loss, times: int) -> None:
        """Of a text that says the same several times over."""
        own, other, full = states(0), states(1), torch.ones(4, 5)
        long = loss(own.repeat(1, times, 1), other.repeat(1, times, 1), full.repeat(1, times))
        once = loss(own, other, full)
        torch.testing.assert_close(long.sum / long.count, once.sum / once.count)

    @every_loss
    def test_nothing_but_padding_gives_zero_and_finite_gradients(self, loss: Loss) -> None:
        own = states(0).requires_grad_()
        term = loss(own, states(1), torch.zeros(4, 5))
        term.sum.backward()
        assert (term.sum.item(), term.count.item()) == (0.0, 0)
        assert own.grad is not None and not own.grad.any()

    @every_loss
    def test_is_computed_in_full_precision_under_autocast(self, loss: Loss) -> None:
        own, other = states(0, dtype=torch.float32), states(1, dtype=torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(own, other, mask_of()).sum
        torch.testing.assert_close(inside, loss(own, other, mask_of()).sum)

    def test_mmd_takes_any_two_widths(self) -> None:
        term = nst_mmd(states(0), states(1).repeat(1, 1, 2), mask_of())
        torch.testing.assert_close(term.sum, nst_mmd(states(0), states(1), mask_of()).sum)

    def test_pkd_is_twice_cosine(self) -> None:
        own, other = states(0), states(1)
        torch.testing.assert_close(
            patient_distance(own, other, mask_of()).sum, 2 * cosine_distance(own, other, mask_of()).sum
        )

    def test_cosine_of_opposite_directions_is_two(self) -> None:
        torch.testing.assert_close(cosine_distance(states(0), -3 * states(0), mask_of()).sum.item(), 2.0 * N)


def weights(seed: int, heads: int = 2, queries: int = 5, keys: int = 5) -> Tensor:
    """Attention weights [B, heads, Q, K], zero at keys that are padding."""
    chance = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(len(LENGTHS), heads, queries, keys, generator=chance, dtype=torch.float64)
    padding = ~(mask_of(keys) | (torch.arange(keys) == 0))
    return scores.masked_fill(padding[:, None, None], -math.inf).softmax(-1)


def looped_attention(student: Tensor, teacher: Tensor, name: str) -> float:
    def distance(own: list[float], other: list[float]) -> float:
        if name == "mse":
            return sum((p - q) ** 2 for p, q in zip(own, other, strict=True))
        return sum(q * math.log(q / p) for p, q in zip(own, other, strict=True) if q > 0)

    heads = range(student.shape[1])
    own, other = student.tolist(), teacher.tolist()
    return sum(
        distance(own[b][h][t], other[b][h][t]) / len(heads)
        for b, length in enumerate(LENGTHS)
        for h in heads
        for t in range(length)
    )


ATTENTION: dict[str, Loss] = {"mse": attention_mse, "ce": attention_ce}
every_attention_loss = pytest.mark.parametrize("name", ATTENTION)


@every_attention_loss
class TestAttentionLosses:
    def test_equal_a_loop(self, name: str) -> None:
        own, other = weights(0), weights(1)
        term = ATTENTION[name](own, other, mask_of(), mask_of())
        assert term.count == N
        assert term.sum.item() == pytest.approx(looped_attention(own, other, name), rel=1e-9) and term.sum > 0.1

    def test_gradient(self, name: str) -> None:
        scores = torch.randn(4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        other = weights(1)
        padding = ~(mask_of() | (torch.arange(5) == 0))[:, None, None]

        def loss(scores: Tensor) -> Tensor:
            own = scores.masked_fill(padding, -math.inf).softmax(-1)
            return ATTENTION[name](own, other, mask_of(), mask_of()).sum

        assert torch.autograd.gradcheck(loss, scores.requires_grad_())

    def test_padding_of_queries_and_keys_changes_nothing(self, name: str) -> None:
        own, other = weights(0), weights(1)
        wide = [torch.cat([x, torch.rand(4, 2, 5, 3).double()], 3) for x in (own, other)]
        wide = [torch.cat([x, torch.rand(4, 2, 2, 8).double()], 2) for x in wide]
        padded = ATTENTION[name](*wide, mask_of(7), mask_of(8))
        term = ATTENTION[name](own, other, mask_of(), mask_of())
        torch.testing.assert_close(padded.sum, term.sum)
        assert padded.count == term.count

    def test_equal_weights_cost_nothing_and_the_teacher_takes_no_gradient(self, name: str) -> None:
        own = weights(0).requires_grad_()
        other = own.detach().clone().requires_grad_()
        term = ATTENTION[name](own, other, mask_of(), mask_of())
        term.sum.backward()
        assert abs(term.sum.item()) < 1e-12 and other.grad is None

    def test_weight_does_not_depend_on_the_number_of_heads(self, name: str) -> None:
        own, other = weights(0), weights(1)
        many = ATTENTION[name](own.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1), mask_of(), mask_of())
        torch.testing.assert_close(many.sum, ATTENTION[name](own, other, mask_of(), mask_of()).sum)

    def test_unequal_numbers_of_heads_are_compared_by_their_means(self, name: str) -> None:
        own, other = weights(0, heads=4), weights(1)
        got = ATTENTION[name](own, other, mask_of(), mask_of())
        means = (x.mean(1, keepdim=True) for x in (own, other))
        torch.testing.assert_close(got.sum, ATTENTION[name](*means, mask_of(), mask_of()).sum)

    def test_a_weight_of_the_student_that_underflows_leaves_all_finite(self, name: str) -> None:
        scores = torch.tensor([[[[0.0, -500.0]]]], requires_grad=True)
        one = torch.ones(1, 1)
        term = ATTENTION[name](scores.softmax(-1), torch.full((1, 1, 1, 2), 0.5), one, torch.ones(1, 2))
        gradient = torch.autograd.grad(term.sum, scores)[0]
        assert torch.isfinite(term.sum) and torch.isfinite(gradient).all()

    def test_opposite_attention_costs_at_most_two_at_any_length(self, name: str) -> None:
        if name == "ce":
            return
        for keys in (2, 50):
            own, other = torch.eye(keys)[:1], torch.eye(keys)[1:2]
            term = attention_mse(own[None, None], other[None, None], torch.ones(1, 1), torch.ones(1, keys))
            assert term.sum == 2
