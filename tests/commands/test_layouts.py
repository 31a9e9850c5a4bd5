"""Layouts of a student, and the choice among those that were measured."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.commands.plan.layouts import Measured, candidates, choose, frontier


def measured(encoder: int, decoder: int, speedup: float, latency_ms: float = 1.0) -> Measured:
    size = 3 * encoder + 4 * decoder
    return Measured(encoder, decoder, size, 4 * size, 8 * size, latency_ms, 1000 / latency_ms, speedup)


class TestCandidates:
    def test_decoders_are_halved_to_one_layer_and_encoders_to_a_quarter(self) -> None:
        assert candidates(12, 12) == [(e, d) for e in (12, 6, 3) for d in (12, 6, 3, 2, 1)][1:]

    def test_depths_of_ones_own(self) -> None:
        assert candidates(12, 12, [6, 12], [1]) == [(12, 1), (6, 1)]
        assert candidates(2, 2, [2], [2]) == []

    @given(st.integers(1, 48), st.integers(1, 48))
    def test_each_is_smaller_than_the_teacher_and_comes_once(self, encoder: int, decoder: int) -> None:
        found = candidates(encoder, decoder)
        assert len(set(found)) == len(found)
        assert all(1 <= e <= encoder and 1 <= d <= decoder and (e, d) != (encoder, decoder) for e, d in found)
        assert (encoder, 1) in found or (encoder, decoder) == (encoder, 1)


layouts = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.floats(0.5, 9)), min_size=1, max_size=12, unique=True
).map(lambda rows: [measured(*row) for row in rows])


class TestFrontier:
    @given(layouts)
    def test_by_brute_force(self, given_layouts: list[Measured]) -> None:
        best = frontier(given_layouts)

        def preferable(a: Measured, b: Measured) -> bool:
            no_worse = a.parameters >= b.parameters and a.speedup >= b.speedup
            return no_worse and (a.parameters > b.parameters or a.speedup > b.speedup)

        for own in given_layouts:
            assert (own in best) == (not any(preferable(other, own) for other in given_layouts))
        assert [each.parameters for each in best] == sorted((each.parameters for each in best), reverse=True)


class TestChoose:
    TABLE = tuple(measured(e, d, speedup=12 / (e / 4 + d)) for e, d in product((12, 6), (6, 3, 1)))

    @pytest.mark.parametrize(("speedup", "name"), [(1.0, "12-6"), (1.5, "12-3"), (2.5, "12-1"), (4.5, "6-1")])
    def test_the_deepest_encoder_that_is_fast_enough(self, speedup: float, name: str) -> None:
        chosen = choose(self.TABLE, speedup=speedup)
        assert chosen is not None and chosen.name == name

    def test_nothing_is_fast_enough(self) -> None:
        assert choose(self.TABLE, speedup=100) is None

    def test_both_wishes_hold(self) -> None:
        table = [measured(12, 3, 2.0, latency_ms=50), measured(12, 1, 3.0, latency_ms=30)]
        chosen = choose(table, speedup=1.5, max_latency_ms=40)
        assert chosen is not None and chosen.name == "12-1"
        assert choose(table, speedup=4, max_latency_ms=40) is None
