"""Layouts of a student: their costs predicted from few, and the choice among them."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.commands.plan.layouts import (
    Axes,
    Cost,
    Layout,
    Measured,
    Target,
    encoder_steps,
    evenly,
    frontier,
    halved,
)
from seq2seq_distill.commands.plan.prediction import Predictor, Samples
from seq2seq_distill.commands.plan.selection import find_contenders

TEACHER = Layout(12, 12, 4096, 4096, 16, 50_000)
AXES = Axes((12, 6, 3), (12, 6, 3, 2, 1), ((4096, 4096), (2048, 2048), (1024, 1024)), (16, 8), (50_000, 20_000))


def cost(layout: Layout, teacher: Layout = TEACHER) -> Cost:
    """By a sum of the kind that a predictor assumes."""

    def total(each: Layout, *weights: float) -> float:
        constant, encoder, decoder, token = weights
        block = (each.encoder_ffn_dim + 500 * (each.num_heads or 0), each.decoder_ffn_dim + 700 * (each.num_heads or 0))
        layers = each.encoder_layers * encoder * block[0] + each.decoder_layers * decoder * block[1]
        return constant + layers + token * each.vocabulary

    seconds = total(layout, 9.0, 1e-4, 2e-3, 1e-4) / total(teacher, 9.0, 1e-4, 2e-3, 1e-4)
    size = round(total(layout, 100, 3, 4, 5))
    return Cost(layout, size, 4 * size, 50 * seconds, 1 / seconds)


def measured(layout: Layout) -> Measured:
    expected = cost(layout)
    return Measured(
        layout, expected.parameters, expected.bytes, expected.latency_ms, expected.speedup, 1.0, memory_bytes=None
    )


class TestAxes:
    def test_steps_of_depth(self) -> None:
        assert halved(12) == [12, 6, 3, 2, 1]
        assert encoder_steps(12) == [12, 6, 3]
        assert encoder_steps(1) == halved(1) == [1]

    def test_every_combination_but_the_teacher(self) -> None:
        layouts = AXES.layouts(TEACHER)
        assert len(set(layouts)) == len(layouts) == 3 * 5 * 3 * 2 * 2 - 1
        assert TEACHER not in layouts

    def test_each_step_alone(self) -> None:
        alone = AXES.alone(TEACHER)
        assert {name: len(layouts) for name, layouts in alone.items()} == {
            "encoder layers": 2,
            "decoder layers": 4,
            "feed-forward": 2,
            "heads": 1,
            "vocabulary": 1,
        }
        assert alone["heads"] == [replace(TEACHER, num_heads=8)]

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({}, "12-12"),
            ({"decoder_layers": 3, "vocabulary": 20_000}, "12-3, vocabulary 20000"),
            ({"encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "num_heads": 8}, "12-12, feed-forward 512, heads 8"),
            ({"encoder_ffn_dim": 512}, "12-12, feed-forward 512/4096"),
        ],
    )
    def test_names(self, change: dict[str, int], name: str) -> None:
        assert replace(TEACHER, **change).name(TEACHER) == name


class TestPredictor:
    @pytest.mark.parametrize(
        "axes",
        [
            AXES,
            replace(AXES, encoder=(6,), heads=(8,)),
            Axes((12,), (12,), ((4096, 4096),), (16,), (50_000, 20_000)),
            replace(AXES, vocabulary=(20_000,), decoder=(3, 1)),
        ],
    )
    def test_a_sum_of_parts_is_predicted_exactly(self, axes: Axes) -> None:
        whole = axes.including(TEACHER)
        samples = [layout for group in Samples(whole).groups() for layout in group]
        assert len(samples) <= len(whole.layouts(TEACHER)) + 1
        predictor = Predictor(whole, cost(TEACHER), {layout: cost(layout) for layout in samples})
        alone = [layout for layouts in axes.alone(TEACHER).values() for layout in layouts]
        for layout in (*axes.layouts(TEACHER), *alone):
            predicted, expected = predictor.cost(layout), cost(layout)
            assert predicted.speedup == pytest.approx(expected.speedup)
            assert predicted.latency_ms == pytest.approx(expected.latency_ms)
            assert (predicted.bytes, predicted.parameters) == (expected.bytes, expected.parameters)


costs = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0.5, 1.0, 2.0, 3.5])), min_size=1, max_size=12).map(
    lambda rows: [Cost(replace(TEACHER, vocabulary=n), size, size, 1.0, gain) for n, (size, gain) in enumerate(rows)]
)


class TestFrontier:
    @given(costs)
    def test_by_brute_force(self, given_costs: list[Cost]) -> None:
        best = frontier(given_costs)

        def preferable(a: Cost, b: Cost) -> bool:
            no_worse = a.parameters >= b.parameters and a.speedup >= b.speedup
            return no_worse and (a.parameters > b.parameters or a.speedup > b.speedup)

        for each in given_costs:
            assert (each in best) == (not any(preferable(other, each) for other in given_costs))
        assert [each.parameters for each in best] == sorted((each.parameters for each in best), reverse=True)

    def test_some_evenly_spaced(self) -> None:
        every = [cost(layout) for layout in AXES.layouts(TEACHER)]
        assert evenly(every, 3) == [every[0], every[round((len(every) - 1) / 2)], every[-1]]
        assert evenly(every[:3], 3) == every[:3]


class TestTarget:
    def test_all_wishes_hold_and_slack_is_for_speed_alone(self) -> None:
        one = Cost(TEACHER, 1, 5_000_000, 40.0, 2.0)
        assert Target(speedup=2.0, max_latency_ms=40.0, max_mb=5.0).is_met(one)
        assert not Target(speedup=2.1).is_met(one) and Target(speedup=2.1).is_met(one, slack=1.1)
        assert not Target(max_latency_ms=39.0).is_met(one) and Target(max_latency_ms=39.0).is_met(one, slack=1.1)
        assert not Target(max_mb=4.9).is_met(one, slack=1.1)
        assert Target().is_met(one) and not Target().is_set


class TestContenders:
    PREDICTED = tuple(cost(layout) for layout in AXES.layouts(TEACHER))

    def found(self, target: Target, count: int = 5, *, one_depth: bool = False, slower: float = 1.0) -> list[Measured]:
        def measure(layout: Layout) -> Measured:
            each = measured(layout)
            return replace(each, speedup=each.speedup / slower)

        def excess(layout: Layout) -> float:
            return (TEACHER.vocabulary - layout.vocabulary) / 1e5

        return find_contenders(self.PREDICTED, target, measure, excess, count, one_depth=one_depth)

    @pytest.mark.parametrize(("speedup", "max_mb"), list(product([1.5, 3.0, 5.0], [None, 0.9])))
    def test_they_meet_the_target_and_none_could_be_larger(self, speedup: float, max_mb: float | None) -> None:
        target = Target(speedup=speedup, max_mb=max_mb)
        found = self.found(target)
        assert 0 < len(found) <= 5
        for each in found:
            assert target.is_met(each)
            larger = [other for other in self.PREDICTED if other.layout.holds(each.layout) and target.is_met(other)]
            assert [other.layout for other in larger] == [each.layout]

    def test_as_many_depths_as_there_are_the_deepest_first(self) -> None:
        found = self.found(Target(speedup=5.0))
        depths = [each.layout.depths for each in found]
        assert depths == sorted(set(depths), reverse=True) and len(depths) == 5

    def test_without_training_all_have_the_depth_of_the_rule_and_the_least_excess_comes_first(self) -> None:
        target = Target(speedup=5.0)
        found = self.found(target, one_depth=True)
        deepest = max(each.layout.depths for each in self.PREDICTED if target.is_met(each))
        assert {each.layout.depths for each in found} == {deepest} and len(found) > 1
        vocabularies = [each.layout.vocabulary for each in found]
        assert vocabularies == sorted(vocabularies, reverse=True)

    def test_what_turns_out_too_slow_is_left_out(self) -> None:
        target = Target(speedup=3.0)
        found = self.found(target, slower=1.08)
        assert found and all(target.is_met(each) for each in found)
        assert all(each.speedup == pytest.approx(measured(each.layout).speedup / 1.08) for each in found)

    def test_nothing_is_fast_enough(self) -> None:
        assert self.found(Target(speedup=1000.0)) == []
