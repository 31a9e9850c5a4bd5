"""The same rows give the same student, whether they are accumulated, dealt out to processes, or one batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq_distill.run.train import run_config
from tests.tiny_runs import config

ROOT = Path(__file__).parents[2]
STEPS = 3
# Every term takes part, nothing is frozen, nothing is random.
CHANGES: dict[str, Any] = {
    "student": {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "freeze_encoder": False,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "overrides": {"activation_dropout": 0.0},
    },
    "loss": {"alpha_hid": 1.0, "label_smoothing": 0.1},
    "optim": {"lr": 0.01, "warmup_steps": 0},
    "eval": {"beams": 1, "max_target_length": 6, "batch_size": 3, "n_speed": 0},
}
TRAINER = {"max_steps": STEPS, "val_check_interval": STEPS}


def changes(folder: Path, **groups: dict[str, Any]) -> dict[str, Any]:
    """Config changes of a run with output in `folder`."""
    trainer = {**TRAINER, **groups.pop("trainer", {})}
    return {**CHANGES, **groups, "output_dir": str(folder), "trainer": trainer}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The student as it was after the last step."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    assert all(name.startswith("student.") for name in checkpoint["state_dict"])  # H29: no teacher
    return checkpoint["state_dict"]


def validations(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def assert_same_run(got: Path, expected: Path) -> None:
    ours, theirs = weights(got), weights(expected)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-5, msg=name)
    lines, other = validations(got), validations(expected)
    assert [line["step"] for line in lines] == [line["step"] for line in other] == [0, STEPS]
    for line, reference in zip(lines, other, strict=True):
        assert line.keys() == reference.keys() and {"val_loss", "val_bleu", "val_chrf", "val_gen_len"} <= line.keys()
        assert line == pytest.approx(reference, abs=1e-4)


def moved(folder: Path, start: Path) -> bool:
    """Whether training did anything at all."""
    ours, theirs = weights(folder), weights(start)
    return any(not torch.allclose(weight, theirs[name], atol=1e-3) for name, weight in ours.items())


@pytest.mark.parametrize("size", [{"size": 8}, {"size": 3}, {"max_tokens": 90}], ids=["8", "3", "tokens"])
def test_accumulated_batches_are_one_batch(tmp_path: Path, size: dict[str, int]) -> None:
    """H3, H33: means of means weigh rows by their neighbours. With 3 rows dealt out to 4 one is left without."""
    one, many, other = (tmp_path / name for name in ("one", "many", "other"))
    results = run_config(config(tmp_path, **changes(one, batch=size)))
    again = run_config(config(tmp_path, **changes(many, batch=size, trainer={"accumulate_grad_batches": 4})))
    assert_same_run(many, one)
    assert again["student"] == pytest.approx(results["student"])
    if size == {"size": 8}:
        run_config(config(tmp_path, **changes(other, batch=size, optim={"lr": 1e-6})))
        assert moved(one, other)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_are_one(tmp_path: Path, accumulate: int) -> None:
    """H21, H25, H31: shards, scores and files are those of the whole, not of a process.

    Steps of 3 rows and, with accumulation, 4 parts: one is without rows. Validation batches are of unequal number.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    results = run_config(config(tmp_path, **changes(one, batch={"size": 3})))
    parallel = {"devices": 2, "strategy": "ddp", "accumulate_grad_batches": accumulate}
    arguments = [str(tmp_path), json.dumps(changes(two, batch={"size": 3}, trainer=parallel))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.run(
        [*launcher, str(Path(__file__).with_name("two_processes.py")), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert_same_run(two, one)
    written = json.loads((two / "results.json").read_text("utf-8"))
    assert written["student"] == pytest.approx(results["student"])
    lines = [[json.loads(line) for line in (folder / "test_generations.jsonl").open()] for folder in (one, two)]
    assert lines[0] == lines[1]
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
