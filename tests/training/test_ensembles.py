"""Runs with several teachers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from seq2seq_distill.training.build import make_module
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_runs import config, save_teacher


def another(folder: Path, like: Path) -> str:
    """A teacher with the tokenizer of `like` and other weights."""
    save_teacher(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(like)
    torch.manual_seed(7)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return str(folder)


def test_losses_are_of_all_teachers_together(tmp_path):
    run = config(tmp_path, student={"dropout": 0.0})
    second = another(tmp_path / "second", tmp_path / "teacher")
    found = {}
    for weights in ([1.0, 1e-9], [1e-9, 1.0], [1.0, 1.0]):
        own = config(tmp_path, student={"dropout": 0.0}, ensemble={"teachers": [second], "weights": weights})
        parts = build_components(own)
        module = make_module(own, parts).eval()
        found[tuple(weights)] = float(module.compute_loss(parts.data.training_batch(0)).terms["ce_loss"].sum)
    alone = {}
    for name in (run.teacher, second):
        own = config(tmp_path, teacher=name)
        parts = replace(build_components(own), student=build_components(run).student)
        module = make_module(own, parts).eval()
        alone[name] = float(module.compute_loss(parts.data.training_batch(0)).terms["ce_loss"].sum)
    assert found[1.0, 1e-9] == pytest.approx(alone[run.teacher], rel=1e-4)
    assert found[1e-9, 1.0] == pytest.approx(alone[second], rel=1e-4)
    assert found[1.0, 1.0] not in (pytest.approx(alone[run.teacher]), pytest.approx(alone[second]))


def test_a_run_repeats_itself_and_keeps_its_teachers_out_of_its_checkpoints(tmp_path):
    config(tmp_path)
    second = another(tmp_path / "second", tmp_path / "teacher")
    weights = []
    for name in ("one", "two"):
        own = config(tmp_path, output_dir=str(tmp_path / name), ensemble={"teachers": [second], "combine": "best"})
        run_config(own)
        weights.append(load_file(tmp_path / name / "best" / "model.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    state = torch.load(tmp_path / "one" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("student.") for name in state)
    assert json.loads((tmp_path / "one" / "results.json").read_text())["teacher"] is not None


def test_a_teacher_of_another_vocabulary_is_refused(tmp_path):
    run = config(tmp_path, ensemble={"teachers": [str(save_teacher(tmp_path / "other", "bart"))]})
    with pytest.raises(ModelError, match=r"`ensemble.teachers` .*other: its tokenizer differs from the teacher's"):
        build_components(run)
