"""What ends the command, with which exit code, and how a value stands in its message."""

import reprlib

from seq2seq_distill.utils.redaction import redacted

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxstring, _REPR.maxother = 4, 20, 20, 200, 200


class _OneLineError(Exception):
    """Ends the command with its message alone, which shows no secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class UserError(_OneLineError):
    """A mistake that the user can mend: one line that names flag or file, value and remedy; exit code 2."""


class ConfigError(UserError):
    """A flag or a key of a config file."""


class DataError(UserError):
    """A data source, with file and line where known."""


class ModelError(UserError):
    """A teacher or a student."""


class RunError(_OneLineError):
    """Something outside the command's input failed, such as a disk or a process; one line; exit code 3.

    The same command goes on from the last checkpoint once it is mended.
    """


class Stopped(Exception):
    """A signal asked for the end and a checkpoint is written; exit code 128 + `signal`, as of any stopped process."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


def raise_config_error(mistakes: list[str]) -> None:
    """Raise one ConfigError for all mistakes, a line each, if there are any."""
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def format_value(value: object, longest: int = 200) -> str:
    """A value as it stands in a message: one line of printable characters, cut after `longest`; nothing as quotes."""
    if value is None:
        return "null"
    try:
        text = value if isinstance(value, str) else _REPR.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a number of thousands of digits"
    text = redacted(text)  # before it is cut: half a URL or token would not be known
    if not text.strip():
        text = repr(text)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: longest + 1])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
