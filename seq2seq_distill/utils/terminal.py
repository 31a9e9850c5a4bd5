"""What a terminal is shown: where bars can be drawn, and how the command is typed."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def is_plain() -> bool:
    """Whether the user wants text without escape codes, by NO_COLOR (https://no-color.org) or a dumb terminal."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def shows_bars() -> bool:
    """Whether standard error is a terminal that lines can be redrawn on."""
    return sys.stderr.isatty() and not is_plain()


def console(*, stderr: bool = False, **options: Any) -> Console:
    """A `rich` console that writes no escape codes where the user wants none."""
    return Console(stderr=stderr, force_terminal=False if is_plain() else None, **options)


def program() -> str:
    """What the shell calls this command: by the path of this environment's script where it finds none by name."""
    script = Path(sys.executable).with_name("distill")
    if shutil.which("distill") or not script.exists():
        return "distill"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)
