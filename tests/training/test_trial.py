"""The loss on val after a short run, comparable from one vocabulary to another."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer, seed_everything

from seq2seq_distill.config import TrimConfig
from seq2seq_distill.losses.logits import cross_entropy
from seq2seq_distill.training.build import build
from seq2seq_distill.training.components import build_components, teacher_and_views
from seq2seq_distill.training.probe import Probe
from seq2seq_distill.training.trainer import trainer_options
from seq2seq_distill.training.trial import LONGEST, ValidationRows, loss_per_token, trial_loss
from seq2seq_distill.training.trimming import with_trimmed_teacher
from seq2seq_distill.utils.errors import DataError
from tests.tiny_runs import config

FIELDS = ("input_ids", "attention_mask", "labels")


def test_its_training_is_that_of_a_run(tmp_path: Path) -> None:
    run = config(tmp_path, optim={"lr": 0.01}, loss={"alpha_hid": 1.0}, student={"freeze_encoder": False})
    module, data = build(run)
    before = {name: weight.clone() for name, weight in module.student.named_parameters()}
    Trainer(**trainer_options(run), default_root_dir=tmp_path).fit(module, data)
    seed_everything(run.seed, verbose=False)
    parts = build_components(run)
    Probe(run, parts).train()
    trained = dict(parts.student.named_parameters())
    for name, weight in module.student.named_parameters():
        if name.endswith("k_proj.bias"):  # softmax cancels it: its gradient is rounding, which Adam makes steps of
            continue
        torch.testing.assert_close(trained[name], weight, rtol=1e-5, atol=1e-6)
    assert any((trained[name] - weight).abs().max() > 0.01 for name, weight in before.items())


def test_the_whole_vocabulary_has_the_cross_entropy_and_training_lowers_it(tmp_path: Path) -> None:
    run = config(tmp_path, optim={"lr": 0.01})
    _, (view, _) = teacher_and_views(run)
    val = ValidationRows.of(view.data.references("val"), view.tokenizer, [], 48)
    parts = build_components(replace(run, eval=replace(run.eval, max_target_length=48)))  # no target is cut
    batch = parts.data.collated("val", val.rows)
    with torch.no_grad():
        term = cross_entropy(parts.student(**{name: batch[name] for name in FIELDS}).logits, batch["labels"])
    assert int(term.count) == val.tokens
    untrained = trial_loss(run, val, 0)
    assert untrained == pytest.approx(float(term.sum / term.count), rel=1e-5)
    assert trial_loss(run, val, 20) < untrained - 0.1


def test_a_smaller_vocabulary_is_counted_in_tokens_of_the_whole_one(tmp_path: Path) -> None:
    run = config(tmp_path)
    _, (view, _) = teacher_and_views(run)
    trimmed = with_trimmed_teacher(replace(run, trim=TrimConfig(size=60)))
    student = build_components(replace(trimmed, eval=replace(run.eval, max_target_length=40)))
    references = view.data.references("val")
    val = ValidationRows.of(references, view.tokenizer, [student.tokenizer], 40)
    lengths = [len(labels) for labels in student.data.encoded["val"].select(val.rows)["labels"]]
    assert sum(lengths) > val.tokens and max(lengths) <= 40
    batch = student.data.collated("val", val.rows)
    with torch.no_grad():
        term = cross_entropy(student.student(**{name: batch[name] for name in FIELDS}).logits, batch["labels"])
    found = loss_per_token(student.student, student.tokenizer, student.data, val)
    assert found == pytest.approx(float(term.sum) / val.tokens, rel=1e-5)


def test_rows_that_are_cut_in_any_vocabulary_do_not_count(tmp_path: Path) -> None:
    run = config(tmp_path)
    _, (view, _) = teacher_and_views(run)
    references = view.data.references("val")
    every = ValidationRows.of(references, view.tokenizer, [], None)
    assert every.rows == tuple(range(len(references))) and every.max_length == LONGEST
    longest = max(len(view.tokenizer(text_target=text)["input_ids"]) for text in references)
    fewer = ValidationRows.of(references, view.tokenizer, [], longest - 1)
    assert 0 < len(fewer.rows) < len(every.rows) and fewer.tokens < every.tokens
    with pytest.raises(DataError, match="`data`: all validation targets have more than 1 tokens"):
        ValidationRows.of(references, view.tokenizer, [], 1)
