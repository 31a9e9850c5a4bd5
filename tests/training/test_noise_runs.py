"""Runs with noise: the student reads noisy sources, the teacher the clean ones, and it knows the data's targets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seq2seq_distill.config import NoiseConfig, RunConfig, find_problems
from seq2seq_distill.data.batching import BatchPlan
from seq2seq_distill.data.noise.forms import Forms
from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.data.teacher_inputs import NAMES
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.training.build import build_module, make_module
from seq2seq_distill.training.components import RunComponents, build_components
from tests.tiny_runs import config, write_data
from tests.training.test_teacher_inputs import divergence

NOISE = {"no_stop": 0.5, "typos": 0.5, "subword_sampling": 0.2, "variants": 2}


def noisy(folder: Path, noise: dict[str, Any] = NOISE, **changes: Any) -> RunConfig:
    """A run on sentences, some of which lose their stop."""
    write_sentences(folder / "data")
    return config(folder, noise=noise, **changes)


def write_sentences(folder: Path) -> None:
    write_data(folder)
    for side in ("source", "target"):
        file = folder / f"train.{side}"
        file.write_text(file.read_text("utf-8").replace("\n", " .\n"), "utf-8")


def losses(run: RunConfig, parts: RunComponents, batch: Any) -> Any:
    return make_module(run, parts).eval().compute_loss(batch)


class TestLosses:
    @torch.no_grad()
    def test_the_teacher_reads_clean_sources_and_knows_the_targets_of_the_data(self, tmp_path: Path) -> None:
        run = noisy(tmp_path, encode={"max_target_length": 60})
        parts = build_components(run)
        batch = parts.data.training_batch(0)
        clean = parts.tasks[0].teacher_view.data.collated("train", batch["row"].tolist())
        known = batch["distill_mask"]
        assert 0 < int(known.sum()) < len(known)
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(batch[NAMES[name]], clean[name])
        assert batch["input_ids"].shape != clean["input_ids"].shape or (batch["input_ids"] != clean["input_ids"]).any()
        width = batch["labels"].shape[1]
        padded = torch.nn.functional.pad(clean["labels"], (0, width), value=-100)[:, :width]
        assert ((batch["labels"] == padded).all(1) == known).all()
        ours, theirs = ({n: given[n][known] for n in ("input_ids", "attention_mask")} for given in (batch, clean))
        expected = divergence(parts, ours, theirs, batch["labels"][known], run.loss.temperature)
        report = losses(run, parts, batch)
        ce, mlm = report.terms["ce_loss"], report.terms["mlm_loss"]
        tokens = (batch["labels"] != -100).sum(1)
        assert float(ce.sum) == pytest.approx(expected, rel=1e-4)
        assert int(ce.count) == int(tokens[known].sum()) == batch["distill_tokens"]
        assert int(mlm.count) == int(tokens.sum()) == batch["target_tokens"]
        weighted = run.loss.alpha_ce * ce.sum / ce.count + run.loss.alpha_mlm * mlm.sum / mlm.count
        assert float(report.loss) == pytest.approx(float(weighted), rel=1e-5)

    @torch.no_grad()
    @pytest.mark.parametrize("noise", [NOISE, {"typos": 0.5, "variants": 1}])
    def test_a_cache_of_the_whole_vocabulary_gives_the_same(self, tmp_path: Path, noise: dict[str, Any]) -> None:
        cache = {"top_k": 10_000, "precision": "float32"}
        run = noisy(tmp_path, noise)
        parts = build_components(run)
        cached = replace(run, teacher_cache=str(tmp_path / "cache"), cache=replace(run.cache, **cache))
        released, module = build_module(cached, build_components(cached), Extensions())
        for step in range(2):
            expected = losses(run, parts, parts.data.training_batch(step))
            batch = released.data.training_batch(step)
            assert not batch.keys() & set(NAMES.values())
            found = module.eval().compute_loss(batch)
            for name in ("ce_loss", "mlm_loss"):
                assert float(found.terms[name].sum) == pytest.approx(float(expected.terms[name].sum), rel=1e-4)
            assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-4)

    @torch.no_grad()
    def test_states_of_the_decoder_are_compared_where_the_teacher_knows_the_target(self, tmp_path: Path) -> None:
        run = noisy(tmp_path, matches=[{"layers": "last"}])
        parts = build_components(run)
        batch = parts.data.training_batch(0)
        assert int(losses(run, parts, batch).terms["match_0_decoder_hidden_mse"].count) == batch["distill_tokens"]

    def test_rows_of_several_tasks(self, tmp_path: Path) -> None:
        write_sentences(tmp_path / "second")
        tasks = [{"name": name, "data": [str(tmp_path / name)]} for name in ("data", "second")]
        data = build_components(noisy(tmp_path, tasks=tasks)).data
        assert [len(form) for form in data.forms] == [48, 48]
        batch = data.training_batch(0)
        assert len(batch["distill_mask"]) == len(batch["row"]) and batch[NAMES["input_ids"]].shape[0] == 8


class TestPlans:
    def test_every_epoch_draws_a_form_of_each_row(self) -> None:
        chance = np.random.default_rng(0)
        shape = (3, 50)
        source, target = (chance.integers(2, 30, shape).astype(np.int32) for _ in range(2))
        forms = Forms(source, target, chance.random(shape) < 0.7)
        plan = BatchPlan(source[0], target[0], size=8, forms=forms, seed=3)
        epochs = [plan.in_epoch(epoch) for epoch in range(3)]
        drawn = np.stack([epoch.drawn for epoch in epochs])
        assert set(drawn.flatten()) == {1, 2, 3} and (drawn[0] != drawn[1]).sum() > 20
        run = RunPlan(plan, max_epochs=3)
        whole = list(run.micro_batches())
        shares = [list(run.micro_batches(rank=rank, world=2)) for rank in range(2)]
        assert len(whole) == len(shares[0]) == 21
        for step, batch in enumerate(whole):
            rows, numbers = list(batch.rows), np.array(batch.forms)
            assert numbers.tolist() == drawn[step // 7][rows].tolist()
            place = (numbers - 1, rows)
            assert (batch.source_tokens, batch.target_tokens) == (source[place].sum(), target[place].sum())
            known = forms.distilled[place]
            assert list(batch.distilled) == known.tolist() and batch.distill_tokens == target[place][known].sum()
            for rank in range(2):
                share = shares[rank][step]
                assert (share.rows, share.forms) == (batch.rows[rank::2], batch.forms[rank::2])
                assert share.distilled == batch.distilled[rank::2] and share.distill_tokens == batch.distill_tokens

    def test_without_noise_they_are_what_they_were(self, tmp_path: Path) -> None:
        """A key of version 0.1, under which the steps of epochs are kept."""
        source, target = np.arange(1, 50, dtype=np.int32), np.arange(50, 1, -1, dtype=np.int32)
        plan = BatchPlan(source, target, size=8, sizes=[20, 29], weights=[1.0, 0.5])
        assert plan.key == "f346819f8db269beabd0b4e64376a397"
        assert plan.steps(1)[0].tolist() == [27, 29, 35, 36, 37, 41, 42, 44]
        parts = build_components(config(tmp_path))
        batch = parts.data.training_batch(0)
        assert not batch.keys() & {"distill_mask", "distill_tokens", *NAMES.values()}
        assert parts.tasks[0].teacher_view is parts.tasks[0].student_view


def test_the_encoder_is_trained_unless_it_is_frozen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for noise, frozen, trained in (({}, None, False), (NOISE, None, True), (NOISE, True, False)):
        run = noisy(tmp_path, noise, student={"decoder_layers": 1, "freeze_encoder": frozen})
        with caplog.at_level("INFO"):
            caplog.clear()
            parts, module = build_module(run, build_components(run), Extensions())
        assert any(p.requires_grad for p in parts.student.get_encoder().layers.parameters()) is trained
        assert ("noise: the encoder is trained" in caplog.text) is trained
        assert module.shares_encoder is (not noise)
    assert "noise: 2 noisy forms of each training example" in caplog.text


def test_the_encoder_has_its_rate_if_it_is_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for noise, rates in (({}, {0.01}), (NOISE, {0.01, 1e-4})):
        run = noisy(tmp_path, noise, student={"decoder_layers": 1}, optim={"lr": 0.01, "encoder_lr": 1e-4})
        with caplog.at_level("INFO"):
            caplog.clear()
            _, module = build_module(run, build_components(run), Extensions())
        optimizer = module.configure_optimizers()["optimizer"]
        assert {group["initial_lr"] for group in optimizer.param_groups} == rates
        assert ("parameters are trained; encoder and embeddings are frozen" in caplog.text) is (not noise)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": {"alpha_hid": 1.0}}, "`loss.alpha_hid` 1.0 compares source positions"),
        (
            {"matches": [{"layers": "last", "side": "encoder"}]},
            "`matches` entry 0, side encoder compares source positions",
        ),
        ({"loss": {"alpha_chunk": 0.5}}, "`loss.alpha_chunk` 0.5 is for the targets of the data"),
        ({"noise": {"upper": 1.5}}, "`noise.upper` 1.5 is too large: choose 0 to 1"),
        ({"trainer": {"strategy": "deepspeed"}, "resume": "never", "optim": {"ema": 0.9}}, "`optim.ema` 0.9 does not"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    run = config(tmp_path, **{"noise": {"no_stop": 0.1}, **changes})
    [problem] = find_problems(run)
    assert problem.message.startswith(words)
    if "noise" not in changes and "optim" not in changes:
        assert not find_problems(replace(run, noise=NoiseConfig()))
