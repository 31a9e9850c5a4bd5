"""docs/errors.md: each kind of mistake with the message for its example. `python -m tests.mistakes.page` writes it."""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, so before all others

from seq2seq_distill.cli.main import main
from tests.mistakes import config_files, data_files, faults, flags, models
from tests.mistakes.kinds import Kind
from tests.tiny_runs import save_teacher, write_data

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
SECTIONS: dict[str, Sequence[Kind]] = {
    "On the command line": flags.KINDS,
    "In a config file": config_files.KINDS,
    "In the data": data_files.KINDS,
    "In a model, or found with its help": models.KINDS,
}
INTRODUCTION = """\
# Errors

Made by `python -m tests.mistakes.page` from the tests of bad input: each message is what the command says of one such
mistake.

A mistake in what the command is given is told in one line on stderr, which names the flag or the file, the value and
what to do; several mistakes have a line each. What can be seen without loading anything is told within a second, the
data is read before any model is loaded, and nothing is written before all of that is in order. A traceback means a
fault of `distill` itself: please report it.

| exit code | means |
|---|---|
| 0 | all is done |
| 2 | a mistake in the command, a config file, the data or a model: the sections below but the last |
| 3 | something else failed, such as a disk or a process: the last section |
| 130, 143, 138 | stopped by Ctrl-C, SIGTERM or SIGUSR1: [resume.md](resume.md) |
"""
FAULTS = """\
## While it runs

Exit code 3. After most of these, the same command goes on from the last whole checkpoint.
"""


@contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """A folder, current for the time being, with what the good command needs."""
    before = Path.cwd()
    save_teacher(folder / "teacher", "bart")
    write_data(folder / "data", rows=8)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def answer(arguments: Sequence[str]) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines on stderr, of the command in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue().splitlines()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    for character in "\\|*<>":
        text = text.replace(character, f"\\{character}")
    return text


def page() -> str:
    """The whole page. The current folder must be a `workplace`."""
    parts = [INTRODUCTION]
    for heading, kinds in SECTIONS.items():
        rows = []
        for kind in kinds:
            _, _, lines = answer(kind.make(kind.example).arguments)
            own = [line.removeprefix("distill: ") for line in lines if line.startswith("distill: ")]
            rows += [(kind.title if n == 0 else "", line) for n, line in enumerate(own)]
        parts.append(f"## {heading}\n\n{table(('mistake', 'message'), rows)}")
    return "\n".join([*parts, f"{FAULTS}\n{table(('what fails', 'message'), faults.messages())}"])


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEQ2SEQ_DISTILL_CACHE"] = str(Path(folder) / "cache")
        with workplace(Path(folder)):
            text = page()
    PAGE.write_text(text, encoding="utf-8")
