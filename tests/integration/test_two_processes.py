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
from tests.tiny_runs import config, write_data

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
    # Some gradients are zero but for rounding (biases of keys); a small eps would make whole steps of them.
    "optim": {"lr": 0.02, "eps": 1e-2, "warmup_steps": 0},
    "eval": {"beams": 1, "max_target_length": 6, "batch_size": 3, "n_speed": 0},
}
# Clipping would hide a gradient of the wrong scale.
TRAINER = {"max_steps": STEPS, "val_check_interval": STEPS, "gradient_clip_val": None}


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
    clip = {"gradient_clip_val": 0.5 if "max_tokens" in size else None}
    results = run_config(config(tmp_path, **changes(one, batch=size, trainer=clip)))
    again = run_config(config(tmp_path, **changes(many, batch=size, trainer={**clip, "accumulate_grad_batches": 4})))
    assert_same_run(many, one)
    assert again["student"] == pytest.approx(results["student"])
    if size == {"size": 8}:
        run_config(config(tmp_path, **changes(other, batch=size, optim={"lr": 1e-6})))
        assert moved(one, other)


def in_two_processes(folder: Path, *runs: dict[str, Any]) -> None:
    """Run these changes of the config of `folder`, one after the other, on two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = [str(Path(__file__).with_name("two_processes.py")), str(folder), *map(json.dumps, runs)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.run(
        launcher + script,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]


def test_two_processes_are_one(tmp_path: Path) -> None:
    """H21, H25, H31: shards, scores and files are those of the whole, not of a process.

    Steps of 3 rows: with accumulation there are 4 parts, and one is without rows. An odd number of
    validation and of test batches is dealt out too.
    """
    one, plain, accumulated = (tmp_path / name for name in ("one", "plain", "accumulated"))
    write_data(tmp_path / "data", rows=28)  # 7 rows to validate and to test: 3 batches
    results = run_config(config(tmp_path, **changes(one, batch={"size": 3})))
    parallel = {"devices": 2, "strategy": "ddp"}
    in_two_processes(
        tmp_path,
        changes(plain, batch={"size": 3}, trainer=parallel),
        changes(accumulated, batch={"size": 3}, trainer={**parallel, "accumulate_grad_batches": 2}),
    )
    for folder in (plain, accumulated):
        assert_same_run(folder, one)
        written = json.loads((folder / "results.json").read_text("utf-8"))
        assert written["student"] == pytest.approx(results["student"])
        assert (folder / "test_generations.jsonl").read_text() == (one / "test_generations.jsonl").read_text()
        assert {path.name for path in folder.iterdir()} == {path.name for path in one.iterdir()}
