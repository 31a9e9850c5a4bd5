"""The options of a verb as a jsonargparse parser: a field is an option, and what is wrong is told in words."""

import difflib
import functools
import re
from collections.abc import Iterable
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from jsonargparse import SUPPRESS, ArgumentParser, set_parsing_settings

from seq2seq_distill.utils.errors import ConfigError, format_value

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text (in YAML, in quotes)",
    Path: "a YAML file",
}
"""What values of a type look like, for an error message."""


class WrongValue(ConfigError):
    """The value of an option is not of the option's type."""

    def __init__(self, name: str, hint: Any) -> None:
        super().__init__(f"{name}: expected {describe_type(hint)}")
        self.name, self.hint = name, hint


class Parser(ArgumentParser):
    """The options of one verb. A mistake is a `ConfigError`, one line with a remedy, instead of usage and exit."""

    @classmethod
    @functools.cache
    def of(cls, kind: type, prog: str, description: str) -> "Parser":
        """A parser whose options are the fields of `kind`, a dataclass."""
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        usage = f"{prog} [--config FILE] [options]"
        parser = cls(prog=prog, description=description, usage=usage, allow_abbrev=False)
        parser.add_argument("--config", action="config", help="YAML file with any of these options; flags win over it.")
        parser.add_class_arguments(kind, nested_key=None, as_group=False)
        parser.add_argument("--provenance", type=dict, default={}, help=SUPPRESS)  # run.yaml holds it: nothing to set
        return parser

    @functools.cached_property
    def types(self) -> dict[str, Any]:
        """Type of each option by its name; None for a group of options."""
        others = ("help", "config", "print_config")
        own = [action for action in self._actions if action.dest not in others and f"--{action.dest}" not in self.helps]
        return {action.dest: getattr(action, "_typehint", None) for action in own}

    @functools.cached_property
    def helps(self) -> list[str]:
        """Flags that explain the entries of a list of mappings (`--matches.help`)."""
        return [flag for action in self._actions for flag in action.option_strings if flag.endswith(".help")]

    def type_of(self, name: str) -> Any:
        """Type of an option, of a group None; of a key inside a mapping (`student.overrides.dropout`) any."""
        return self.types.get(name, Any)

    def knows(self, name: str) -> bool:
        """Whether there is such an option, or a mapping that it is a key of."""
        parts = name.split(".")
        outer = (".".join(parts[:end]) for end in range(1, len(parts)))
        return name in self.types or any(get_origin(self.types.get(each)) is dict for each in outer)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if found := re.match(r'Parser key "([\w.]+)"', message):
            raise WrongValue(found[1], self.types.get(found[1]))
        raise ConfigError(f"{format_value(' '.join(message.split()))}; see --help")


def describe_type(hint: Any) -> str:
    """What values of a type look like, in words; without a type, of a group of options."""
    kind = get_origin(hint) or hint
    inner = [each for each in get_args(hint) if each is not NoneType]
    if hint is None:
        return "a mapping of options, or a YAML file with it"
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
    for each in (hint, *get_args(hint)):
        if get_origin(each) in (list, tuple):
            return get_args(each)[0]
    return None


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: the most likely of those that are."""
    names = list(known)
    close = difflib.get_close_matches(word[:100], names, n=1, cutoff=0.7)
    in_groups = [name for name in names if name.split(".")[-1] == word.removeprefix("--")]
    likely = [*in_groups, *close]
    return f"; did you mean {likely[0]}?" if likely else "; see --help"
