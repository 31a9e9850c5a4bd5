"""What a run shows of its progress, on a terminal and elsewhere."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pytorch_lightning import Callback

from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils import progress
from seq2seq_distill.utils.errors import RunError
from seq2seq_distill.utils.terminal import program
from tests.terminal import ESCAPE, terminal
from tests.tiny_runs import config


@pytest.fixture(autouse=True)
def all_is_shown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Every state of a bar, and every line; nothing has been read or encoded before."""
    monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(progress, "BAR_SECONDS", 0)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    monkeypatch.delenv("NO_COLOR", raising=False)
    caplog.set_level(logging.INFO, "seq2seq_distill")


def showing(tmp_path: Path) -> RunConfig:
    tiny = config(tmp_path, eval={"n_speed": 0})
    return replace(tiny, trainer=replace(tiny.trainer, enable_progress_bar=True, accumulate_grad_batches=2))


def test_a_terminal_shows_a_bar_for_each_phase(tmp_path, monkeypatch):
    with terminal(monkeypatch, columns=160) as screen:
        run_config(showing(tmp_path))
    phases = re.findall(r"^([a-z][a-z ]+?) (?:━|\d+ rows)", screen.text, re.M)
    assert list(dict.fromkeys(phases)) == [
        *("reading", "encoding", "validating the untrained student", "training", "validating"),
        *("testing the student", "testing the teacher"),
    ]
    assert "Epoch" not in screen.text
    shown = dict(re.findall(r"^training ━.*? ([1-4])/4 steps \d:\d\d:\d\d left\n(.*)", screen.text, re.M))
    assert list(shown) == ["1", "2", "3", "4"]
    loss = r"[\d,]+ tokens a second  loss \d\S*  ce_loss \d\S*  mlm_loss \d\S*  "
    for step, best in ("1", r"0"), ("3", r"[02]"):
        assert re.search(loss + rf".*best val_bleu \S+ at step {best}$", shown[step]), shown[step]
    assert "hid_loss" not in shown["4"]  # has no weight


def test_a_bar_does_not_outlive_a_failure(tmp_path, monkeypatch):
    class Failing(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            raise RunError("a disk failed")

    with terminal(monkeypatch) as screen, pytest.raises(RunError, match="a disk failed"):
        run_config(showing(tmp_path), callbacks=[Failing()])
    assert screen.raw.rfind(f"{ESCAPE}[?25h") > screen.raw.rfind(f"{ESCAPE}[?25l") > 0  # the cursor is back


@pytest.mark.parametrize("where", ["pipe", "NO_COLOR"])
def test_elsewhere_there_are_lines_without_escape_codes(tmp_path, monkeypatch, capfd, caplog, where):
    if where == "pipe":
        run_config(showing(tmp_path))
        written = "".join(capfd.readouterr())
    else:
        monkeypatch.setenv("NO_COLOR", "1")
        with terminal(monkeypatch) as screen:
            run_config(showing(tmp_path))
        written = screen.raw
    assert ESCAPE not in written and "━ " not in written
    assert "student / teacher" in written  # the table of results
    told = "\n".join(record.getMessage() for record in caplog.records)
    line = r"^training: 3 of 4 steps, [\d,]+ tokens a second, loss \S+, .*best val_bleu \S+ at step \d, \S+ left$"
    assert re.search(line, told, re.M), told
    for phase in ("reading: 24 rows", "encoding: 24 of 24", "validating: 1 of 1", "testing the teacher: 1 of 1"):
        assert f"\n{phase}" in f"\n{told}"
    assert told.split("\n")[-1] == f"to try the student, type: {program()} generate --model {tmp_path / 'run'}"
