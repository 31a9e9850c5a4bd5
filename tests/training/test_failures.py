"""Faults of machine, disk and processes, made for real where one machine can: one line, nothing lost, resumable."""

import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.checkpoints import newest_whole, read_checkpoint
from seq2seq_distill.training.failures import MORE_MEMORY, SCALER_STEPS, NonFiniteGuard
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError, DataError, ModelError, RunError, Stopped
from seq2seq_distill.utils.failures import describe_failure
from tests.tiny_runs import config


class AtStep(Callback):
    """Does something after the backward pass of a step, counted from 1, once."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step + 1 == self.step and self.action is not None:
            action, self.action = self.action, None
            action(pl_module)


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    return config(
        tmp_path,
        eval={"n_speed": 0, "monitor": "loss", "max_target_length": 4},
        trainer={"max_steps": 6, "save_every_n_steps": 1},
    )


def spoil(module: Any) -> None:
    next(p for p in module.parameters() if p.grad is not None).grad.view(-1)[0] = float("nan")


def last_step(run: RunConfig) -> int:
    checkpoint = newest_whole(OutputFolder(run.folder))
    assert checkpoint is not None
    return read_checkpoint(checkpoint)["global_step"]


class TestNumbersThatAreNotFinite:
    def test_stop_the_run_with_the_rows_written_down(self, run):
        with pytest.raises(RunError, match=r"^step 4: a loss or gradient is NaN .*`on_nonfinite` skip$"):
            run_config(run, [AtStep(4, spoil)])
        record = json.loads((Path(run.folder) / "nonfinite.json").read_text())
        assert record["step"] == 4 and len(set(record["rows"])) == 8 and "loss" in record
        assert last_step(run) == 3
        # The same command goes on; with `skip` even over the same step.
        run_config(replace(run, on_nonfinite="skip"), [AtStep(4, spoil)])
        assert json.loads((Path(run.folder) / "results.json").read_text())["task"] == "translation"

    def test_or_the_step_is_left_out(self, run, caplog):
        seen: dict[int, list[torch.Tensor]] = {}

        class Remember(Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                seen[trainer.global_step] = [p.detach().clone() for p in module.parameters()]

        run_config(replace(run, on_nonfinite="skip"), [AtStep(4, spoil), Remember()])
        assert all(torch.equal(a, b) for a, b in zip(seen[3], seen[4], strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(seen[4], seen[5], strict=True))
        assert all(p.isfinite().all() for p in seen[6])
        assert "step 4 is skipped: a gradient is not finite" in caplog.text

    def test_the_scaler_of_16_mixed_may_leave_out_only_so_many_in_a_row(self, run):
        """It skipped every step of a run whose loss was NaN, and the run ended without a word."""
        weight = torch.nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        strategy = SimpleNamespace(reduce_boolean_decision=lambda decision: decision)
        trainer: Any = SimpleNamespace(precision="16-mixed", strategy=strategy, global_step=0, is_global_zero=False)
        plan: Any = SimpleNamespace(rows=lambda step: torch.arange(3))
        guard = NonFiniteGuard("stop", plan, OutputFolder(run.folder))

        def step(value: float) -> None:
            weight.grad = torch.full((2,), value)
            guard.on_before_optimizer_step(trainer, Any, optimizer)

        for value in (*[float("inf")] * (SCALER_STEPS - 1), 1.0, *[float("nan")] * (SCALER_STEPS - 1)):
            step(value)
        with pytest.raises(RunError, match="^step 1: a loss or gradient is NaN or infinite"):
            step(float("nan"))


def test_out_of_memory_names_the_batch_and_what_to_lower(run):
    with pytest.raises(RunError, match=r"^out of memory with a training batch of 8 rows x \(\d+ source, \d+ target\)"):
        run_config(run, [AtStep(2, lambda _: torch.empty(2**60))])
    assert last_step(run) == 1


def test_a_data_loader_process_that_is_killed(run):
    def kill_one(_: Any) -> None:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        time.sleep(0.2)

    with pytest.raises(RunError, match=r"^a data loader process died .*`batch\.workers` 0"):
        run_config(replace(run, batch=replace(run.batch, workers=1)), [AtStep(2, kill_one)])
    assert last_step(run) >= 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_leaves_what_was_whole(run, small_disk):
    run = replace(run, output_dir=str(small_disk / "run"))

    def fill(_: Any) -> None:
        with open(small_disk / "other", "wb") as file:
            file.write(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize - 4096))

    with pytest.raises(RunError, match=r"^the disk is full while writing .*: free some space and run the same command"):
        run_config(run, [AtStep(4, fill)])
    assert last_step(run) == 3
    assert json.loads((small_disk / "run" / "metrics.jsonl").read_text().split("\n")[0])["step"] == 0
    (small_disk / "other").unlink()
    run_config(run)


def test_a_second_run_in_the_same_folder_is_refused_with_its_owner(run):
    folder = OutputFolder(run.folder)
    with (
        folder.locked(),
        pytest.raises(ConfigError, match=rf"is in use by process {os.getpid()} on .* since .*: wait until it ends"),
    ):
        run_config(run)
    assert not folder.path.exists()


def test_an_owner_that_was_killed_is_no_owner(run):
    folder = Path(run.folder)
    folder.mkdir()
    (folder / ".owner").write_text("process 1 on nowhere\n")
    (folder / ".lock").touch()
    run_config(run)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


class TestBetweenTwoStarts:
    @pytest.fixture
    def stopped(self, run: RunConfig) -> RunConfig:
        with pytest.raises(RunError):
            run_config(run, [AtStep(4, spoil)])
        return run

    def test_changed_data_is_refused(self, stopped):
        path = Path(stopped.data[0]) / "train.source"
        path.write_text(path.read_text().replace(path.read_text().split()[0], "changed", 1))
        with pytest.raises(DataError, match=r"^`data` .* has changed since the run in .* began .*: restore it"):
            run_config(stopped)
        assert last_step(stopped) == 3

    def test_truncated_data_is_refused(self, stopped):
        path = Path(stopped.data[0]) / "train.source"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match=r"^`data` .* has changed since the run in"):
            run_config(stopped)

    def test_a_teacher_that_is_gone_is_named(self, stopped):
        Path(stopped.teacher).rename(Path(stopped.teacher).with_name("elsewhere"))
        with pytest.raises(ModelError, match=rf"`teacher` {stopped.teacher}"):
            run_config(stopped)

    def test_a_folder_that_moved_goes_on_to_the_same_end(self, stopped, tmp_path):
        run_config(replace(stopped, output_dir=str(Path(stopped.folder).rename(tmp_path / "moved"))))
        run_config(replace(stopped, output_dir=str(tmp_path / "undisturbed")))
        for name in ("metrics.jsonl", "best/model.safetensors"):
            assert (tmp_path / "moved" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
        names = [{p.name for p in (tmp_path / f / "checkpoints").iterdir()} for f in ("moved", "undisturbed")]
        assert names[0] == names[1]

    def test_other_workers_go_on_to_the_same_end(self, stopped, tmp_path):
        run_config(replace(stopped, batch=replace(stopped.batch, workers=2)))
        run_config(replace(stopped, output_dir=str(tmp_path / "undisturbed")))
        first, second = (Path(f) / "best" / "model.safetensors" for f in (stopped.folder, tmp_path / "undisturbed"))
        assert first.read_bytes() == second.read_bytes()


def test_a_clock_that_jumps_changes_nothing(run, monkeypatch):
    jumps = iter([1e9, 0.0] * 10**6)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    run_config(replace(run, trainer=replace(run.trainer, save_every_minutes=1.0, save_every_n_steps=None)))
    assert last_step(run) == 6


def test_a_hub_that_cannot_be_reached(run):
    with pytest.raises(ModelError, match=r"`teacher` nobody/nothing"):
        run_config(replace(run, teacher="nobody/nothing"))


def test_a_signal_before_the_training_ends_the_run_at_once(run):
    class Signal(Callback):
        def on_sanity_check_start(self, *_: Any) -> None: ...

        def on_validation_start(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        run_config(run, [Signal()])
    assert stopped.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed: No space left on device"),
            "disk",
        ),
        (OSError(122, "Disk quota exceeded", "/runs/a"), "the disk is full while writing /runs/a"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer"), "another process of the run ended"),
    ],
)
def test_what_libraries_say_is_understood(run, error, words):
    assert words in str(describe_failure(error, run.folder, MORE_MEMORY))


def test_other_errors_stay_what_they_are(run):
    """A traceback means a defect of ours; it must not be talked away."""
    assert describe_failure(ValueError("shapes differ"), run.folder, MORE_MEMORY) is None
