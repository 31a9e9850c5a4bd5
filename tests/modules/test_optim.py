"""Optimisers and schedules."""

import math
import re
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import SGD

from seq2seq_distill.config import OptimConfig, TrainerConfig
from seq2seq_distill.models.freezing import encoder_and_embedding_parameters, encoder_parameters
from seq2seq_distill.modules.optim import build_optimizer, build_schedule, split_by_decay, warmup_steps
from tests.tiny_models import families, tiny_batch, tiny_model


@families()
def test_no_decay_on_norms_and_biases(model_type: str) -> None:
    """H17: "no decay" looked for `LayerNorm.weight`, which matches no norm of BART or T5."""
    model = tiny_model(model_type)
    decayed, others = split_by_decay(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    # All matrices decay and no vector does: an independent rule that holds for every family.
    assert {names[p] for p in decayed} == {name for p, name in names.items() if p.requires_grad and p.dim() > 1}
    assert {names[p] for p in others} == {name for p, name in names.items() if p.requires_grad and p.dim() < 2}
    assert any("norm" in names[p] for p in others)
    assert len(decayed) + len(others) == len(set(decayed) | set(others))


def test_frozen_parameters_are_left_out_and_tied_ones_come_once() -> None:
    model = tiny_model("bart")
    model.get_encoder().requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1))
    got = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(got) == len(set(got)) and set(got) == {p for p in model.parameters() if p.requires_grad}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


@families()
def test_encoder_and_embeddings_have_their_rate(model_type: str) -> None:
    model = tiny_model(model_type)
    encoder = encoder_and_embedding_parameters(model)
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, encoder_lr=0.02), encoder)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    slow = {name for name, p in names.items() if rates[p] == 0.02}
    # Heads and embeddings of the decoder that are tied to those of the encoder have its rate.
    pattern = r"(^|\.)encoder\.|(shared|embed_tokens|embed_positions|word_embeddings|position_embeddings)\.weight$"
    expected = {name for name in names if re.search(pattern, name)}
    assert slow == expected
    assert {rates[p] for name, p in names.items() if name not in slow} == {0.1}


def test_without_a_rate_for_the_encoder_groups_are_as_before() -> None:
    """A checkpoint has the optimiser's state by the order of groups and parameters."""
    model = tiny_model("bart")
    groups = [
        [group["params"] for group in build_optimizer(model, OptimConfig(), encoder).param_groups]
        for encoder in ([], encoder_parameters(model))
    ]
    assert all(a is b for first, second in zip(*groups, strict=True) for a, b in zip(first, second, strict=True))


def test_module_without_norms_has_one_group() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2, bias=False), OptimConfig(weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1]


def test_adamw_is_set_as_configured() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(lr=0.01, eps=1e-6, betas=(0.8, 0.9)))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["lr"] == 0.01 and optimizer.defaults["eps"] == 1e-6
    assert optimizer.defaults["betas"] == (0.8, 0.9)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_optimizers_learn(name: str) -> None:
    model, batch = tiny_model("bart", dropout=0.0), tiny_batch(tiny_model("bart"))
    optimizer = build_optimizer(model, OptimConfig(name=name, lr=0.01, weight_decay=0.01))  # type: ignore[arg-type]
    losses = []
    for _ in range(8):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def rates(config: OptimConfig, total: int) -> list[float]:
    """Learning rate of every optimiser step of a run, and what the schedule would give for one more."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = build_schedule(optimizer, config, total)
    got = []
    for _ in range(total + 1):
        got.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return got


TOTAL, WARMUP = 40, 10
HALF = {  # share of the peak when half of the steps after the warm-up are done
    "linear": 0.5,
    "cosine": 0.5,
    "cosine_with_restarts": 0.5,
    "polynomial": 0.25,
    "constant": 1.0,
    "inverse_sqrt": math.sqrt(10 / 26),
}
END = {
    "linear": 0.0,
    "cosine": 0.0,
    "cosine_with_restarts": 0.0,
    "polynomial": 0.0,
    "constant": 1.0,
    "inverse_sqrt": math.sqrt(10 / 41),
}


@pytest.mark.parametrize("schedule", HALF)
class TestSchedules:
    def test_values(self, schedule: str) -> None:
        """H18: the steps are the run's own, so the rate reaches its end when the run does."""
        config = OptimConfig(lr=0.2, schedule=schedule, warmup_steps=WARMUP)  # type: ignore[arg-type]
        got = rates(config, TOTAL)
        # transformers' schedules begin at 0, ours at the first step's share of the warm-up
        peak = WARMUP - 1 if schedule == "inverse_sqrt" else WARMUP
        assert got[peak] == pytest.approx(0.2) == max(got)
        assert all(a < b for a, b in pairwise(got[: peak + 1]))
        assert all(a >= b for a, b in pairwise(got[peak:]))
        assert got[WARMUP + (TOTAL - WARMUP) // 2] == pytest.approx(0.2 * HALF[schedule])
        assert got[TOTAL] == pytest.approx(0.2 * END[schedule], abs=1e-9)
        assert got[TOTAL - 1] > 0

    def test_without_warmup_the_first_rate_is_the_peak(self, schedule: str) -> None:
        config = OptimConfig(lr=0.2, schedule=schedule, warmup_steps=0)  # type: ignore[arg-type]
        assert rates(config, 4)[0] == pytest.approx(0.2)

    def test_one_step_is_enough(self, schedule: str) -> None:
        assert rates(OptimConfig(lr=0.2, schedule=schedule), 1)[0] == pytest.approx(0.2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("configured", "total", "steps"), [(None, 100, 10), (None, 9, 0), (None, 10**6, 500), (0, 100, 0), (7, 20, 7)]
)
def test_warmup_steps(configured: int | None, total: int, steps: int) -> None:
    assert warmup_steps(OptimConfig(warmup_steps=configured), total) == steps


def test_gradients_are_clipped_and_runs_end_by_default() -> None:
    """H19: real defaults were 1000 epochs and no clipping."""
    assert TrainerConfig().gradient_clip_val == 1.0
    assert TrainerConfig().max_epochs == 3
