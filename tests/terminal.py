"""A pseudo-terminal in place of standard output and error, within this process."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ESCAPE = "\x1b"


class Screen:
    """What was written to a terminal."""

    def __init__(self) -> None:
        self.raw = ""

    @property
    def text(self) -> str:
        """Without escape codes, each state of a bar on lines of its own."""
        return re.sub(r"[\r\n]+", "\n", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw))


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 120) -> Iterator[Screen]:
    """Within this context standard output and error are a terminal; afterwards the screen has all that was written."""
    screen = Screen()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def read() -> None:
        parts = []
        try:
            while part := os.read(master, 1 << 16):
                parts.append(part)
        except OSError:  # how the end of a pseudo-terminal reads on Linux
            pass
        screen.raw = b"".join(parts).decode()

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as changed, open(slave, "w", encoding="utf-8") as file:
        for name in ("stdout", "stderr"):
            changed.setattr(sys, name, file)
        changed.setenv("TERM", "xterm")
        changed.setenv("COLUMNS", str(columns))
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
            changed.delenv(name, raising=False)
        try:
            yield screen
        finally:
            file.close()
            reader.join()
            os.close(master)
