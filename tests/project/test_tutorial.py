"""The offline tutorial's commands run one after the other, in a few steps."""

import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from seq2seq_distill.cli.main import COMMANDS, main

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "first_student.md"
SHORTER = {
    "run": "--trainer.max_steps 2 --trainer.val_check_interval 2 --trainer.accelerator cpu --encode.n_train 64 "
    "--eval.n_val 4 --eval.n_test 4 --eval.n_speed 1 --eval.max_target_length 8 --logger csv",
    "evaluate": "--n 4 --n_speed 1 --resamples 10",
    "export": "--n 4",
    "generate": "",
}
"""What makes a command quick without changing what it does."""


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_its_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in commands():
        echoed, _, command = line.rpartition(" | ")
        name, *arguments = shlex.split(command)[1:]
        if name not in COMMANDS:
            name, arguments = "run", [name, *arguments]
        if not find_spec("ctranslate2") and "served" in arguments:
            continue
        text = shlex.split(echoed)[1] + "\n" if echoed else ""
        Path("stdin").write_text(text, encoding="utf-8")
        capsys.readouterr()
        with open("stdin", encoding="utf-8") as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            code = main([name, *arguments, *shlex.split(SHORTER[name])])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        assert name != "generate" or len(shown.out.splitlines()) == 1
    made = {"runs/first/best", "runs/first/results.json", "runs/first/metrics.jsonl", "runs/labels-only", "report.html"}
    assert all((tmp_path / path).exists() for path in made)
