"""Chunk likelihoods: the formula, its limit, its gradient, and the chunked head."""

import math
from itertools import pairwise
from unittest import mock

import pytest
import torch
from torch import Tensor

from seq2seq_distill.losses import chunks as chunking
from seq2seq_distill.losses.chunk_likelihood import (
    LARGEST,
    ChunkTargets,
    binary_divergence,
    chunk_likelihood,
    cuts,
    slope,
)
from seq2seq_distill.losses.fused import head_loss
from seq2seq_distill.losses.logits import cross_entropy
from seq2seq_distill.losses.sparse import top_tokens
from seq2seq_distill.models.forward import OutputHead
from tests.losses.test_fused import BOTH, Case

NUMBERS = [-1, 0, 0, 1, 2, 2, 2, 2, -1, -1, 3, 4, -1]
"""Of two targets: special tokens, chunks of one to four tokens, a target that was cut."""


def targets(count: int = 5) -> ChunkTargets:
    generator = torch.Generator().manual_seed(3)
    logprobs = -4 * torch.rand(count, generator=generator, dtype=torch.float64)
    return ChunkTargets(torch.tensor([number if number < count else -1 for number in NUMBERS]), logprobs)


def dense(head: OutputHead, hidden: Tensor, labels: Tensor, chunks: ChunkTargets) -> tuple[Tensor, Tensor]:
    """Sums of cross-entropy and of chunk likelihoods, from whole logits."""
    logits = head.logits(hidden)
    own = logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]
    return cross_entropy(logits, labels, 0.1).sum, chunk_likelihood(own, chunks).sum


class TestFormula:
    def test_is_the_divergence_of_two_yes_or_no_distributions(self):
        student, teacher = [-0.3, -2.0, -11.0, -250.0], [-0.7, -2.0, -3.0, -90.0]
        for own, other in zip(student, teacher, strict=True):
            p, q = math.exp(other / 100), math.exp(own / 100)
            expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
            found = binary_divergence(*torch.tensor([[own], [other]], dtype=torch.float64))
            assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-12)

    def test_adds_up_the_tokens_of_a_chunk(self):
        own = -torch.rand(len(NUMBERS), dtype=torch.float64)
        chunks = targets()
        sums = [sum(float(x) for x, n in zip(own, NUMBERS, strict=True) if n == number) for number in range(5)]
        expected = binary_divergence(torch.tensor(sums, dtype=torch.float64), chunks.log_probabilities).sum()
        term = chunk_likelihood(own, chunks)
        assert float(term.sum) == pytest.approx(float(expected), rel=1e-9)
        assert int(term.count) == 5

    def test_is_zero_for_equal_likelihoods(self):
        own = -torch.rand(len(NUMBERS))
        sums = torch.zeros(5).index_add(0, torch.tensor(NUMBERS).clamp(min=0), own * (torch.tensor(NUMBERS) >= 0))
        assert float(chunk_likelihood(own, ChunkTargets(torch.tensor(NUMBERS), sums)).sum) == pytest.approx(0, abs=1e-8)

    def test_of_equal_tokenisations_tends_to_the_limit_token_by_token(self):
        own, other = -3 * torch.rand(6, dtype=torch.float64) - 0.1, -3 * torch.rand(6, dtype=torch.float64) - 0.1
        limit = ((other - own) + other * ((-own).log() - (-other).log())).sum()
        found = chunk_likelihood(own, ChunkTargets(torch.arange(6), other), temperature=1e5)
        assert float(found.sum * 1e5) == pytest.approx(float(limit), rel=1e-3)

    def test_has_the_right_gradient(self):
        own = (-3 * torch.rand(len(NUMBERS), dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: chunk_likelihood(x, targets()).sum, own)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_slope_is_that_of_the_divergence(self, dtype):
        student = torch.tensor([-1e-3, -0.5, -2.0, -40.0, -900.0, 0.0, -5.0], dtype=dtype, requires_grad=True)
        teacher = torch.tensor([-2.0, -0.5001, -1.0, -3.0, -5.0, -3.0, 0.0], dtype=dtype)
        (expected,) = torch.autograd.grad(binary_divergence(student, teacher).sum(), student)
        assert slope(student.detach(), teacher).tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-9)

    def test_certain_and_impossible_chunks_give_finite_numbers(self):
        student = torch.tensor([0.0, 0.0, -1e5, -1e5, LARGEST], requires_grad=True)
        teacher = torch.tensor([0.0, -1e5, 0.0, -1e5, LARGEST])
        loss = binary_divergence(student, teacher)
        (gradient,) = torch.autograd.grad(loss.sum(), student)
        assert loss.isfinite().all() and (loss > -1e-6).all() and gradient.isfinite().all()
        assert slope(student.detach(), teacher).isfinite().all()


class TestHead:
    @pytest.fixture(params=[(3, 2), (5, 4), (64, 64)])
    def small_blocks(self, request):
        """Chunks of positions and blocks that the longest chunk of text, of 4 tokens, does not fit, or hardly."""
        with mock.patch.object(chunking, "chunk_rows", lambda positions, vocabulary, device: request.param):
            yield

    @pytest.mark.parametrize("mlm", [0.7, 0.0])
    def test_equals_the_dense_losses(self, small_blocks, mlm):
        case, chunks = Case(len(NUMBERS)), targets()
        weights = {"mlm_loss": mlm, "chunk_loss": 30.0}
        found = case.chunked(weights, alone=True, chunks=chunks, tokens_per_chunk=2.6, label_smoothing=0.1, scale=0.5)
        ce, chunk = dense(case.heads[0], case.hidden[0], case.labels, chunks)
        expected = (mlm * ce + 30.0 * 2.6 * chunk) * 0.5
        assert float(found.terms["chunk_loss"].sum) == pytest.approx(chunk.item())
        assert (int(found.terms["chunk_loss"].count), int(found.terms["mlm_loss"].count)) == (5, len(NUMBERS))
        assert float(found.loss) == pytest.approx(float(expected))
        for own, other in zip(
            torch.autograd.grad(found.loss, case.inputs), torch.autograd.grad(expected, case.inputs), strict=True
        ):
            torch.testing.assert_close(own, other)

    def test_has_the_right_gradient(self, small_blocks):
        case, chunks = Case(len(NUMBERS), vocabulary=6), targets()

        def loss(*_: Tensor) -> Tensor:
            return case.chunked({"mlm_loss": 0.0, "chunk_loss": 50.0}, alone=True, chunks=chunks).loss

        assert torch.autograd.gradcheck(loss, tuple(case.inputs))

    @pytest.mark.parametrize("teacher", ["whole", "sparse"])
    @pytest.mark.parametrize("temperature", [1.0, 2.0])
    def test_is_added_to_what_a_teacher_in_the_run_says(self, teacher, temperature):
        case, chunks = Case(len(NUMBERS)), targets()
        distributions = (case.heads[1], case.hidden[1])
        if teacher == "sparse":
            distributions = top_tokens((case.heads[1].logits(case.hidden[1]) / temperature).log_softmax(-1), 4)

        def loss(weights: dict[str, float], **options: ChunkTargets) -> Tensor:
            head, hidden = case.heads[0], case.hidden[0]
            return head_loss(head, hidden, case.labels, weights, distributions, temperature=temperature, **options).loss

        together = loss({**BOTH, "chunk_loss": 9.0}, chunks=chunks)
        apart = loss(BOTH) + 9 * dense(case.heads[0], case.hidden[0], case.labels, chunks)[1]
        assert float(together) == pytest.approx(float(apart))
        for own, other in zip(
            torch.autograd.grad(together, case.inputs), torch.autograd.grad(apart, case.inputs), strict=True
        ):
            torch.testing.assert_close(own, other)

    def test_without_chunks_adds_nothing(self):
        case, none = Case(len(NUMBERS)), ChunkTargets(torch.full((len(NUMBERS),), -1), torch.zeros(0))
        found = case.chunked({"mlm_loss": 1.0, "chunk_loss": 9.0}, alone=True, chunks=none)
        assert float(found.loss) == pytest.approx(float(case.chunked({"mlm_loss": 1.0}, alone=True).loss))
        assert (float(found.terms["chunk_loss"].sum), int(found.terms["chunk_loss"].count)) == (0, 0)

    def test_without_labels_gives_zero_and_finite_gradients(self):
        case = Case(0)
        none = ChunkTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        found = case.chunked({"mlm_loss": 1.0, "chunk_loss": 9.0}, alone=True, chunks=none)
        gradients = torch.autograd.grad(found.loss, case.inputs)
        assert float(found.loss) == 0 and all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_no_chunk_is_cut():
    places = [0, *cuts(torch.tensor(NUMBERS))]
    parts = [NUMBERS[first:last] for first, last in pairwise(places)]
    assert parts == [[-1], [0, 0], [1], [2, 2, 2, 2], [-1], [-1], [3], [4], [-1]]
