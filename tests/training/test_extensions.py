"""What a run takes from Python besides its config."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from seq2seq_distill.config import LossConfig, RunConfig
from seq2seq_distill.losses.divergences import divergence
from seq2seq_distill.losses.logits import Term, cross_entropy
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.modules.extensions import TAKEN, CustomLoss, Extensions
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_runs import config
from tests.tiny_tokenizers import plain_tokenizer

STILL = {"dropout": 0.0, "attention_dropout": 0.0, "overrides": {"activation_dropout": 0.0}, "freeze_encoder": False}


def labels_again(student: Any, teacher: Any, batch: Any) -> Term:
    """`mlm_loss` from the logits."""
    return Term(F.cross_entropy(student.logits.float(), student.labels, reduction="sum"), (student.labels >= 0).sum())


def teacher_again(student: Any, teacher: Any, batch: Any) -> Term:
    """`ce_loss` from the logits, with a temperature of 2."""
    found = divergence(student.logits, teacher.logits, student.labels, temperature=2.0)
    return Term(found.sum, found.count)


def encoder_again(student: Any, teacher: Any, batch: Any) -> Term:
    """The squared distance of the encoders' last states, a mean over the source."""
    mask = batch["attention_mask"]
    distance = (student.encoder_state - teacher.encoder_state).square().mean(-1)
    return Term((distance * mask).sum(), mask.sum())


TERMS = {
    "labels_again": CustomLoss(labels_again),
    "teacher_again": CustomLoss(teacher_again, weight=0.5),
    "encoder_again": CustomLoss(encoder_again, weight=2.0, over="source"),
}


def module(own: Extensions, loss: LossConfig) -> tuple[SummarizationDistiller, dict[str, torch.Tensor]]:
    teacher = tiny_model("bart")
    settings = RunConfig(task="summarization", loss=loss)
    found = SummarizationDistiller(create_student(teacher, 1, 1), Teacher(teacher), plain_tokenizer(), settings, 4, own)
    return found.eval(), {**tiny_batch(teacher), "row": torch.arange(3)}


def gradients(own: Extensions, loss: LossConfig) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Of all parameters; and the parts of the loss."""
    found, batch = module(own, loss)
    report = found.compute_loss(batch)
    report.loss.backward()
    return {n: p.grad for n, p in found.named_parameters() if p.grad is not None}, report.named()


class TestTerms:
    def test_own_copies_of_our_terms_give_their_values_and_gradients(self) -> None:
        ours, report = gradients(Extensions(), LossConfig(alpha_ce=0.5, alpha_mlm=1.0))
        own = Extensions({name: TERMS[name] for name in ("labels_again", "teacher_again")})
        theirs, other = gradients(own, LossConfig(alpha_ce=0.0, alpha_mlm=0.0))
        torch.testing.assert_close(other["loss"], report["loss"])
        torch.testing.assert_close(other["labels_again"], report["mlm_loss"])
        torch.testing.assert_close(other["teacher_again"], report["ce_loss"])
        for name, gradient in ours.items():
            torch.testing.assert_close(theirs[name], gradient, rtol=1e-4, atol=1e-6)

    def test_a_row_that_counts_nowhere_changes_nothing(self) -> None:
        found, batch = module(Extensions(TERMS), LossConfig())
        last = torch.tensor([0, 1, -1])
        labels = batch["labels"].masked_fill((last < 0)[:, None], IGNORE_INDEX)
        with_empty = found.compute_loss({**batch, "labels": labels, "row": last}).terms
        without = found.compute_loss({name: field[:2] for name, field in batch.items()}).terms
        for name in TERMS:
            torch.testing.assert_close(with_empty[name].sum, without[name].sum)
            assert with_empty[name].count == without[name].count

    @pytest.mark.parametrize(
        ("term", "message"),
        [
            (CustomLoss(lambda *_: torch.ones(())), r"'mine' returns Tensor: return Term\(sum, count\)"),
            (
                CustomLoss(lambda *_: Term(torch.ones(()), torch.tensor(3))),
                "'mine' counts 3, but the batch has 12 target",
            ),
            (CustomLoss(labels_again, over="source"), "'mine' counts 12, but the batch has 18 source tokens"),
        ],
    )
    def test_what_cannot_be_divided_is_refused(self, term: CustomLoss, message: str) -> None:
        found, batch = module(Extensions({"mine": term}), LossConfig())
        with pytest.raises(ConfigError, match=message):
            found.compute_loss(batch)

    @pytest.mark.parametrize(
        ("name", "weight", "message"),
        [
            ("ce_loss", 1.0, "custom loss 'ce_loss': the name is taken"),
            ("bleu", 1.0, "custom loss 'bleu': the name is taken"),
            ("match_0", 1.0, "custom loss 'match_0': the name is taken"),
            ("mine", float("nan"), "custom loss 'mine', weight nan: give a finite number"),
        ],
    )
    def test_names_and_weights(self, name: str, weight: float, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Extensions({name: CustomLoss(labels_again, weight)})


class TestRuns:
    def test_accumulated_batches_are_one_batch_and_terms_are_logged(self, tmp_path: Path) -> None:
        ends, lines = [], []
        for parts in (1, 4):
            folder = tmp_path / str(parts)
            trainer = {"max_steps": 2, "accumulate_grad_batches": parts, "gradient_clip_val": None}
            optim = {"lr": 0.02, "eps": 1e-2, "warmup_steps": 0}
            batch = {"size": 3}  # dealt out to 4, one is without rows
            run = config(tmp_path, output_dir=str(folder), trainer=trainer, optim=optim, batch=batch, student=STILL)
            run_config(run, extensions=Extensions(TERMS))
            ends.append(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
            lines.append([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()])
        for name, weight in ends[0].items():
            torch.testing.assert_close(ends[1][name], weight, rtol=1e-5, atol=1e-5)
        for one, other in zip(*lines, strict=True):
            assert other == pytest.approx(one, abs=1e-4)
            assert one["val_labels_again"] == pytest.approx(one["val_mlm_loss"])
            total = 0.8 * one["val_ce_loss"] + 1.2 * one["val_mlm_loss"]
            total += 0.5 * one["val_teacher_again"] + 2 * one["val_encoder_again"]
            assert one["val_loss"] == pytest.approx(total, rel=1e-5)

    def test_batches_are_processed_in_training_alone_and_saved_students_are_told(self, tmp_path: Path) -> None:
        seen, saved = [], []

        def process(batch: Any) -> Any:
            seen.append(batch["row"].tolist())
            return {**batch, "input_ids": torch.full_like(batch["input_ids"], 5)}

        def tell(folder: Path, step: int, metrics: Any) -> None:
            saved.append((step, metrics["val_loss"], load_file(folder / "model.safetensors").keys()))

        same = []

        def source(student: Any, teacher: Any, batch: Any) -> Term:
            same.append(bool((batch["input_ids"] == 5).all()))
            return labels_again(student, teacher, batch)

        own = Extensions({"source": CustomLoss(source, 0.0)}, process, tell)
        run = config(tmp_path, method="sft", eval={"monitor": "loss"}, optim={"lr": 1e-2, "warmup_steps": 0})
        run_config(run, extensions=own)
        assert len(seen) == 4 and len(seen[0]) == 8
        assert same.count(True) == 4 and same.count(False) == 3  # one batch for each validation
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert {name.removeprefix("val_") for line in lines for name in line} <= {*TAKEN, "source", "step", "best"}
        best, expected = float("inf"), []
        for line in lines:
            if line["val_loss"] < best:
                best = line["val_loss"]
                expected.append((line["step"], best))
        assert [entry[:2] for entry in saved] == expected and len(saved) > 1
        assert all(keys for *_, keys in saved)

    def test_processed_batches_have_no_cached_teacher(self, tmp_path: Path) -> None:
        run = config(tmp_path, teacher_cache=str(tmp_path / "cache"))
        with pytest.raises(ConfigError, match="`teacher_cache` .* which batch_processor would change: leave out one"):
            run_config(run, extensions=Extensions(batch_processor=dict))

    def test_with_a_cached_teacher_there_is_no_pass_of_it(self, tmp_path: Path) -> None:
        passes = []

        def own(student: Any, teacher: Any, batch: Any) -> Term:
            passes.append(teacher)
            return cross_entropy(student.logits, student.labels)

        run = config(tmp_path, teacher_cache=str(tmp_path / "cache"), trainer={"max_steps": 1})
        run_config(run, extensions=Extensions({"own": CustomLoss(own)}))
        assert passes and set(passes) == {None}
