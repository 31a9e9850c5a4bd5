"""Temperature and weights by the step: start, middle, end, and bounds."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.config import LossConfig, ScheduleConfig, WeightSchedule
from seq2seq_distill.modules.schedules import progress, temperature_at, weight_factor

COURSES = get_args(WeightSchedule)


def loss(schedule: str, first: float = 4.0, last: float = 1.0) -> LossConfig:
    return LossConfig(temperature=first, schedule=ScheduleConfig(temperature=schedule, temperature_end=last))  # type: ignore[arg-type]


class TestTemperature:
    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [
            ("constant", [4.0, 4.0, 4.0, 4.0, 4.0]),
            ("linear", [4.0, 3.25, 2.5, 1.75, 1.0]),
            ("cosine", [4.0, 2.5 + 1.5 / math.sqrt(2), 2.5, 2.5 - 1.5 / math.sqrt(2), 1.0]),
            ("flsw", [4.0, 4.0, 4.0, 4.0, 4.0]),
        ],
    )
    def test_from_the_first_step_to_the_last(self, schedule: str, expected: list[float]) -> None:
        assert [temperature_at(loss(schedule), step, 5) for step in range(5)] == pytest.approx(expected)

    @pytest.mark.parametrize("schedule", ["linear", "cosine"])
    def test_stays_after_the_end(self, schedule: str) -> None:
        assert temperature_at(loss(schedule), 9, 5) == pytest.approx(1.0)

    @given(
        st.sampled_from(["linear", "cosine"]),
        st.floats(0.01, 100),
        st.floats(0.01, 100),
        st.integers(0, 300),
        st.integers(1, 200),
    )
    def test_stays_between_its_ends(self, schedule: str, first: float, last: float, step: int, total: int) -> None:
        """H38: never out of a range that is known beforehand."""
        found = temperature_at(loss(schedule, first, last), step, total)
        assert min(first, last) * (1 - 1e-12) <= found <= max(first, last) * (1 + 1e-12)

    @given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(2, 200))
    def test_goes_one_way(self, first: float, last: float, total: int) -> None:
        for schedule in ("linear", "cosine"):
            found = [temperature_at(loss(schedule, first, last), step, total) for step in range(total)]
            rising = sorted(found, reverse=last < first)
            assert found == pytest.approx(rising, rel=1e-12)


class TestWeights:
    @pytest.mark.parametrize(
        ("course", "expected"),
        [
            ("constant", [1, 1, 1, 1, 1]),
            ("linear_growth", [0, 0.25, 0.5, 0.75, 1]),
            ("linear_decay", [1, 0.75, 0.5, 0.25, 0]),
            ("warmup", [0, 0.5, 1, 1, 1]),
        ],
    )
    def test_from_the_first_step_to_the_last(self, course: WeightSchedule, expected: list[float]) -> None:
        assert [weight_factor(course, step, 5, 2) for step in range(5)] == pytest.approx(expected)

    @given(st.sampled_from(COURSES), st.integers(0, 300), st.integers(1, 200), st.integers(0, 300))
    def test_is_a_share(self, course: WeightSchedule, step: int, total: int, warmup: int) -> None:
        assert 0 <= weight_factor(course, step, total, warmup) <= 1

    def test_without_a_warmup_is_whole_at_once(self) -> None:
        assert [weight_factor("warmup", step, 5, 0) for step in range(3)] == [1, 1, 1]


@given(st.integers(1, 10**6))
def test_the_last_step_is_the_end(total: int) -> None:
    assert progress(0, total) == 0
    assert progress(total, total) == 1
    assert total == 1 or progress(total - 1, total) == 1
