"""The options of a command as a jsonargparse parser: a field of a config is an option."""

import difflib
import functools
from argparse import Action, RawDescriptionHelpFormatter
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from jsonargparse import SUPPRESS, ArgumentParser, DefaultHelpFormatter, set_parsing_settings

from seq2seq_distill.utils.errors import ConfigError, format_value

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a YAML file",
}
"""What values of a type look like, for help and error messages."""


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the description, and describes types in words; a default of null is left to the help text."""

    def _get_help_string(self, action: Action) -> str:
        hint = getattr(action, "_typehint", None)
        if hint is None or any(flag.endswith(".help") for flag in action.option_strings):
            return super()._get_help_string(action)
        notes = [] if hint in (str, str | None) else [describe_type(hint)]
        if action.default not in (None, "", [], {}):
            notes.append("default: %(default)s")
        return f"{action.help} ({'; '.join(notes)})" if notes else str(action.help)


class Parser(ArgumentParser):
    """The options of one command. A mistake is a `ConfigError`, one line with a remedy, instead of usage and exit."""

    @classmethod
    @functools.cache
    def of(cls, config_class: type, prog: str = "", description: str = "") -> "Parser":
        """A parser whose options are the fields of a dataclass."""
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        usage = f"{prog} [--config FILE] [options]"
        parser = cls(
            prog=prog, description=description, usage=usage, formatter_class=_HelpFormatter, allow_abbrev=False
        )
        help_text = "YAML file with values of any of these options; options on the command line take precedence."
        parser.add_argument("--config", action="config", help=help_text)
        parser.add_class_arguments(config_class, nested_key=None, as_group=False)
        parser.add_argument("--provenance", type=dict, default={}, help=SUPPRESS)  # run.yaml holds it: nothing to set
        return parser

    @functools.cached_property
    def types(self) -> dict[str, Any]:
        """Type of each option by its name; None for a group of options."""
        general = ("help", "config", "print_config")
        actions = [action for action in self._actions if action.dest not in general]
        return {
            action.dest: getattr(action, "_typehint", None)
            for action in actions
            if f"--{action.dest}" not in self.help_flags
        }

    @functools.cached_property
    def help_flags(self) -> list[str]:
        """Flags that explain the entries of a list of mappings (`--matches.help`)."""
        return [flag for action in self._actions for flag in action.option_strings if flag.endswith(".help")]

    def type_of(self, name: str) -> Any:
        """Type of an option; None for a group of options, Any for a key in a mapping (`student.overrides.dropout`)."""
        return self.types.get(name, Any)

    def knows(self, name: str) -> bool:
        """Whether there is such an option, or a mapping that it is a key of."""
        parts = name.split(".")
        mappings = (".".join(parts[:end]) for end in range(1, len(parts)))
        return name in self.types or any(get_origin(self.types.get(mapping)) is dict for mapping in mappings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(f"{format_value(' '.join(message.split()))}; see --help")


def describe_type(hint: Any) -> str:
    """What values of a type look like, in words; without a type, of a group of options."""
    kind = get_origin(hint) or hint
    inner = [argument for argument in get_args(hint) if argument is not NoneType]
    if hint is None:
        return "a mapping of options, or a YAML file with one"
    if kind is Literal:
        return f"one of {', '.join(inner)}"
    if kind is list:
        return f"a list, each {describe_type(inner[0])}"
    if kind is tuple:
        return f"{len(inner)} values, each {describe_type(inner[0])}"
    if kind is dict or is_dataclass(kind):
        return 'a mapping such as {"key": 1}'
    return NAMES[kind] if kind in NAMES else " or ".join(map(describe_type, inner)) or "a value"


def element_of(hint: Any) -> Any:
    """Type of the elements of a list or tuple; None for what takes one value."""
    for candidate in (hint, *get_args(hint)):
        if get_origin(candidate) in (list, tuple):
            return get_args(candidate)[0]
    return None


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant: the same name in a group, or one spelt alike."""
    names = list(known)
    in_groups = [name for name in names if name.split(".")[-1] == word.removeprefix("--")]
    alike = difflib.get_close_matches(word[:100], names, n=1, cutoff=0.7)
    return next(iter([*in_groups, *alike]), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the known one that was most likely meant."""
    likely = closest(word, known)
    return f"; did you mean {likely}?" if likely else "; see --help"
