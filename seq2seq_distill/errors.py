"""What ends the command, and with which exit code."""


class UserError(Exception):
    """A mistake that the user can mend: one line that names flag or file, value and remedy; exit code 2."""


class ConfigError(UserError):
    """A flag or a key of a config file."""


class DataError(UserError):
    """A data source, with file and line where known."""


class ModelError(UserError):
    """A teacher or a student."""


class RunError(Exception):
    """Something outside the command's input failed, such as a disk or a process; one line; exit code 3.

    The same command goes on from the last checkpoint once it is mended.
    """


class Stopped(Exception):
    """A signal asked for the end and a checkpoint is written; exit code 128 + `signal`, as of any stopped process."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
