"""The `distill` command: arguments to a config, the command's function, errors to exit codes.

Nothing imports torch before all options are in order.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import NamedTuple

import seq2seq_distill
from seq2seq_distill.cli.arguments import config_from
from seq2seq_distill.cli.messages import FlagFormatter, StderrHandler, with_flags
from seq2seq_distill.cli.parser import suggestion
from seq2seq_distill.commands.average.options import AverageConfig
from seq2seq_distill.commands.convert.options import ConvertConfig
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.generate.options import GenerateConfig
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.commands.student.options import StudentOnlyConfig
from seq2seq_distill.commands.trim.options import TrimOnlyConfig
from seq2seq_distill.config import CacheCommandConfig, LabelConfig, RunConfig, validate
from seq2seq_distill.config.validation import CommandConfig
from seq2seq_distill.utils.errors import ConfigError, RunError, Stopped, UserError, format_value
from seq2seq_distill.utils.failures import describe_failure
from seq2seq_distill.utils.terminal import shows_bars

DESCRIPTION = """Distil an encoder-decoder teacher into a small, fast student for summarization or translation.

Without a command, distill trains a student, tests it and compares it with its teacher; with only --task, it runs the
built-in demo.

Commands:
  plan      find the best student that meets a target of speed and size
  budget    find the largest batch that fits into memory
  label     generate targets for a data set with a teacher (pseudo-labels)
  cache     compute the teacher's outputs once, for runs with --teacher_cache
  trim      reduce the vocabulary of a model
  student   create a student without training it
  generate  translate or summarise texts with a model
  evaluate  score, time and compare models
  export    convert a model to a format that is fast to serve
  average   average the weights of several checkpoints
  convert   convert a checkpoint to a Hugging Face folder

`distill COMMAND --help` lists the options of a command; `distill --version` prints the version."""


class Command(NamedTuple):
    """A command: its options, and the function that gets them."""

    config_class: type
    module: str
    """Imported once the options are in order, so that help and mistakes cost no torch."""
    function: str


MORE_MEMORY = "use smaller batches, or a machine with more memory"
COMMANDS = {
    "run": Command(RunConfig, "seq2seq_distill.training.run", "run_config"),
    "cache": Command(CacheCommandConfig, "seq2seq_distill.commands.cache", "fill_cache"),
    "budget": Command(RunConfig, "seq2seq_distill.commands.budget", "find_budget"),
    "plan": Command(PlanConfig, "seq2seq_distill.commands.plan.command", "make_plan"),
    "trim": Command(TrimOnlyConfig, "seq2seq_distill.commands.trim.command", "trim"),
    "student": Command(StudentOnlyConfig, "seq2seq_distill.commands.student.command", "make_student"),
    "generate": Command(GenerateConfig, "seq2seq_distill.commands.generate.command", "generate"),
    "evaluate": Command(EvaluateConfig, "seq2seq_distill.commands.evaluate.command", "evaluate"),
    "label": Command(LabelConfig, "seq2seq_distill.commands.label.command", "label"),
    "export": Command(ExportConfig, "seq2seq_distill.commands.export.command", "export_model"),
    "average": Command(AverageConfig, "seq2seq_distill.commands.average.command", "average"),
    "convert": Command(ConvertConfig, "seq2seq_distill.commands.convert.command", "convert"),
}
# Advice of the libraries that a run cannot follow, or that it heeds already.
IGNORED_WARNINGS = (
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
    """Run a command; returns the exit code, which `utils/errors.py` assigns to each kind of error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"distill {seq2seq_distill.__version__}")
        return 0
    name = arguments.pop(0) if arguments and arguments[0] in COMMANDS else "run"
    command, config = COMMANDS[name], None
    try:
        config = parse(name, arguments)
        if not shows_bars():  # nor do the libraries, which read this when they are imported
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        function = getattr(import_module(command.module), command.function)
        _set_up_logging(command)
        function(config)
    except UserError as error:
        _print_error(error, command)
        return 2
    except RunError as error:
        _print_error(error, command)
        return 3
    except Stopped as stop:
        _print_error(stop, command)
        return 128 + stop.signal
    except KeyboardInterrupt:
        print("distill: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        message = describe_failure(error, getattr(config, "folder", None), MORE_MEMORY)
        if message is None:
            raise
        _print_error(RunError(message), command)
        return 3
    return 0


def parse(name: str, arguments: Sequence[str]) -> RunConfig | CommandConfig:
    """The validated config of a command from its arguments; a bare `run` gets the built-in demo's.

    Raises:
        ConfigError: every mistake that can be seen without loading anything, a line each.
    """
    if name == "run" and arguments and not arguments[0].startswith("-"):
        raise ConfigError(f"{format_value(arguments[0])}: no such command{suggestion(arguments[0], COMMANDS)}")
    config_class = COMMANDS[name].config_class
    about = ("distill [COMMAND]", DESCRIPTION) if name == "run" else (f"distill {name}", config_class.__doc__ or "")
    config = config_from(arguments, config_class, *about)
    if isinstance(config, RunConfig) and config.task and _is_demo(config):
        demo = files("seq2seq_distill.demo") / f"{config.task}.yaml"
        config = config_from(["--config", str(demo), *arguments], config_class, *about)
    validate(config)
    return config


def _is_demo(config: RunConfig) -> bool:
    """Whether nothing says what to train on or from, which means the built-in demo."""
    return config.teacher is None and not config.data and not config.tasks


def _print_error(error: Exception, command: Command) -> None:
    for line in with_flags(str(error), command.config_class).split("\n"):
        print(f"distill: {line}", file=sys.stderr)


def _set_up_logging(command: Command) -> None:
    """The package's own messages, and of the libraries what a user can act on."""
    handler = StderrHandler()
    handler.setFormatter(FlagFormatter(command.config_class))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("seq2seq_distill").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
