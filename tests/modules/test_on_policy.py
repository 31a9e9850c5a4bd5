"""Steps whose targets the student samples."""

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from safetensors.torch import load_file

from seq2seq_distill.config import RunConfig
from seq2seq_distill.losses.logits import kl_divergence
from seq2seq_distill.models import forward
from seq2seq_distill.modules import on_policy as on_policy_module
from seq2seq_distill.modules.on_policy import sampled_labels, samples_in, sampling_config
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.run import run_config
from tests.tiny_runs import config


def on_policy(tmp_path: Path, share: float = 1.0, **changes: object) -> RunConfig:
    loss = {"on_policy": share, "temperature": 1.0}
    return config(tmp_path, **{"loss": loss, "student": {"dropout": 0.0, "freeze_encoder": False}, **changes})


class TestWhichSteps:
    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    def test_so_large_a_share(self, share):
        found = sum(samples_in(step, 1, share) for step in range(4000)) / 4000
        assert found == pytest.approx(share, abs=0.02)

    def test_a_larger_share_adds_steps_and_another_seed_takes_others(self):
        few, many = ([samples_in(step, 1, share) for step in range(100)] for share in (0.2, 0.6))
        assert all(b or not a for a, b in zip(few, many, strict=True))
        assert many != [samples_in(step, 2, 0.6) for step in range(100)]


class TestSampledLabels:
    @pytest.mark.parametrize("model_type", ["marian", "t5", "mbart", "m2m_100"])
    def test_they_are_as_labels_of_data_are(self, tmp_path, model_type):
        run = on_policy(tmp_path, model_type=model_type)
        parts = build_components(run)
        batch = {**parts.data.collated("train", [0, 1, 2])}
        batch["row"] = torch.tensor([0, -1, 2])
        sampling = sampling_config(parts.student, run.loss, longest=6)
        torch.manual_seed(0)
        labels = sampled_labels(parts.student, batch, sampling)
        torch.manual_seed(0)
        assert torch.equal(labels, sampled_labels(parts.student, batch, sampling))
        torch.manual_seed(1)
        assert not torch.equal(labels, sampled_labels(parts.student, batch, sampling))
        assert labels.shape[1] <= 6 + (model_type == "mbart")  # the language, behind the end
        assert (labels[1] == -100).all()
        start = forward.decoder_inputs(parts.student, batch["labels"])[:, 0]
        ours = forward.decoder_inputs(parts.student, labels)[:, 0]
        assert torch.equal(start[[0, 2]], ours[[0, 2]])
        eos = parts.student.generation_config.eos_token_id
        for row in (0, 2):
            ids = labels[row][labels[row] != -100].tolist()
            assert eos not in ids[1 : -2 if model_type == "mbart" else -1]
            if model_type == "m2m_100":
                assert ids[0] == sampling.forced_bos_token_id


class TestSteps:
    def test_the_gradient_is_that_of_the_mean_over_all_sampled_tokens_of_the_step(self, tmp_path, monkeypatch):
        """Two micro-batches, whose token counts nobody knows before: closed form from all of them together."""
        one_step = {"accumulate_grad_batches": 2, "max_steps": 1, "gradient_clip_val": None}
        run = on_policy(tmp_path, model_type="bart", trainer=one_step, eval={"n_val": 2})
        seen, found = [], {}

        def remember(student, batch, sampling):
            labels = sampled_labels(student, batch, sampling)
            seen.append((dict(batch), labels))
            return labels

        class Gradients(Callback):
            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                if batch_idx == 1:
                    found.update({n: p.grad.clone() for n, p in before.named_parameters() if p.requires_grad})

            def on_fit_start(self, trainer, module):
                nonlocal before
                before = module.student

        before = None
        monkeypatch.setattr(on_policy_module, "sampled_labels", remember)
        reference = build_components(run)
        run_config(run, [Gradients()])
        assert len(seen) == 2
        student, teacher = reference.student.eval(), reference.teacher
        total = torch.zeros(())
        tokens = sum(int((labels != -100).sum()) for _, labels in seen)
        for batch, labels in seen:
            inputs = forward.decoder_inputs(student, labels)
            sides = []
            for model in (student, teacher.model):
                hidden = forward.decode(model, batch, forward.encode(model, batch), inputs)
                sides.append(forward.head(model, hidden))
            total = total + kl_divergence(*sides, labels).sum
        (run.loss.alpha_ce * total / tokens).backward()
        trained = {n: p for n, p in student.named_parameters() if p.requires_grad}
        assert trained.keys() == found.keys()
        for name, parameter in trained.items():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)

    def test_stopped_and_resumed_it_ends_with_the_same_bits(self, tmp_path):
        whole = on_policy(tmp_path, 0.5, output_dir=str(tmp_path / "whole"), trainer={"max_steps": 6})
        assert len({samples_in(step, whole.seed, 0.5) for step in range(6)}) == 2
        run_config(whole)

        class Leave(Callback):
            def on_validation_end(self, trainer, module):
                if trainer.global_step == 4:
                    raise KeyboardInterrupt

        stopped = on_policy(tmp_path, 0.5, output_dir=str(tmp_path / "stopped"), trainer={"max_steps": 6})
        with pytest.raises(BaseException):  # noqa: B017  # however the interruption comes out
            run_config(stopped, [Leave()])
        assert not (tmp_path / "stopped" / "results.json").exists()
        run_config(stopped)
        ours, theirs = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ("stopped", "whole"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    def test_data_steps_and_sampled_steps_are_logged_apart(self, tmp_path):
        seen = []

        class Names(Callback):
            def on_train_batch_end(self, trainer, module, *_):
                seen.append({name for name in trainer.callback_metrics if "ce_loss" in name and "val" not in name})

        run_config(on_policy(tmp_path, 1.0), [Names()])
        assert seen[0] == {"on_policy_ce_loss"}
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert all("val_mlm_loss" in line and "val_ce_loss" in line for line in lines)
