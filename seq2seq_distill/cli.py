"""The `distill` command: verbs, and errors to exit codes. No logic, and no torch before the arguments are parsed."""

import difflib
import json
import logging
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from typing import Any, NoReturn

from jsonargparse import SUPPRESS, ArgumentParser, set_parsing_settings

from seq2seq_distill.config import AverageConfig, ConvertConfig, RunConfig, StudentOnlyConfig
from seq2seq_distill.errors import ConfigError, UserError

DESCRIPTION = """Turn an encoder-decoder teacher into a small, fast student for summarization or translation.

Without a verb: train, test, and compare with the teacher. With neither --teacher nor --data: the built-in demo.
Verbs: student (make one, no training), average (checkpoints), convert (a Lightning checkpoint into a Hugging Face folder).
`distill VERB --help` shows a verb's options."""
# Verb: its config, the module that does it, the function there. Imported after parsing, so that help costs no torch.
VERBS: dict[str, tuple[type, str, str]] = {
    "run": (RunConfig, "seq2seq_distill.run.train", "run_config"),
    "student": (StudentOnlyConfig, "seq2seq_distill.student", "make_student"),
    "average": (AverageConfig, "seq2seq_distill.average", "average"),
    "convert": (ConvertConfig, "seq2seq_distill.convert", "convert"),
}
LISTS = (
    "--data",
    "--data_weights",
    "--logger",
    "--checkpoints",
    "--student.encoder_layer_ids",
    "--student.decoder_layer_ids",
)
"""Flags that take several values, one after the other."""


class Parser(ArgumentParser):
    """Mistakes become `ConfigError`, one line with a remedy, instead of usage and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(self._readable(message))

    def _readable(self, message: str) -> str:
        text = " ".join(message.split())
        known = [option for action in self._actions for option in action.option_strings]
        unknown = re.findall(r"--[\w.+-]+", text) if "nrecognized arguments" in text else []
        unknown += [f"--{key}" for key in re.findall(r"[Kk]ey '([\w.]+)' is not expected", text)]
        if unknown:
            return "\n".join(f"{flag}: no such option{_suggestion(flag, known)}" for flag in unknown)
        found = re.search(r'key "([\w.]+)":? (.*)', text)
        if found:
            return f"--{found[1]}: {found[2].strip()}"
        return f"{text} (see --help)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 after a mistake of the user."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments.pop(0) if arguments and arguments[0] in VERBS else "run"
    try:
        config = parse(verb, arguments)
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("seq2seq_distill").setLevel(logging.INFO)
        _, module, function = VERBS[verb]
        getattr(import_module(module), function)(config)
    except UserError as error:
        for line in str(error).split("\n"):
            print(f"distill: {line}", file=sys.stderr)
        return 2
    return 0


def parse(verb: str, arguments: Sequence[str]) -> Any:
    """The verb's checked config from command-line arguments; a bare `run` gets the built-in demo's."""
    if arguments and not arguments[0].startswith("-"):
        raise ConfigError(f"{arguments[0]}: no such verb{_suggestion(arguments[0], list(VERBS))}")
    config = _parse(verb, arguments)
    if isinstance(config, RunConfig) and config.is_bare and config.task:
        settings = files("seq2seq_distill.demo") / f"{config.task}.yaml"
        config = _parse(verb, ["--config", str(settings), *arguments])
    config.check()
    return config


def _parse(verb: str, arguments: Sequence[str]) -> Any:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    kind = VERBS[verb][0]
    parser = Parser(
        prog="distill" if verb == "run" else f"distill {verb}",
        description=DESCRIPTION if verb == "run" else (kind.__doc__ or ""),
        usage=f"distill {'[VERB]' if verb == 'run' else verb} [--config FILE] [options]",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options; flags win over it.")
    parser.add_class_arguments(kind, nested_key=None, as_group=False)
    parser.add_argument("--provenance", type=dict, default={}, help=SUPPRESS)  # run.yaml holds it: nothing to set
    values = parser.parse_args(join_lists(arguments))
    fields = parser.instantiate(values).as_dict()
    return kind(**{name: value for name, value in fields.items() if name not in ("config", "provenance")})


def join_lists(arguments: Sequence[str]) -> list[str]:
    """`--data a b` as `--data ["a", "b"]`, which is how a list is parsed."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        joined.append(flag)
        if flag in LISTS and rest and not rest[0].startswith("["):
            values = []
            while rest and not rest[0].startswith("--"):
                values.append(rest.pop(0))
            joined.append("[" + ", ".join(value if _is_number(value) else json.dumps(value) for value in values) + "]")
    return joined


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; see --help"
