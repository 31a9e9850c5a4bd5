"""Layer maps: the published tables, and the properties of the general rules."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.models.layer_map import (
    COPY,
    SUPERVISE,
    check_layers,
    copy_layers,
    first_layers,
    supervise_forward,
    supervised_pairs,
)
from seq2seq_distill.utils.errors import ModelError

PAIRS = st.integers(1, 48).flatmap(lambda depth: st.tuples(st.just(depth), st.integers(1, depth)))


def is_increasing_within(layers: tuple[int, ...], depth: int) -> bool:
    return list(layers) == sorted(set(layers)) and layers[0] >= 0 and layers[-1] < depth


@given(PAIRS)
def test_copied_layers_are_increasing_in_range_and_keep_first_and_last(pair: tuple[int, int]) -> None:
    teacher, student = pair
    layers = copy_layers(teacher, student)
    assert len(layers) == student
    assert is_increasing_within(layers, teacher)
    assert layers[0] == 0
    if student > 1 and pair not in COPY:
        assert layers[-1] == teacher - 1
        gaps = {right - left for left, right in zip(layers, layers[1:], strict=False)}
        assert max(gaps) - min(gaps) <= 1


@given(PAIRS)
def test_supervising_layers_are_increasing_in_range_and_end_with_the_last(pair: tuple[int, int]) -> None:
    teacher, student = pair
    layers = supervise_forward(teacher, student)
    assert len(layers) == student
    assert is_increasing_within(layers, teacher)
    assert layers[-1] == teacher - 1


@given(st.integers(1, 48))
def test_equal_depths_copy_and_supervise_every_layer(depth: int) -> None:
    assert copy_layers(depth, depth) == supervise_forward(depth, depth) == first_layers(depth)


@given(st.integers(1, 48))
def test_one_layer_is_the_first_and_is_supervised_by_the_last(depth: int) -> None:
    assert copy_layers(depth, 1) == (0,)
    assert supervise_forward(depth, 1) == (depth - 1,)
    assert supervised_pairs((0,), depth) == ((0, depth - 1),)


@given(PAIRS)
def test_pairs_name_each_student_layer_once_and_end_with_the_last(pair: tuple[int, int]) -> None:
    """H1: the last student layer is always supervised, by the teacher's last."""
    teacher, student = pair
    copied = copy_layers(teacher, student)
    pairs = supervised_pairs(copied, teacher)
    assert [left for left, _ in pairs] == list(range(student))
    assert [right for _, right in pairs[:-1]] == list(copied[:-1])
    assert pairs[-1] == (student - 1, teacher - 1)


def test_tables_are_the_published_ones() -> None:
    assert copy_layers(12, 6) == (0, 2, 4, 7, 9, 11)
    assert copy_layers(12, 3) == (0, 6, 11)
    assert copy_layers(12, 2) == (0, 6)
    assert copy_layers(16, 12) == (*range(8), 9, 11, 13, 15)
    assert copy_layers(6, 3) == (0, 2, 5)
    assert supervise_forward(12, 6) == (1, 3, 5, 8, 10, 11)
    assert supervise_forward(6, 2) == (3, 5)
    assert supervise_forward(16, 8) == tuple(range(1, 16, 2))


@pytest.mark.parametrize("table", [COPY, SUPERVISE])
def test_every_table_row_fits_its_depths(table: dict[tuple[int, int], tuple[int, ...]]) -> None:
    for (teacher, student), layers in table.items():
        assert len(layers) == student
        assert is_increasing_within(layers, teacher)


def test_a_pair_without_a_table_is_spread_not_the_first_n() -> None:
    """H14: depths without a table fell back to the first n layers, or failed."""
    assert copy_layers(24, 4) == (0, 8, 15, 23)
    assert copy_layers(8, 3) == (0, 4, 7)
    assert supervise_forward(12, 4) == (2, 5, 8, 11)


@pytest.mark.parametrize("rule", [copy_layers, supervise_forward])
def test_impossible_depths_name_flag_value_and_range(rule) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        ModelError, match=r"^`student.decoder_layers` 13 exceeds the teacher's 12 layers: choose 1 to 12$"
    ):
        rule(12, 13, "`student.decoder_layers`")
    with pytest.raises(ModelError, match=r"student depth 0 is less than one layer: choose 1 to 12"):
        rule(12, 0)


def test_explicit_ids_are_checked() -> None:
    assert check_layers([0, 3], 4) == (0, 3)
    with pytest.raises(ModelError, match=r"^`ids` 0 4: the teacher has no layer 4: choose from 0 to 3$"):
        check_layers([0, 4], 4, "`ids`")
    with pytest.raises(ModelError, match="has no layer -1"):
        check_layers([-1], 4)
    with pytest.raises(ModelError, match="2 1: list each layer once, in increasing order"):
        check_layers([2, 1], 4)
    with pytest.raises(ModelError, match="list each layer once"):
        check_layers([1, 1], 4)
    with pytest.raises(ModelError, match="names no layer"):
        check_layers([], 4)


def test_layer_maps_need_no_torch() -> None:
    code = "import sys, seq2seq_distill.models.layer_map; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
