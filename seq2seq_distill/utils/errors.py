"""The errors that end a command, their exit codes, and how values are shown in messages."""

import reprlib

from seq2seq_distill.utils.redaction import redacted

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxdict, _REPR.maxlist, _REPR.maxstring, _REPR.maxother = 4, 20, 20, 200, 200


class _OneLineError(Exception):
    """Ends the command with its message alone; secrets in it are masked."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class UserError(_OneLineError):
    """An error in the input: one line that names the option or file, the value and the remedy; exit code 2.

    Examples:
        >>> from seq2seq_distill import ConfigError, DataError, ModelError, UserError
        >>> all(issubclass(error, UserError) for error in (ConfigError, DataError, ModelError))
        True
    """


class ConfigError(UserError):
    """An option, or a key of a config file.

    Examples:
        >>> from seq2seq_distill import ConfigError, CustomLoss, Extensions
        >>> try:
        ...     Extensions(terms={"loss": CustomLoss(lambda student, teacher, batch: student)})
        ... except ConfigError as error:
        ...     print(error)
        custom loss 'loss': the name is taken, choose another
    """


class DataError(UserError):
    """A data source, with the file and line if known.

    Examples:
        >>> from pathlib import Path
        >>> from seq2seq_distill import DataError, RunConfig, build
        >>> _ = Path("pairs.jsonl").write_text('{"source": "a dog", "target": ')
        >>> try:
        ...     build(RunConfig(task="translation", teacher="demo:translation", data=["pairs.jsonl"]))
        ... except DataError as error:
        ...     print(error)
        `data` pairs.jsonl: pairs.jsonl:1: invalid JSON: Expecting value (column 31): correct it, or remove the example
    """


class ModelError(UserError):
    """A teacher or a student.

    Examples:
        >>> from seq2seq_distill import ModelError, create_student, load_teacher
        >>> from seq2seq_distill.demo import model_source
        >>> try:
        ...     create_student(load_teacher(model_source("demo:translation")).model, decoder_layers=13)
        ... except ModelError as error:
        ...     print(error)
        `student.decoder_layers` 13 exceeds the teacher's 6 layers: choose 1 to 6
    """


class RunError(_OneLineError):
    """A failure outside the command's input, such as of a disk or a process; one line; exit code 3.

    Once the cause is removed, the same command resumes from the last checkpoint.
    """


class Stopped(Exception):
    """A signal ended the run after a checkpoint was written; exit code 128 + `signal`, as for any stopped process."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


def raise_config_error(mistakes: list[str]) -> None:
    """Raise one ConfigError with one line per mistake; return if there are none."""
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def format_value(value: object, longest: int = 200) -> str:
    """A value as messages show it: one line of at most `longest` printable characters; blank text is quoted."""
    if value is None:
        return "null"
    try:
        text = value if isinstance(value, str) else _REPR.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a number of thousands of digits"
    text = redacted(text)  # before truncation: half a URL or token would not be recognised
    if not text.strip():
        text = repr(text)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: longest + 1])
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def one_line(error: Exception, longest: int = 300) -> str:
    """The message of another library's error in one line, without a full stop; its type where it has none."""
    return format_value(" ".join(str(error).split()).rstrip(".") or type(error).__name__, longest)
