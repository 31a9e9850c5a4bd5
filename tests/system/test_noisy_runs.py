"""Runs with averaged weights, sampled subwords and noise: one process is two, and a resumed run is a whole one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.system import two_processes
from tests.system.test_two_processes import assert_close, changes, in_two_processes, losses, recorded
from tests.tiny_runs import config, write_data

STEPS = 4


def noisy(folder: Path, extra: dict[str, Any] | None = None, **trainer: Any) -> dict[str, Any]:
    """Changes of a run over two data epochs of two steps."""
    options = {"max_steps": STEPS, "val_check_interval": 2, "gradient_clip_val": 0.5, **trainer}
    run = changes(folder, batch={"size": 10}, trainer=options)
    run["optim"] = {**run["optim"], "ema": 0.5, "lr": 0.01, "encoder_lr": 0.002}
    run["loss"] = {**run["loss"], "alpha_hid": 0.0}
    run["eval"] = {**run["eval"], "monitor": "loss"}
    run["noise"] = {"no_stop": 0.5, "typos": 0.3, "subword_sampling": 0.2, "variants": 2}
    return {**run, "extra": extra or {}}


def write_sentences(folder: Path) -> None:
    """Data whose training rows end with a stop."""
    write_data(folder, rows=20)
    for side in ("source", "target"):
        file = folder / f"train.{side}"
        file.write_text(file.read_text("utf-8").replace("\n", " .\n"), "utf-8")


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, and two under ddp and fsdp2, whole and resumed."""
    folder = tmp_path_factory.mktemp("noisy")
    write_sentences(folder / "data")
    config(folder)
    two_processes.run(folder, noisy(folder / "one", {"record": str(folder / "one.json")}, devices=1))
    runs = []
    for strategy in ("ddp", "fsdp2"):
        own = {"devices": 2, "strategy": strategy, "shard_teacher": strategy == "fsdp2"}
        runs += [
            noisy(folder / strategy, {"record": str(folder / f"{strategy}.json")}, **own),
            noisy(folder / f"{strategy}-resumed", {"stop": 3}, **own),
            noisy(folder / f"{strategy}-resumed", **own),
        ]
    in_two_processes(folder, *runs)
    return folder


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_are_one(together: Path, strategy: str) -> None:
    ours, theirs = losses(recorded(together / f"{strategy}.json", 2)), losses(recorded(together / "one.json", 1))
    distilled = [record["distilled"] for record in recorded(together / "one.json", 1)]
    assert 0 < sum(distilled[0]) < 20 * 2 and len(distilled[0]) == 20 * 2  # some rows have a teacher, and some do not
    assert len(ours) == STEPS and ours == pytest.approx(theirs, rel=1e-4)
    ours, theirs = checkpoint(together / strategy), checkpoint(together / "one")
    for state in ("state_dict", "current_model_state"):
        assert_close(ours[state], theirs[state])
    name = "student.model.decoder.layers.0.fc1.weight"
    assert not torch.allclose(ours["state_dict"][name], ours["current_model_state"][name], atol=1e-4)
    best = [load_file(together / each / "best" / "model.safetensors") for each in (strategy, "one")]
    assert_close(*best)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_resumed_run_is_a_whole_one(together: Path, strategy: str) -> None:
    ours, theirs = checkpoint(together / f"{strategy}-resumed"), checkpoint(together / strategy)
    for state in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[state][name], weight) for name, weight in theirs[state].items())
    lines = [(together / each / "metrics.jsonl").read_bytes() for each in (f"{strategy}-resumed", strategy)]
    assert lines[0] == lines[1]
