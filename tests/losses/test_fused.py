"""The chunked head: the dense losses, their gradients, and what never exists."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import memory, step
from seq2seq_distill.config import ResolvedLossConfig
from seq2seq_distill.losses import chunks as chunking
from seq2seq_distill.losses.chunks import chunk_rows
from seq2seq_distill.losses.fused import HeadLoss, head_loss
from seq2seq_distill.losses.logits import Term, cross_entropy, kl_divergence
from seq2seq_distill.models.forward import OutputHead, output_head
from tests.losses.reference import entropy
from tests.tiny_models import families, tiny_model

BOTH = {"ce_loss": 0.8, "mlm_loss": 0.2}
MIXES = (BOTH, {"ce_loss": 0.8, "mlm_loss": 0.0}, {"ce_loss": 0.0, "mlm_loss": 0.2}, {"mlm_loss": 1.0}, {})


class Case:
    """Heads, hidden states and labels, drawn at random; the student's take a gradient."""

    def __init__(
        self,
        positions: int = 7,
        vocabulary: int = 11,
        widths: tuple[int, int] = (3, 4),
        *,
        dtype: torch.dtype = torch.float64,
        size: float = 1.0,
        bias: bool = True,
        **parts: Any,
    ) -> None:
        generator = torch.Generator().manual_seed(positions + vocabulary)

        def draw(*shape: int) -> Tensor:
            return (size * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)

        self.heads = [
            OutputHead(draw(vocabulary, width), draw(1, vocabulary) if bias else None, **parts) for width in widths
        ]
        self.hidden = [draw(positions, width) for width in widths]
        self.labels = torch.randint(vocabulary, (positions,), generator=generator)
        self.inputs = [self.hidden[0], self.heads[0].weight, *([self.heads[0].bias] if bias else [])]
        for tensor in self.inputs:
            tensor.requires_grad_()

    def chunked(self, weights: dict[str, float] = BOTH, *, alone: bool = False, **options: Any) -> HeadLoss:
        teacher = None if alone else (self.heads[1], self.hidden[1])
        return head_loss(self.heads[0], self.hidden[0], self.labels, weights, teacher, **options)

    def dense(
        self, weights: dict[str, float] = BOTH, temperature: float = 1.0, label_smoothing: float = 0.0
    ) -> HeadLoss:
        own, other = (head.logits(hidden) for head, hidden in zip(self.heads, self.hidden, strict=True))
        terms = {
            "ce_loss": kl_divergence(own, other, self.labels, temperature),
            "mlm_loss": cross_entropy(own, self.labels, label_smoothing),
            "teacher_entropy": entropy(other, self.labels),
        }
        return HeadLoss(sum((weights[name] * terms[name].sum for name in weights), own.sum() * 0), terms)


@pytest.fixture
def small_chunks() -> Iterator[None]:
    """Chunks of 3 positions, walked over by 2: neither divides the other, nor 7."""
    with chunks(3, 2):
        yield


def chunks(chunk: int, block: int) -> Any:
    return mock.patch.object(chunking, "chunk_rows", lambda *_: (chunk, block))


def assert_same(case: Case, chunked: HeadLoss, dense: HeadLoss, rtol: float = 1e-9) -> None:
    close = {"rtol": rtol, "atol": rtol}
    torch.testing.assert_close(chunked.loss, dense.loss, **close)
    for name, term in chunked.terms.items():
        assert term.count == dense.terms[name].count
        torch.testing.assert_close(term.sum, dense.terms[name].sum.detach(), **close)
    for own, other in zip(gradients(case, chunked.loss), gradients(case, dense.loss), strict=True):
        torch.testing.assert_close(own, other, **close)


def gradients(case: Case, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, case.inputs, materialize_grads=True))


@pytest.mark.usefixtures("small_chunks")
class TestEqualsTheDensePath:
    @pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0, 3.0])
    @pytest.mark.parametrize("weights", MIXES)
    def test_any_mix_of_terms(self, weights: dict[str, float], temperature: float) -> None:
        for smoothing, size in product((0.0, 0.1), (0.5, 5.0)):
            case = Case(size=size)
            chunked = case.chunked(weights, temperature=temperature, label_smoothing=smoothing, with_entropy=True)
            assert set(chunked.terms) == {"ce_loss", "mlm_loss", "teacher_entropy"}
            assert_same(case, chunked, case.dense(weights, temperature, smoothing))

    @pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
    @pytest.mark.parametrize(
        "parts", [{"bias": False}, {"scale": 0.25}, {"softcap": 1.5}, {"scale": 3.0, "softcap": 2.0, "bias": False}]
    )
    def test_any_head(self, parts: dict[str, Any], temperature: float) -> None:
        case = Case(**parts)
        options = {"temperature": temperature, "label_smoothing": 0.1}
        assert_same(case, case.chunked(**options), case.dense(**options))

    def test_without_a_teacher(self) -> None:
        case = Case()
        chunked = case.chunked({"mlm_loss": 2.0, "ce_loss": 1.0}, alone=True, temperature=3.0, label_smoothing=0.1)
        assert set(chunked.terms) == {"mlm_loss"}
        assert_same(case, chunked, case.dense({"mlm_loss": 2.0}, 1.0, 0.1))

    @families()
    def test_every_family(self, model_type: str) -> None:
        case = Case(vocabulary=64, widths=(16, 16), bias=False)
        models = [tiny_model(model_type, seed=seed).double().requires_grad_(False) for seed in (0, 1)]
        case.heads = [output_head(model) for model in models]
        case.inputs = [case.hidden[0], case.heads[0].weight.requires_grad_()]
        assert_same(case, case.chunked(temperature=2.0), case.dense(temperature=2.0))

    @given(
        st.integers(0, 9),
        st.integers(2, 40),
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        st.tuples(st.integers(1, 10), st.integers(1, 10)),
        st.floats(0.3, 8),
        st.sampled_from(MIXES),
        st.floats(0, 0.5),
    )
    def test_any_shape(
        self,
        positions: int,
        vocabulary: int,
        widths: tuple[int, int],
        rows: tuple[int, int],
        temperature: float,
        weights: dict[str, float],
        smoothing: float,
    ) -> None:
        case = Case(positions, vocabulary, widths)
        with chunks(max(rows), min(rows)):
            chunked = case.chunked(weights, temperature=temperature, label_smoothing=smoothing)
        assert_same(case, chunked, case.dense(weights, temperature, smoothing))

    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    def test_large_logits(self, temperature: float) -> None:
        """Where exp overflows or vanishes, chunk by chunk, also in fp32."""
        for offsets in ((300.0, 0.0), (0.0, -300.0), (-300.0, -300.0), (60.0, -60.0)):
            case = Case(dtype=torch.float32, size=3)
            case.heads = [
                replace(head, bias=(head.bias + offset).detach())  # type: ignore[operator]
                for head, offset in zip(case.heads, offsets, strict=True)
            ]
            case.inputs = case.inputs[:2]
            chunked = case.chunked(temperature=temperature)
            assert chunked.loss.isfinite()
            assert_same(case, chunked, case.dense(temperature=temperature), rtol=3e-4)

    def test_rows_of_a_chunk_may_differ_in_size(self) -> None:
        case = Case(dtype=torch.float32)
        with torch.no_grad():
            case.hidden[0][::2] *= 100
            case.hidden[1][1::2] *= 100
        assert_same(case, case.chunked(), case.dense(), rtol=1e-4)


class TestGradient:
    @pytest.mark.parametrize("temperature", [1.0, 1.7, 2.0])
    @pytest.mark.parametrize("weights", MIXES[:4])
    def test_is_the_derivative(self, weights: dict[str, float], temperature: float) -> None:
        case = Case(3, 5, softcap=4.0)

        def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            case.hidden[0] = hidden
            case.heads[0] = replace(case.heads[0], weight=weight, bias=bias)
            return case.chunked(weights, temperature=temperature, label_smoothing=0.1, scale=0.3).loss

        with chunks(2, 1):
            assert torch.autograd.gradcheck(loss, case.inputs)

    def test_of_a_bias_of_zeros(self) -> None:
        case = Case()
        with torch.no_grad():
            case.inputs[2].zero_()
        expected = gradients(case, case.dense().loss)
        torch.testing.assert_close(gradients(case, case.chunked().loss), expected)
        case.inputs.pop().requires_grad_(False)
        torch.testing.assert_close(gradients(case, case.chunked().loss), expected[:2])

    @pytest.mark.parametrize("scale", [0.25, torch.tensor(0.25)])
    def test_scale_and_upstream_gradient_multiply(self, scale: float | Tensor) -> None:
        case = Case()
        expected = gradients(case, case.dense().loss / 8)
        for own, other in zip(gradients(case, case.chunked(scale=scale).loss / 2), expected, strict=True):
            torch.testing.assert_close(own, other)

    def test_terms_are_not_scaled_and_take_none(self) -> None:
        case = Case()
        terms = case.chunked(scale=0.25).terms
        assert not any(term.sum.requires_grad for term in terms.values())
        torch.testing.assert_close(terms["ce_loss"].sum, case.dense().terms["ce_loss"].sum.detach())

    @pytest.mark.parametrize("factor", [1.0, 3.0])
    def test_may_be_asked_for_twice(self, factor: float) -> None:
        case = Case()
        loss = factor * case.chunked().loss
        loss.backward(retain_graph=True)
        once = [tensor.grad.clone() for tensor in case.inputs if tensor.grad is not None]
        loss.backward()
        for tensor, first in zip(case.inputs, once, strict=True):
            torch.testing.assert_close(tensor.grad, 2 * first)

    def test_adds_to_that_of_a_tied_embedding(self) -> None:
        case = Case(widths=(3, 3))
        weight = case.heads[0].weight
        for path in (case.chunked, case.dense):
            case.hidden[0] = torch.nn.functional.embedding(case.labels.flip(0), weight)
            path().loss.backward()
            case.inputs.append(weight.grad)  # type: ignore[arg-type]
            weight.grad = None
        torch.testing.assert_close(*case.inputs[-2:])

    def test_teacher_takes_none(self) -> None:
        case = Case()
        case.hidden[1].requires_grad_()
        case.heads[1].weight.requires_grad_()
        case.chunked().loss.backward()
        assert case.hidden[1].grad is None and case.heads[1].weight.grad is None

    def test_frozen_parts_cost_no_product(self) -> None:
        case = Case()
        everything = created(lambda: case.chunked().loss.backward())
        expected = gradients(case, case.dense().loss)[0]
        case.heads[0].weight.requires_grad_(False)
        case.heads[0].bias.requires_grad_(False)  # type: ignore[union-attr]
        frozen = created(lambda: case.chunked().loss.backward())
        torch.testing.assert_close(case.hidden[0].grad, 2 * expected)
        assert everything.count((11, 3)) > frozen.count((11, 3)) == 0

    def test_without_gradients_there_is_no_work_for_them(self) -> None:
        case = Case()
        with torch.no_grad(), mock.patch.object(chunking.Chunks, "products", side_effect=AssertionError):
            chunked = case.chunked(with_entropy=True)
        assert not chunked.loss.requires_grad
        torch.testing.assert_close(chunked.loss, case.dense().loss.detach())

    def test_of_weights_of_zero_is_zero_and_not_missing(self) -> None:
        """DDP waits for every gradient; a schedule may begin at 0."""
        case = Case()
        case.chunked({"ce_loss": 0.0, "mlm_loss": 0.0}).loss.backward()
        assert all(tensor.grad is not None and not tensor.grad.any() for tensor in case.inputs)

    @pytest.mark.parametrize("alone", [False, True])
    def test_of_no_positions_is_zero(self, alone: bool) -> None:
        case = Case(0)
        chunked = case.chunked(alone=alone, temperature=2.0)
        assert chunked.loss == 0 and all(term.sum == 0 and term.count == 0 for term in chunked.terms.values())
        assert all(gradient.eq(0).all() for gradient in gradients(case, chunked.loss))


class TestPrecision:
    @pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
    def test_fp32_equals_fp64_to_five_digits(self, temperature: float) -> None:
        exact, case = (Case(64, 5000, (16, 24), dtype=dtype, size=0.5) for dtype in (torch.float64, torch.float32))
        for name, term in case.chunked(temperature=temperature).terms.items():
            assert term.sum.item() == pytest.approx(
                exact.dense(temperature=temperature).terms[name].sum.item(), rel=1e-5
            )
        expected = gradients(exact, exact.dense(temperature=temperature).loss)
        for own, other in zip(gradients(case, case.chunked(temperature=temperature).loss), expected, strict=True):
            assert (own - other).norm() < 1e-5 * other.norm()

    @given(st.floats(0.5, 10), st.floats(0.1, 4))
    def test_equal_models_cost_nothing(self, temperature: float, size: float) -> None:
        case = Case(20, 300, (8, 8), dtype=torch.float32, size=size)
        case.heads[1], case.hidden[1] = case.heads[0], case.hidden[0].detach()
        with chunks(6, 4):
            chunked = case.chunked({"ce_loss": 1.0}, temperature=temperature)
        assert abs(mean(chunked.terms["ce_loss"]).item()) < 1e-6
        assert gradients(case, chunked.loss)[0].abs().max() < 1e-4 * temperature * size

    @pytest.mark.parametrize("autocast", [False, True])
    def test_bf16_products_are_summed_in_fp32(self, autocast: bool) -> None:
        """300 chunks: a sum of theirs in bf16 would be off by many times the error of a product."""
        dtype = torch.float32 if autocast else torch.bfloat16
        case, exact = (Case(300, 32, (16, 16), dtype=own, size=0.3) for own in (dtype, torch.float64))
        with chunks(1, 1), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            chunked = case.chunked(temperature=2.0)
        assert chunked.loss.dtype == torch.float32
        assert mean(chunked.terms["ce_loss"]).item() == pytest.approx(
            mean(exact.dense(temperature=2.0).terms["ce_loss"]).item(), rel=0.02
        )
        for own, other in zip(
            gradients(case, chunked.loss), gradients(exact, exact.dense(temperature=2.0).loss), strict=True
        ):
            assert own.dtype == dtype
            assert (own - other).norm() < 0.004 * other.norm()

    def test_teacher_may_be_of_lower_precision(self) -> None:
        case = Case(dtype=torch.float32)
        case.heads[1] = replace(case.heads[1], weight=case.heads[1].weight.bfloat16(), bias=None)
        case.hidden[1] = case.hidden[1].bfloat16()
        chunked, dense = case.chunked(), case.dense()
        torch.testing.assert_close(chunked.loss, dense.loss, rtol=1e-4, atol=1e-4)


class TestChunks:
    @given(st.integers(0, 10**5), st.integers(2, 300_000), st.sampled_from(["cpu", "cuda"]))
    def test_are_of_nearly_the_same_size_and_bounded(self, positions: int, vocabulary: int, device: str) -> None:
        chunk, block = chunk_rows(positions, vocabulary, device)
        assert 1 <= block <= chunk <= max(1, positions)
        assert chunk * vocabulary <= (2**25 if device == "cpu" else 2**27)
        number = -(-positions // chunk)
        assert number * chunk - positions < max(1, number)

    def test_no_tensor_is_as_large_as_the_batch_s_logits(self) -> None:
        case = Case(24, 50, (3, 4))
        with chunks(4, 2):
            shapes = created(lambda: case.chunked(temperature=2.0, label_smoothing=0.1).loss.backward())
        assert max(torch.Size(shape).numel() for shape in shapes) == 4 * 50
        assert max(torch.Size(shape).numel() for shape in created(lambda: case.dense())) == 24 * 50


class TestBenchmarks:
    @pytest.mark.parametrize("divergence", ["forward_kl", "jsd"])
    def test_step_compares_equal_losses(self, divergence: Any) -> None:
        loss = ResolvedLossConfig(temperature=2.0, divergence=divergence)
        line = step.compare(step.Shape(60, 2, 5, 3, 16), loss, rounds=1)
        assert line["ours_loss"] == pytest.approx(line["naive_loss"], rel=1e-5)
        assert line["naive_over_ours"] > 0 and line["ours_over_floor"] > 0  # type: ignore[operator]

    def test_memory_compares_with_the_exact_values(self) -> None:
        line = memory.measure(70, 300, 8, 2.0)
        assert all(line[name] < 1e-5 for name in line if name.endswith("_error"))  # type: ignore[operator]


class _Shapes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.shapes += [tuple(x.shape) for x in tree_leaves(result) if isinstance(x, Tensor)]
        return result


def created(call: Any) -> list[tuple[int, ...]]:
    """Shapes of all results on the way, views among them."""
    with _Shapes() as mode:
        call()
    return mode.shapes


def mean(term: Term) -> Tensor:
    return term.sum / term.count
