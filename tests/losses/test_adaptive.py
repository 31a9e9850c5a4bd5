"""Temperatures of single tokens: by a loop, within bounds, and the same however rows are dealt out."""

import math
from typing import Any, Literal
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seq2seq_distill.losses import chunks as chunking
from seq2seq_distill.losses.adaptive import adaptive_temperature
from seq2seq_distill.models.forward import OutputHead
from tests.losses.test_fused import Case

Way = Literal["flsw", "cwsm"]
WAYS = ("flsw", "cwsm")
LABELLED = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()


def found(case: Case, way: Way, labelled: Tensor = LABELLED, temperature: float = 3.0, **options: Any) -> Tensor:
    student, teacher = zip(case.heads, case.hidden, strict=True)
    return adaptive_temperature(way, student, teacher, labelled, temperature, **options)


def hardness(way: str, own: list[float], other: list[float], exponent: float) -> float:
    if way == "cwsm":
        return 1 / (math.exp(max(own)) / sum(map(math.exp, own)) + 1e-3)
    dot = sum(a * b for a, b in zip(own, other, strict=True))
    cosine = dot / math.sqrt(sum(a * a for a in own) * sum(b * b for b in other))
    return (1 - cosine) ** exponent


@pytest.mark.parametrize("way", WAYS)
class TestEach:
    @pytest.mark.parametrize("exponent", [1.0, 2.0])
    @pytest.mark.parametrize("parts", [{}, {"softcap": 1.5}, {"scale": 0.5, "bias": False}])
    def test_equals_a_loop(self, way: Way, parts: dict[str, Any], exponent: float) -> None:
        case = Case(**parts)
        own, other = (head.logits(hidden).tolist() for head, hidden in zip(case.heads, case.hidden, strict=True))
        weights = [hardness(way, s, t, exponent) for s, t in zip(own, other, strict=True)]
        first, second = sum(weights[:3]) / 3, sum(weights[3:]) / 4  # of the first target, and of the last
        expected = [3 + 0.5 * (mean - w) for mean, w in zip([first] * 3 + [second] * 4, weights, strict=True)]
        with mock.patch.object(chunking, "chunk_rows", lambda *_: (3, 2)):
            ours = found(case, way, strength=0.5, exponent=exponent, bounds=(0.1, 50.0))
        assert ours.tolist() == pytest.approx(expected) and not ours.requires_grad

    @given(
        size=st.floats(0.1, 1e3),
        temperature=st.floats(1, 8),
        strength=st.floats(0, 1e4),
        exponent=st.floats(0.1, 9),
        bounds=st.tuples(st.floats(0.1, 1), st.floats(8, 20)),
    )
    def test_stays_within_its_bounds(
        self, way: Way, size: float, temperature: float, bounds: tuple[float, float], **options: float
    ) -> None:
        """H38: TextBrewer's reach -113."""
        case = Case(vocabulary=300, dtype=torch.float32, size=size)
        ours = found(case, way, temperature=temperature, bounds=bounds, **options)
        assert ours.isfinite().all()
        assert (ours >= torch.tensor(bounds[0])).all() and (ours <= torch.tensor(bounds[1])).all()

    def test_a_harder_token_has_a_lower_one(self, way: Way) -> None:
        """The student knows the first token and guesses at the second; the teacher knows both."""
        case = Case(2, 11, (11, 11), bias=False)
        case.heads = [OutputHead(torch.eye(11), None)] * 2
        case.hidden = [torch.zeros(2, 11), torch.zeros(2, 11)]
        case.hidden[0][0, 4] = case.hidden[1][:, 4] = 8.0
        case.hidden[0][1, 2] = 0.1
        easy, hard = found(case, way, torch.ones(1, 2, dtype=torch.bool), strength=0.2).tolist()
        assert hard < 3 < easy and hard + easy == pytest.approx(6)

    def test_depends_on_its_target_alone(self, way: Way) -> None:
        """So one process, two, and accumulated batches have the same; padding has none."""
        case, wide = Case(), torch.cat([LABELLED, torch.zeros(3, 5, dtype=torch.bool)], 1)
        whole = found(case, way)
        assert torch.equal(found(case, way, wide), whole)
        case.hidden = [hidden[3:] for hidden in case.hidden]
        torch.testing.assert_close(found(case, way, LABELLED[2:]), whole[3:])

    def test_of_no_positions(self, way: Way) -> None:
        assert found(Case(0), way, torch.zeros(2, 3, dtype=torch.bool)).shape == (0,)

    def test_equal_models_or_no_strength_change_nothing(self, way: Way) -> None:
        case = Case(widths=(3, 3))
        assert torch.equal(found(case, way, strength=0.0), torch.full((7,), 3.0, dtype=torch.float64))
        case.heads[1], case.hidden[1] = case.heads[0], case.hidden[0]
        if way == "flsw":
            torch.testing.assert_close(found(case, way), torch.full((7,), 3.0, dtype=torch.float64))
