"""The one division: however the rows of a step are dealt out, the gradient is the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seq2seq_distill.losses.blend import add, blend
from seq2seq_distill.losses.hidden import hidden_mse
from seq2seq_distill.losses.logits import Term, cross_entropy, kl_divergence
from seq2seq_distill.utils.constants import IGNORE_INDEX

ROWS, LENGTH, V = 6, 4, 5
WEIGHTS = {"ce_loss": 0.8, "mlm_loss": 0.2, "hid_loss_enc": 3.0}


def terms_of(rows: list[int], weight: Tensor) -> dict[str, Term]:
    """Terms of these rows by a model of one matrix; a micro-batch without rows has one that counts nowhere."""
    chance = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, LENGTH, V, generator=chance, dtype=torch.float64)
    teacher = torch.randn(ROWS, LENGTH, V, generator=chance, dtype=torch.float64)
    labels = torch.randint(V, (ROWS, LENGTH), generator=chance)
    for row in range(ROWS):  # unequal numbers of tokens
        labels[row, 1 + row % LENGTH :] = IGNORE_INDEX
    if not rows:
        inputs, teacher, labels = inputs[:1], teacher[:1], torch.full((1, LENGTH), IGNORE_INDEX)
    else:
        inputs, teacher, labels = inputs[rows], teacher[rows], labels[rows]
    own, sources = inputs @ weight, labels.roll(1, 1) != IGNORE_INDEX
    return {
        "ce_loss": kl_divergence(own, teacher, labels, 2.0),
        "mlm_loss": cross_entropy(own, labels),
        "hid_loss_enc": hidden_mse([(own, teacher)], sources),
    }


def matrix() -> Tensor:
    return torch.eye(V, dtype=torch.float64).requires_grad_()


@given(st.data(), st.integers(1, 3), st.integers(1, 4))
def test_gradient_does_not_depend_on_how_rows_are_dealt_out(data: st.DataObject, world: int, accumulate: int) -> None:
    """Lightning divides by `accumulate`, DDP takes the mean over `world`; some parts may have no rows."""
    parts = world * accumulate
    owner = data.draw(st.lists(st.integers(0, parts - 1), min_size=ROWS, max_size=ROWS))
    weight = matrix()
    whole = terms_of(list(range(ROWS)), weight)
    expected = torch.autograd.grad(blend(whole, WEIGHTS).loss, weight)[0]
    counts = {name: term.count for name, term in whole.items()}
    gradient = torch.zeros_like(weight)
    for part in range(parts):
        terms = terms_of([row for row in range(ROWS) if owner[row] == part], weight)
        report = blend(terms, WEIGHTS, counts, scale=parts)
        gradient += torch.autograd.grad(report.loss / accumulate, weight)[0] / world
    torch.testing.assert_close(gradient, expected)


def test_micro_batch_without_rows_contributes_nothing() -> None:
    weight = matrix()
    terms = terms_of([], weight)
    for counts in (None, dict.fromkeys(terms, 17)):
        report = blend(terms, WEIGHTS, counts, scale=4)
        assert report.loss == 0 and all(part == 0 for part in report.parts.values())
        assert torch.equal(torch.autograd.grad(report.loss, weight, retain_graph=True)[0], torch.zeros(V, V))


def test_each_term_is_divided_once_by_its_count_of_the_step() -> None:
    terms = {name: Term(torch.tensor(value), torch.tensor(2)) for name, value in [("a", 6.0), ("b", 10.0)]}
    report = blend(terms, {"a": 0.5, "b": 2.0})
    assert report.parts == {"a": 3.0, "b": 5.0} and report.loss == 11.5
    report = blend(terms, {"a": 0.5, "b": 2.0}, counts={"a": 12, "b": torch.tensor(4)}, scale=3)
    assert report.parts == {"a": 1.5, "b": 7.5} and report.loss == 15.75


def test_term_without_weight_is_only_reported() -> None:
    free = torch.tensor(4.0, requires_grad=True)
    report = blend({"a": Term(free * 2, torch.tensor(2)), "entropy": Term(free * 3, torch.tensor(2))}, {"a": 1.0})
    assert report.parts["entropy"] == 6 and report.loss == 4
    assert torch.autograd.grad(report.loss, free)[0] == 1


def test_named_is_what_is_logged() -> None:
    report = blend(terms_of([0, 1], matrix()), WEIGHTS)
    named = report.named("val_")
    assert list(named) == ["val_loss", "val_ce_loss", "val_mlm_loss", "val_hid_loss_enc"]
    assert not any(value.requires_grad for value in named.values())
    assert named["val_loss"].item() == pytest.approx(
        sum(weight * named[f"val_{name}"].item() for name, weight in WEIGHTS.items())
    )


@given(st.integers(1, ROWS - 1))
def test_added_batches_are_one_batch(cut: int) -> None:
    weight = matrix().detach()
    halves = add(add({}, terms_of(list(range(cut)), weight)), terms_of(list(range(cut, ROWS)), weight))
    whole = blend(terms_of(list(range(ROWS)), weight), WEIGHTS)
    assert blend(halves, WEIGHTS).loss.item() == pytest.approx(whole.loss.item())
