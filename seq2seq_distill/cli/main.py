"""The `distill` command: arguments to a config, verbs, and errors to exit codes. No torch before all is parsed."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any

from seq2seq_distill.cli.arguments import config_from
from seq2seq_distill.cli.parser import Parser, suggestion
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.options import AverageConfig, ConvertConfig, StudentOnlyConfig
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.schema import RunConfig
from seq2seq_distill.utils.errors import ConfigError, RunError, Stopped, UserError, format_value
from seq2seq_distill.utils.redaction import redacted

DESCRIPTION = """Turn an encoder-decoder teacher into a small, fast student for summarization or translation.

Without a verb: train, test, and compare with the teacher. With neither --teacher nor --data: the built-in demo.
Verbs: plan (which student is as fast as it has to be), label (targets written by the teacher), cache (its
distributions, computed once), budget (the largest batch that fits into memory), student (make one, no training),
evaluate (score, time and compare models), export (ready to serve), average (checkpoints), convert (a checkpoint into a
Hugging Face folder).
`distill VERB --help` shows a verb's options."""
# Verb: its config, the module that does it, the function there. Imported after parsing, so that help costs no torch.
VERBS: dict[str, tuple[type, str, str]] = {
    "run": (RunConfig, "seq2seq_distill.training.run", "run_config"),
    "cache": (RunConfig, "seq2seq_distill.commands.cache", "fill_cache"),
    "budget": (RunConfig, "seq2seq_distill.commands.budget", "find_budget"),
    "plan": (PlanConfig, "seq2seq_distill.commands.plan.command", "make_plan"),
    "student": (StudentOnlyConfig, "seq2seq_distill.commands.student", "make_student"),
    "evaluate": (EvaluateConfig, "seq2seq_distill.commands.evaluate.command", "evaluate"),
    "label": (LabelConfig, "seq2seq_distill.commands.label", "label"),
    "export": (ExportConfig, "seq2seq_distill.commands.export.command", "export_model"),
    "average": (AverageConfig, "seq2seq_distill.commands.average", "average"),
    "convert": (ConvertConfig, "seq2seq_distill.commands.convert", "convert"),
}
# Advice of the libraries that a run cannot follow, or that it heeds already.
IDLE_WARNINGS = (
    "Recommended: pip install sacremoses",
    r"Found \d+ module\(s\) in eval mode",  # frozen parts are meant to be
    r".*isinstance\(treespec, LeafSpec\)",
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    "It is recommended to use .*sync_dist=True",  # every process has the scores of all
    "FSDP2-wrapped module .* returned a view tensor",  # T5's position biases, which nothing changes in place
    "The '.*' does not have many workers",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, as `errors` names them."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments.pop(0) if arguments and arguments[0] in VERBS else "run"
    try:
        config = parse(verb, arguments)
        if not sys.stderr.isatty():  # no progress bars of the libraries in a file or pipe; read when they are imported
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        kind, module, function = VERBS[verb]
        work = getattr(import_module(module), function)
        _set_up_logging(kind)
        work(config)
    except UserError as error:
        for line in with_flags(str(error), VERBS[verb][0]).split("\n"):
            print(f"distill: {line}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"distill: {with_flags(str(error), VERBS[verb][0])}", file=sys.stderr)
        return 3
    except Stopped as stop:
        print(f"distill: {stop}", file=sys.stderr)
        return 128 + stop.signal
    return 0


def parse(verb: str, arguments: Sequence[str]) -> Any:
    """The verb's checked config from command-line arguments; a bare `run` gets the built-in demo's.

    Raises:
        ConfigError: every mistake that can be seen without loading anything, a line each.
    """
    if verb == "run" and arguments and not arguments[0].startswith("-"):
        raise ConfigError(f"{format_value(arguments[0])}: no such verb{suggestion(arguments[0], VERBS)}")
    kind = VERBS[verb][0]
    about = ("distill [VERB]", DESCRIPTION) if verb == "run" else (f"distill {verb}", kind.__doc__ or "")
    config = config_from(arguments, kind, *about)
    if isinstance(config, RunConfig) and config.is_bare and config.task:
        settings = files("seq2seq_distill.demo") / f"{config.task}.yaml"
        config = config_from(["--config", str(settings), *arguments], kind, *about)
    config.check()
    return config


def with_flags(text: str, kind: type) -> str:
    """A message in which the options of a command, which the package names as `loss.temperature`, are its flags."""
    parsers = [Parser.of(each, "", "") for each in (kind, RunConfig)]

    def flag(match: re.Match[str]) -> str:
        return f"--{match[1]}" if any(parser.knows(match[1]) for parser in parsers) else match[0]

    return re.sub(r"`([a-z]\w*(?:\.\w+)*)`", flag, text)


class _Formatter(logging.Formatter):
    """Messages that name flags and show no secrets."""

    def __init__(self, kind: type) -> None:
        super().__init__("%(message)s")
        self._kind = kind

    def format(self, record: logging.LogRecord) -> str:
        return with_flags(redacted(super().format(record)), self._kind)


def _set_up_logging(kind: type) -> None:
    """Our own messages, and of the libraries what a user can act on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(kind))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("seq2seq_distill").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in IDLE_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
