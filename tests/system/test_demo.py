"""The built-in demo must really work: its teachers can do their task, and a student learns from one in a minute."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seq2seq_distill import demo
from seq2seq_distill.cli import main as cli
from seq2seq_distill.config import RunConfig
from seq2seq_distill.metrics.corpus import rouge
from seq2seq_distill.training.run import run_config

SHORT = ["--trainer.enable_progress_bar", "false", "--eval.n_speed", "0", "--eval.beams", "1"]


def bare(task: str, folder: Path, *arguments: str) -> RunConfig:
    """What a bare command runs, with a few flags."""
    return cli.parse("run", ["--task", task, "--output_dir", str(folder), *SHORT, *arguments])


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Results of three short runs of the bare command: a student, one without its teacher in training, a fresh twin."""
    folder = tmp_path_factory.mktemp("runs")
    few = ("--eval.n_val", "20", "--eval.n_test", "60", "--batch.max_tokens", "400")
    steps = ("--trainer.max_steps", "250", "--trainer.val_check_interval", "125", "--optim.lr", "0.008")
    own = bare("translation", folder / "kd", *few, *steps)
    results = {"kd": run_config(own)}
    shape = replace(own.student, decoder_layers=None, config=str(folder / "kd" / "student_init"))
    results["twin"] = run_config(replace(own, student=shape, method="sft", output_dir=str(folder / "twin")))
    return results


def test_a_student_keeps_most_of_its_teacher_and_beats_a_fresh_twin(translated):
    student, twin = translated["kd"], translated["twin"]
    assert student["teacher"]["bleu"] > 50
    assert student["kept"]["bleu"] > 0.3
    assert student["student"]["bleu"] > twin["student"]["bleu"] + 20
    assert student["student"]["parameters"] == twin["student"]["parameters"] < student["teacher"]["parameters"]


def test_the_untrained_student_is_step_0_and_training_helps(translated, tmp_path_factory):
    metrics = next(tmp_path_factory.getbasetemp().glob("runs*/kd/metrics.jsonl")).read_text()
    lines = [json.loads(line) for line in metrics.split("\n") if line]
    assert [line["step"] for line in lines] == [0, 125, 250]
    assert lines[-1]["val_bleu"] > lines[0]["val_bleu"] + 20


def test_the_summarization_teacher_beats_its_baselines(tmp_path):
    config = bare("summarization", tmp_path, "--trainer.max_steps", "2", "--eval.n_val", "4", "--eval.n_test", "60")
    results = run_config(replace(config, encode=replace(config.encode, n_train=200)))
    folder = demo.resolve_data("demo:summarization")
    references = (folder / "test.target").read_text("utf-8").split("\n")[:60]
    best = max(rouge(texts[:60], references)["rougeL"] for texts in demo.baselines(folder).values())
    assert results["teacher"]["rougeL"] > best + 2
