"""Messages for people who type commands: options stand in them as flags."""

import logging
import re
import sys

from seq2seq_distill.cli.parser import Parser
from seq2seq_distill.config import RunConfig
from seq2seq_distill.utils.redaction import redacted

OPTION = re.compile(r"`([a-z]\w*(?:\.\w+)*)`")
"""How the package names an option: `loss.temperature`, in backticks."""


def with_flags(text: str, config_class: type) -> str:
    """A message in which the options of a command, or of a run, are flags: `--loss.temperature`.

    Other words in backticks, such as code and file names, stay as they are.
    """
    parsers = [Parser.of(RunConfig), Parser.of(config_class)]

    def flag(match: re.Match[str]) -> str:
        return f"--{match[1]}" if any(parser.knows(match[1]) for parser in parsers) else match[0]

    return OPTION.sub(flag, text)


class StderrHandler(logging.Handler):
    """Writes messages to what is standard error at that moment: a progress bar takes its place to stay below them."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # as in every handler of logging
            self.handleError(record)


class FlagFormatter(logging.Formatter):
    """Log messages with flags and without secrets."""

    def __init__(self, config_class: type) -> None:
        super().__init__("%(message)s")
        self._config_class = config_class

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(redacted(super().format(record)), self._config_class)
