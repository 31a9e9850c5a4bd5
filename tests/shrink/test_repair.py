"""Which inputs of a map stay, and how it does without the others: by hand, and on random data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seq2seq_distill.shrink.calibration import Moments
from seq2seq_distill.shrink.repair import columns, largest, least_squares, unit_scores

ROWS, INPUTS, OUTPUTS = 60, 12, 5


def moments_of(data: Tensor) -> Moments:
    vectors = data.double()
    return Moments(vectors.mean(0), vectors.T @ vectors / len(vectors), len(vectors))


def case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Correlated inputs [ROWS, INPUTS] with a mean, a weight and a bias."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(INPUTS, INPUTS, generator=generator)
    data = torch.randn(ROWS, INPUTS, generator=generator) @ mix + torch.randn(INPUTS, generator=generator)
    return data, torch.randn(OUTPUTS, INPUTS, generator=generator), torch.randn(OUTPUTS, generator=generator)


def test_scores_are_the_norms_of_what_inputs_add_to_the_output() -> None:
    data, weight, _ = case(0)
    expected = torch.stack([(data[:, [i]] @ weight[:, [i]].T).square().sum(1).mean().sqrt() for i in range(INPUTS)])
    torch.testing.assert_close(unit_scores(weight, moments_of(data)).float(), expected)
    pairs = expected.view(-1, 2).square().sum(1).sqrt()
    torch.testing.assert_close(unit_scores(weight, moments_of(data), 2).float(), pairs)


def test_the_largest_come_in_order_and_of_equal_ones_the_first() -> None:
    assert largest(torch.tensor([1.0, 5.0, 1.0, 7.0]), 3).tolist() == [0, 1, 3]
    assert columns(torch.tensor([0, 2]), 3).tolist() == [0, 1, 2, 6, 7, 8]


@given(seed=st.integers(0, 2**31), count=st.integers(1, INPUTS), with_bias=st.booleans())
def test_a_repaired_map_is_never_farther_from_the_whole_one_than_a_sliced_one(
    seed: int, count: int, with_bias: bool
) -> None:
    data, weight, bias = case(seed)
    kept = torch.randperm(INPUTS, generator=torch.Generator().manual_seed(seed))[:count].sort().values
    new_weight, new_bias = least_squares(weight, bias if with_bias else None, kept, moments_of(data))
    shift = new_bias - bias if new_bias is not None else 0.0
    whole = data @ weight.T
    repaired, sliced = data[:, kept] @ new_weight.T + shift, data[:, kept] @ weight[:, kept].T
    errors = [float((outputs - whole).square().mean()) for outputs in (repaired, sliced)]
    assert errors[0] <= errors[1] + 1e-6
    if count == INPUTS:
        torch.testing.assert_close(new_weight, weight)


@pytest.mark.parametrize("with_bias", [True, False])
def test_an_input_that_the_others_determine_costs_nothing(with_bias: bool) -> None:
    data, weight, bias = case(1)
    data[:, 3] = 2 * data[:, 0] - data[:, 1] + (5.0 if with_bias else 0.0)
    kept = torch.tensor([i for i in range(INPUTS) if i != 3])
    new_weight, new_bias = least_squares(weight, bias if with_bias else None, kept, moments_of(data))
    outputs = data[:, kept] @ new_weight.T + (new_bias - bias if new_bias is not None else 0.0)
    error = (outputs - data @ weight.T).square().mean()
    assert error < 0.01 * (data[:, 3:4] @ weight[:, 3:4].T).square().mean()  # but for the damping


def test_the_bias_takes_up_the_mean_of_what_is_gone() -> None:
    data = torch.zeros(10, 2)
    data[:, 1] = 3.0
    weight, bias = torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    new_weight, new_bias = least_squares(weight, bias, torch.tensor([0]), moments_of(data))
    assert new_bias is not None and new_bias.tolist() == [6.5]
    assert torch.isfinite(new_weight).all()
