"""Progress: a bar that disappears on a terminal, lines of the log elsewhere."""

import logging
import sys
from pathlib import Path

import pytest

from seq2seq_distill.cli.messages import StderrHandler
from seq2seq_distill.utils import progress, terminal
from seq2seq_distill.utils.progress import Progress
from tests.terminal import ESCAPE
from tests.terminal import terminal as a_terminal


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Clock(monkeypatch)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


class TestLines:
    @pytest.fixture(autouse=True)
    def info(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)

    def test_a_line_now_and_then_says_how_far_how_fast_and_how_long(self, caplog, clock):
        with Progress("encoding", 10_000) as bar:
            for _ in range(4):
                clock.now += 10
                bar.advance(500)
        assert lines(caplog) == ["encoding: 1,500 of 10,000 rows, 50 a second, 0:02:50 left"]

    def test_units_done_before_and_interruptions_count_in_no_rate(self, caplog, clock):
        bar = Progress("training", 100, "steps")
        bar.skip(50)
        bar.start()
        clock.now += 20
        bar.advance(10)
        bar.stop()
        clock.now += 1000
        bar.start()
        bar.extra_seconds = 60
        clock.now += 30
        bar.advance(15)
        assert lines(caplog) == ["training: 75 of 100 steps, 0.5 a second, 0:01:50 left"]

    def test_nobody_knows_when_work_of_unknown_size_ends(self, caplog, clock):
        with Progress("reading", None) as bar:
            for _ in bar.counted([range(3000), range(1500)]):
                clock.now += 31
        assert lines(caplog) == ["reading: 3,000 rows, 97 a second", "reading: 4,500 rows, 73 a second"]

    def test_figures_are_asked_for_only_when_they_are_shown(self, caplog, clock):
        asked = []
        with Progress("training", 3, "steps", figures=lambda: asked.append(1) or ["loss 2"]) as bar:
            bar.advance()
            clock.now += 40
            bar.advance()
        assert len(asked) == 1
        assert lines(caplog) == ["training: 2 of 3 steps, loss 2, 0:00:20 left"]

    def test_what_is_not_to_be_shown_is_not(self, caplog, clock):
        with Progress("decoding", 5, shown=False) as bar:
            clock.now += 40
            bar.advance()
        assert lines(caplog) == [] and bar.done == 1


class TestBar:
    def test_it_has_the_phase_the_count_the_rate_and_the_time_left_and_disappears(self, monkeypatch, clock):
        with a_terminal(monkeypatch) as screen, Progress("encoding", 10_000) as bar:
            clock.now += 10
            bar.advance(500)
        last = screen.text.strip().split("\n")[-1]
        assert last.startswith("encoding ━") and last.endswith("500/10,000 rows 50 a second 0:03:10 left")
        assert screen.raw.rstrip().endswith(f"{ESCAPE}[2K")  # the line is erased

    def test_messages_stand_above_it(self, monkeypatch, clock):
        log = logging.Logger("test")
        log.addHandler(StderrHandler())
        with a_terminal(monkeypatch) as screen, Progress("encoding", 10) as bar:
            log.warning("something happened")
            clock.now += 1
            bar.advance(5)
        before, after = screen.text.split("something happened\n")
        assert "0/10 rows" in before and "5/10 rows" in after

    def test_output_that_is_no_terminal_is_left_alone(self, monkeypatch, clock, tmp_path):
        with (
            a_terminal(monkeypatch) as screen,
            (tmp_path / "out").open("w") as file,
            monkeypatch.context() as changed,
        ):
            changed.setattr(sys, "stdout", file)
            with Progress("decoding", 10):
                print("a translation")
        assert (tmp_path / "out").read_text() == "a translation\n"
        assert "a translation" not in screen.text

    @pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb"), ("RANK", "1")])
    def test_others_get_lines(self, monkeypatch, clock, caplog, variable):
        caplog.set_level(logging.INFO)
        with a_terminal(monkeypatch) as screen:
            monkeypatch.setenv(*variable)
            with Progress("encoding", 10) as bar:
                clock.now += 40
                bar.advance(5)
        assert lines(caplog) == ["encoding: 5 of 10 rows, 0.12 a second, 0:00:40 left"]
        assert ESCAPE not in screen.raw


class TestProgram:
    def test_it_is_what_the_shell_finds(self, monkeypatch, tmp_path):
        script = tmp_path / ".venv" / "bin" / "distill"
        script.parent.mkdir(parents=True)
        script.touch(mode=0o755)
        monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PATH", "/nowhere")
        assert terminal.program() == ".venv/bin/distill"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert terminal.program() == str(script)
        monkeypatch.setenv("PATH", str(script.parent))
        assert terminal.program() == "distill"

    def test_without_a_script_it_is_the_name(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "executable", str(Path(tmp_path) / "python"))
        monkeypatch.setenv("PATH", "/nowhere")
        assert terminal.program() == "distill"
