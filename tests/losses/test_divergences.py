"""Divergences: their definitions in a loop, dense and chunked, whole and by some tokens; their gradients and limits."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from seq2seq_distill.config import DivergenceName
from seq2seq_distill.losses.divergences import DIVERGENCES, Divergences, divergence
from seq2seq_distill.losses.fused import HeadLoss, head_loss
from seq2seq_distill.losses.logits import Term, cross_entropy, kl_divergence
from seq2seq_distill.losses.sparse import SparseTeacher, as_outcomes, outcomes, top_tokens
from seq2seq_distill.utils.constants import IGNORE_INDEX
from tests.losses.reference import entropy
from tests.losses.test_fused import BOTH, Case, assert_same, chunks, created, gradients

BETA, SKEW = 0.3, 0.2
SUM = {"forward_kl": 0.5, "reverse_kl": 1.5, "mse": 0.25}
SOFTENED = [name for name, row in DIVERGENCES.items() if not row.of_logits]
TEMPERATURES = [0.7, 1.0, 2.0]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def mixed(share: float, a: list[float], b: list[float]) -> list[float]:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


# Of the teacher's distribution p and the student's q.
DEFINITIONS: dict[str, Callable[[list[float], list[float]], float]] = {
    "forward_kl": kl,
    "reverse_kl": lambda p, q: kl(q, p),
    "jsd": lambda p, q: BETA * kl(p, mixed(BETA, p, q)) + (1 - BETA) * kl(q, mixed(BETA, p, q)),
    "total_variation": lambda p, q: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    "skewed_forward_kl": lambda p, q: kl(p, mixed(SKEW, p, q)),
    "skewed_reverse_kl": lambda p, q: kl(q, mixed(SKEW, q, p)),
}
FACTORS = dict.fromkeys(DEFINITIONS, 2) | {"total_variation": 1}


def softmax(row: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(x / temperature) for x in row]
    return [x / sum(exponentials) for x in exponentials]


def looped(name: str, own: Tensor, other: Tensor, temperature: float) -> float:
    """Over all rows of two float64 matrices."""
    total = 0.0
    for s, t in zip(own.tolist(), other.tolist(), strict=True):
        if name == "mse":
            total += sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)
        else:
            distance = DEFINITIONS[name](softmax(t, temperature), softmax(s, temperature))
            total += temperature ** FACTORS[name] * distance
    return total


def pair(
    *shape: int, outcomes: int = 7, dtype: torch.dtype = torch.float64, size: float = 2.0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(outcomes)
    own, other = size * torch.randn(2, *shape, outcomes, generator=generator, dtype=torch.float64)
    return own.to(dtype), other.to(dtype)


def of(name: str, own: Tensor, other: Tensor, temperature: float = 1.0, **options: float) -> Term:
    labels = torch.zeros(own.shape[:-1], dtype=torch.int64)
    return divergence(own, other, labels, name, temperature, **{"beta": BETA, "skew": SKEW, **options})


def chunked(case: Case, weights: dict[str, float], mix: dict[str, float] = BOTH, **options: Any) -> HeadLoss:
    return case.chunked(mix, divergences=Divergences(weights, BETA, SKEW), **options)


def dense(case: Case, weights: dict[str, float], mix: dict[str, float] = BOTH, **options: Any) -> HeadLoss:
    """The same from the dense functions, by autograd."""
    temperature, smoothing = options.get("temperature", 1.0), options.get("label_smoothing", 0.0)
    own, other = (head.logits(hidden) for head, hidden in zip(case.heads, case.hidden, strict=True))
    parts = {name: of(name, own, other, temperature) for name in weights}
    count = torch.tensor(len(own))
    terms = {
        **parts,
        "ce_loss": Term(torch.stack([weights[name] * part.sum for name, part in parts.items()]).sum(), count),
        "mlm_loss": cross_entropy(own, case.labels, smoothing),
        "teacher_entropy": entropy(other, case.labels),
    }
    return HeadLoss(sum((mix[name] * terms[name].sum for name in mix), own.sum() * 0), terms)


def test_the_options_are_the_table():
    assert get_args(DivergenceName) == tuple(DIVERGENCES)
    assert {*DEFINITIONS, "mse"} == {*DIVERGENCES}


@pytest.mark.parametrize("name", DIVERGENCES)
class TestEach:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_equals_a_loop(self, name: str, temperature: float) -> None:
        own, other = pair(11)
        expected = looped(name, own, other, temperature)
        assert of(name, own, other, temperature).sum.item() == pytest.approx(expected, rel=1e-9)
        narrow = of(name, own.float(), other.float(), temperature).sum
        assert narrow.dtype == torch.float32 and narrow.item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_gradient(self, name: str, temperature: float) -> None:
        own, other = pair(2, 3)
        assert torch.autograd.gradcheck(lambda s: of(name, s, other, temperature).sum, own.requires_grad_())

    def test_teacher_takes_no_gradient(self, name: str) -> None:
        own, other = (each.requires_grad_() for each in pair(3))
        of(name, own, other).sum.backward()
        assert own.grad is not None and other.grad is None

    @given(st.floats(0.2, 20), st.floats(0.1, 30), st.integers(2, 300))
    def test_equal_models_cost_nothing(self, name: str, temperature: float, size: float, vocabulary: int) -> None:
        own, _ = pair(5, outcomes=vocabulary, dtype=torch.float32, size=size)
        term = of(name, own.requires_grad_(), own.detach().clone(), temperature)
        assert abs(term.sum.item() / 5) < 1e-6 * temperature**2
        assert torch.autograd.grad(term.sum, own)[0].abs().max() < 1e-5 * temperature

    @given(st.floats(0.2, 20), st.floats(0.1, 300), st.integers(2, 40))
    def test_is_never_negative_and_finite(self, name: str, temperature: float, size: float, vocabulary: int) -> None:
        """Logits of 300 at a temperature of 0.2: probabilities that fp32 does not hold."""
        own, other = pair(5, outcomes=vocabulary, dtype=torch.float32, size=size)
        term = of(name, own.requires_grad_(), other, temperature)
        assert term.sum.isfinite() and term.sum > -1e-5 * temperature**2
        assert torch.autograd.grad(term.sum, own)[0].isfinite().all()

    @given(st.integers(1, 9), st.floats(-1e4, 1e4))
    def test_padding_changes_nothing(self, name: str, columns: int, noise: float) -> None:
        own, other = pair(3, 5)
        labels = torch.zeros(3, 5, dtype=torch.int64)
        labels[1:, 3:] = IGNORE_INDEX
        garbage = torch.full((3, columns, 7), noise)
        wide = [torch.cat([own, garbage], 1).requires_grad_(), torch.cat([other, -garbage], 1)]
        padded = divergence(*wide, F.pad(labels, (0, columns), value=IGNORE_INDEX), name, 2.0)
        expected = divergence(own.requires_grad_(), other, labels, name, 2.0)
        assert padded.count == expected.count == 11
        torch.testing.assert_close(padded.sum, expected.sum)
        found, (gradient,) = torch.autograd.grad(padded.sum, wide[0])[0], torch.autograd.grad(expected.sum, own)
        assert not found[:, 5:].any()
        torch.testing.assert_close(found[:, :5], gradient)

    def test_an_empty_batch_gives_zero(self, name: str) -> None:
        own = pair(2, 3)[0].requires_grad_()
        term = divergence(own, own, torch.full((2, 3), IGNORE_INDEX), name)
        assert (term.sum.item(), term.count.item()) == (0.0, 0)
        assert torch.equal(torch.autograd.grad(term.sum, own)[0], torch.zeros(2, 3, 7, dtype=torch.float64))

    def test_its_factor_keeps_the_gradient_s_scale(self, name: str) -> None:
        """H34: at temperatures so high that distributions are almost uniform, it depends on them no more."""
        own, other = pair(4)

        def gradient(temperature: float) -> Tensor:
            free = own.clone().requires_grad_()
            return torch.autograd.grad(of(name, free, other, temperature).sum, free)[0]

        torch.testing.assert_close(gradient(1e3), gradient(1e4), rtol=0.02, atol=1e-4)
        assert gradient(1e4).norm() > 0.1


class TestRelations:
    own, other = pair(6)

    def same(self, one: Term | Tensor, two: Term | Tensor, **close: float) -> None:
        torch.testing.assert_close(*(each.sum if isinstance(each, Term) else each for each in (one, two)), **close)

    def test_forward_kl_is_kl_divergence(self) -> None:
        labels = torch.zeros(6, dtype=torch.int64)
        self.same(of("forward_kl", self.own, self.other, 2.0), kl_divergence(self.own, self.other, labels, 2.0))

    def test_reverse_kl_is_forward_kl_with_the_roles_exchanged(self) -> None:
        self.same(of("reverse_kl", self.own, self.other, 2.0), of("forward_kl", self.other, self.own, 2.0))

    @pytest.mark.parametrize("way", ["forward", "reverse"])
    def test_no_skew_is_kl(self, way: str) -> None:
        own, other = self.own.clone().requires_grad_(), self.other
        plain, skewed = (of(name, own, other, skew=0.0).sum for name in (f"{way}_kl", f"skewed_{way}_kl"))
        self.same(plain, skewed)
        torch.testing.assert_close(*(torch.autograd.grad(loss, own)[0] for loss in (plain, skewed)))

    def test_jsd_is_symmetric_in_the_middle(self) -> None:
        self.same(of("jsd", self.own, self.other, beta=0.5), of("jsd", self.other, self.own, beta=0.5))
        assert of("jsd", self.own, self.other, beta=0.2).sum != of("jsd", self.other, self.own, beta=0.2).sum

    @given(st.floats(0.01, 0.99))
    def test_jsd_with_the_roles_exchanged_has_the_other_beta(self, beta: float) -> None:
        self.same(of("jsd", self.own, self.other, beta=beta), of("jsd", self.other, self.own, beta=1 - beta))

    def test_limits_of_jsd_are_the_two_kls(self) -> None:
        small = 1e-6
        forward = of("jsd", self.own, self.other, beta=small).sum / small
        reverse = of("jsd", self.own, self.other, beta=1 - small).sum / small
        self.same(forward, of("forward_kl", self.own, self.other).sum, rtol=1e-3, atol=0)
        self.same(reverse, of("reverse_kl", self.own, self.other).sum, rtol=1e-3, atol=0)

    def test_bounds(self) -> None:
        """Of opposite certainties: where KL is 200 nats, these cannot grow further."""
        own, other = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])
        middle = -math.log(BETA) * BETA - math.log(1 - BETA) * (1 - BETA)
        assert of("jsd", own, other).sum.item() == pytest.approx(middle)
        assert of("total_variation", own, other).sum.item() == 1
        assert of("skewed_forward_kl", own, other).sum.item() == pytest.approx(-math.log(SKEW))
        assert of("skewed_reverse_kl", own, other).sum.item() == pytest.approx(-math.log(SKEW))
        assert of("forward_kl", own, other).sum.item() == of("reverse_kl", own, other).sum.item() == 200

    def test_at_high_temperature_all_kls_are_halves_of_squared_centred_logits(self) -> None:
        """KL tends to |s - t|^2 / (2 V) of centred logits, which is half the `mse`; the others to a share of it."""
        own, other = (each - each.mean(-1, keepdim=True) for each in (self.own, self.other))
        half = of("mse", own, other).sum / 2
        shares = {"skewed_forward_kl": (1 - SKEW) ** 2, "skewed_reverse_kl": (1 - SKEW) ** 2, "jsd": BETA * (1 - BETA)}
        for name in set(SOFTENED) - {"total_variation"}:
            self.same(of(name, own, other, 1e4).sum, half * shares.get(name, 1.0), rtol=2e-3, atol=0)
        absolute = (own - other).abs().mean(-1).sum() / 2
        self.same(of("total_variation", own, other, 1e4).sum, absolute, rtol=2e-3, atol=0)


@pytest.fixture
def small_chunks() -> Any:
    """Chunks of 3 positions, walked over by 2: neither divides the other, nor 7."""
    with chunks(3, 2):
        yield


MIXTURES = [*({name: 1.0} for name in DIVERGENCES if name != "forward_kl"), {"forward_kl": 2.0}, SUM]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("weights", MIXTURES, ids="+".join)
class TestChunked:
    @pytest.mark.parametrize("temperature", TEMPERATURES)
    def test_equals_dense(self, weights: dict[str, float], temperature: float) -> None:
        for mix in (BOTH, {"ce_loss": 1.0}, {"ce_loss": 0.0, "mlm_loss": 0.2}):
            case, options = Case(), {"temperature": temperature, "label_smoothing": 0.1}
            ours = chunked(case, weights, mix, with_entropy=True, **options)
            assert set(ours.terms) == {"ce_loss", "mlm_loss", "teacher_entropy", *(weights if len(weights) > 1 else ())}
            assert_same(case, ours, dense(case, weights, mix, **options))

    @pytest.mark.parametrize(
        "parts", [{"bias": False}, {"scale": 0.25}, {"softcap": 1.5}, {"scale": 3.0, "softcap": 2.0, "bias": False}]
    )
    def test_any_head(self, weights: dict[str, float], parts: dict[str, Any]) -> None:
        case = Case(**parts)
        assert_same(case, chunked(case, weights, temperature=2.0), dense(case, weights, temperature=2.0))

    def test_equals_a_loop(self, weights: dict[str, float]) -> None:
        case = Case()
        own, other = (head.logits(hidden) for head, hidden in zip(case.heads, case.hidden, strict=True))
        expected = sum(weight * looped(name, own, other, 2.0) for name, weight in weights.items())
        found = chunked(case, weights, temperature=2.0).terms["ce_loss"].sum.item()
        assert found == pytest.approx(expected, rel=1e-9)

    def test_gradient(self, weights: dict[str, float]) -> None:
        case = Case(3, 5, softcap=4.0)

        def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            case.hidden[0] = hidden
            case.heads[0] = replace(case.heads[0], weight=weight, bias=bias)
            return chunked(case, weights, temperature=1.7, label_smoothing=0.1, scale=0.3).loss

        assert torch.autograd.gradcheck(loss, case.inputs)

    def test_large_logits(self, weights: dict[str, float]) -> None:
        case = Case(dtype=torch.float32, size=6)
        ours = chunked(case, weights, temperature=2.0)
        assert ours.loss.isfinite()
        assert_same(case, ours, dense(case, weights, temperature=2.0), rtol=3e-4)

    def test_bf16(self, weights: dict[str, float]) -> None:
        case, exact = (Case(60, 32, (16, 16), dtype=dtype, size=0.3) for dtype in (torch.bfloat16, torch.float64))
        ours = chunked(case, weights, temperature=2.0)
        assert ours.loss.dtype == torch.float32
        expected = gradients(exact, dense(exact, weights, temperature=2.0).loss)
        for own, other in zip(gradients(case, ours.loss), expected, strict=True):
            assert (own - other).norm() < 0.03 * other.norm()

    def test_of_no_positions_is_zero(self, weights: dict[str, float]) -> None:
        case = Case(0)
        ours = chunked(case, weights, temperature=2.0)
        assert ours.loss == 0 and all(gradient.eq(0).all() for gradient in gradients(case, ours.loss))

    def test_a_temperature_for_each_position(self, weights: dict[str, float]) -> None:
        """The loss is the sum of those of single positions."""
        case = Case(softcap=4.0)
        temperatures = torch.linspace(0.7, 3, 7, dtype=torch.float64)
        ours = chunked(case, weights, temperature=temperatures)
        own, other = (head.logits(hidden) for head, hidden in zip(case.heads, case.hidden, strict=True))
        ce = [
            weight * of(name, own[i : i + 1], other[i : i + 1], t).sum
            for name, weight in weights.items()
            for i, t in enumerate(temperatures.tolist())
        ]
        loss = 0.8 * torch.stack(ce).sum() + 0.2 * cross_entropy(own, case.labels).sum
        torch.testing.assert_close(ours.loss, loss)
        for mine, theirs in zip(gradients(case, ours.loss), gradients(case, loss), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_no_tensor_is_as_large_as_the_batch_s_logits() -> None:
    case = Case(24, 50, (3, 4))
    with chunks(4, 2):
        shapes = created(lambda: chunked(case, SUM, temperature=2.0, label_smoothing=0.1).loss.backward())
    assert max(torch.Size(shape).numel() for shape in shapes) == 4 * 50


def cached(case: Case, k: int, temperature: float = 1.0) -> SparseTeacher:
    """What a cache in float32 would hold, but in float64."""
    return top_tokens((case.heads[1].logits(case.hidden[1]) / temperature).log_softmax(-1), k)


def of_cached(case: Case, teacher: SparseTeacher, weights: dict[str, float], **options: Any) -> HeadLoss:
    divergences = Divergences(weights, BETA, SKEW)
    return head_loss(case.heads[0], case.hidden[0], case.labels, BOTH, teacher, divergences=divergences, **options)


@pytest.mark.usefixtures("small_chunks")
class TestCached:
    BESIDE = {"forward_kl": 0.5, "total_variation": 2.0}
    CACHED = [*({name: 1.0} for name in SOFTENED), BESIDE]

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize("weights", CACHED, ids="+".join)
    def test_of_the_whole_vocabulary_is_dense(self, weights: dict[str, float], temperature: float) -> None:
        case, options = Case(), {"temperature": temperature, "label_smoothing": 0.1}
        ours = of_cached(case, cached(case, 11, temperature), weights, **options)
        assert_same(case, ours, dense(case, weights, **options))

    @pytest.mark.parametrize("k", [1, 4, 10])
    @pytest.mark.parametrize("name", SOFTENED)
    def test_is_the_divergence_of_tokens_and_rest(self, name: str, k: int) -> None:
        """By a loop over k + 1 outcomes."""
        case = Case()
        teacher = cached(case, k, 2.0)
        own = (case.heads[0].logits(case.hidden[0]) / 2.0).softmax(-1)
        total = 0.0
        for q, ids, p, rest in zip(
            own.tolist(), teacher.ids.tolist(), *(x.tolist() for x in teacher[1:3]), strict=True
        ):
            others = sum(x for i, x in enumerate(q) if i not in ids)
            total += DEFINITIONS[name]([*p, rest], [*(q[i] for i in ids), others])
        found = of_cached(case, teacher, {name: 1.0}, temperature=2.0).terms["ce_loss"].sum.item()
        assert found == pytest.approx(total * 2.0 ** FACTORS[name], rel=1e-9)

    @pytest.mark.parametrize("weights", CACHED, ids="+".join)
    def test_gradient(self, weights: dict[str, float]) -> None:
        case = Case(3, 6)
        teacher = cached(case, 2)

        def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            case.hidden[0] = hidden
            case.heads[0] = replace(case.heads[0], weight=weight, bias=bias)
            return of_cached(case, teacher, weights, temperature=1.7).loss

        assert torch.autograd.gradcheck(loss, case.inputs)

    def test_forward_kl_is_that_of_the_fast_way(self) -> None:
        """A sum of one is computed by the fast way, with another of weight 0 by the plain one."""
        case = Case()
        fast, plain = (
            of_cached(case, cached(case, 4), {"forward_kl": 1.0, **more}) for more in ({}, {"reverse_kl": 0.0})
        )
        torch.testing.assert_close(fast.loss, plain.loss)
        for own, other in zip(gradients(case, fast.loss), gradients(case, plain.loss), strict=True):
            torch.testing.assert_close(own, other)

    @pytest.mark.parametrize("name", SOFTENED)
    def test_grows_towards_the_dense_one(self, name: str) -> None:
        """Outcomes that are told apart can only add to a divergence."""
        case = Case()
        sums = [of_cached(case, cached(case, k), {name: 1.0}).terms["ce_loss"].sum.item() for k in range(1, 12)]
        assert sums == pytest.approx(sorted(sums), rel=1e-12)
        assert sums[-1] == pytest.approx(dense(case, {name: 1.0}).terms["ce_loss"].sum.item())

    @pytest.mark.parametrize("name", SOFTENED)
    @pytest.mark.parametrize("size", [0.1, 30.0])
    def test_stays_finite_where_one_model_gives_nothing(self, name: str, size: float) -> None:
        case = Case(dtype=torch.float32, size=size)
        teacher = cached(case, 2)
        teacher = SparseTeacher(*(column.detach() for column in teacher))
        nothing = teacher._replace(rest=torch.zeros_like(teacher.rest))
        for each in (teacher, nothing):
            loss = of_cached(case, each, {name: 1.0})
            assert loss.loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients(case, loss.loss))

    def test_outcomes_of_both_models_add_up_to_one(self) -> None:
        case = Case()
        teacher = cached(case, 4)
        own = outcomes(case.heads[0].logits(case.hidden[0]).log_softmax(-1), teacher)
        for each in (own, as_outcomes(teacher)):
            assert each.shape == (7, 5)
            torch.testing.assert_close(each.exp().sum(-1), torch.ones(7, dtype=torch.float64))
