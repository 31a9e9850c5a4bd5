"""Command-line arguments to a config: one option for each field, and every mistake told in a line of its own."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

import yaml
from jsonargparse import SUPPRESS, ArgumentParser, set_parsing_settings

from seq2seq_distill.errors import ConfigError

FLAG = re.compile(r"(?<!\S)--[\w.+-]+")
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text (in YAML, in quotes)"}
"""What values of a type look like, for an error message."""


def config_from(arguments: Sequence[str], kind: type, prog: str, description: str) -> Any:
    """A config of this kind from command-line arguments; prints the help and exits if they ask for it.

    Raises:
        ConfigError: a line for each argument that cannot be understood and, in that case, for each impossible value;
            otherwise the values are not checked.
    """
    parser = Parser.of(kind, prog, description)
    named, rest = _part("--config", parser.join_lists(arguments))
    paths = [argument.removeprefix("--config=") for argument in named if argument != "--config"]
    mistakes = [line for path in paths for line in parser.mistakes_in(path)]
    if not mistakes:
        rest = [*named, *rest]  # the files in front: whatever comes later wins
    while True:
        try:
            values = parser.parse_args(rest)
            break
        except ConfigError as error:
            lines = str(error).split("\n")
            mistakes += lines
            fewer = rest
            for flag in filter(None, map(FLAG.match, lines)):  # without these, further mistakes come to light
                fewer = _part(flag[0], fewer)[1]
            if fewer == rest:
                raise ConfigError("\n".join(mistakes)) from None
            rest = fewer
    fields = parser.instantiate(values).as_dict()
    config = kind(**{name: value for name, value in fields.items() if name not in ("config", "provenance")})
    if mistakes:
        raise ConfigError("\n".join([*mistakes, *_further_mistakes(config, mistakes)]))
    return config


def _further_mistakes(config: Any, mistakes: Sequence[str]) -> list[str]:
    """What else is wrong, but for what may follow from leaving out the flags of these mistakes."""
    named = {flag for line in mistakes for flag in FLAG.findall(line)}
    try:
        config.check()
    except ConfigError as error:
        lines = str(error).split("\n")
        return [line for line in lines if "--config" not in named and named.isdisjoint(FLAG.findall(line))]
    return []


class Parser(ArgumentParser):
    """The options of one verb. A mistake is a `ConfigError`, one line with a remedy, instead of usage and exit."""

    @classmethod
    def of(cls, kind: type, prog: str, description: str) -> "Parser":
        """A parser whose options are the fields of `kind`, a dataclass."""
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        usage = f"{prog} [--config FILE] [options]"
        parser = cls(prog=prog, description=description, usage=usage, allow_abbrev=False)
        parser.add_argument("--config", action="config", help="YAML file with any of these options; flags win over it.")
        parser.add_class_arguments(kind, nested_key=None, as_group=False)
        parser.add_argument("--provenance", type=dict, default={}, help=SUPPRESS)  # run.yaml holds it: nothing to set
        return parser

    @property
    def types(self) -> dict[str, Any]:
        """Type of each option by its name; None for a group of options."""
        others = ("help", "config", "print_config")
        return {a.dest: getattr(a, "_typehint", None) for a in self._actions if a.dest not in others}

    def join_lists(self, arguments: Sequence[str]) -> list[str]:
        """`--data a b` as `--data ["a", "b"]`, which is how a list is parsed."""
        types, joined, rest = self.types, [], list(arguments)
        while rest:
            flag, equals, value = rest.pop(0).partition("=")
            element = _element(types.get(flag.removeprefix("--")))
            values = [value] if equals else []
            while element and not equals and rest and not rest[0].startswith("--"):
                values.append(rest.pop(0))
            if element and values and not values[0].startswith("["):
                numbers = element in (int, float)
                values = [f"[{', '.join(v if numbers and _is_number(v) else json.dumps(v) for v in values)}]"]
            joined += [f"{flag}={values[0]}"] if equals else [flag, *values]
        return joined

    def mistakes_in(self, path: str) -> list[str]:
        """What is wrong with a config file, the types of its values aside."""
        try:
            record = yaml.safe_load(Path(path).read_text("utf-8"))
        except OSError as error:
            return [f"--config {path}: {error.strerror}; name a YAML file"]
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            reason = getattr(error, "problem", None) or "not UTF-8 text"
            return [f"--config {path}{where}: no YAML ({reason}); write lines such as `task: translation`"]
        if not isinstance(record, dict):
            return [f"--config {path}: holds no options; write lines such as `task: translation`"]
        return [f"--config {path}: {mistake}" for mistake in self._mistakes(record)]

    def _mistakes(self, record: dict[Any, Any], group: str = "") -> Iterator[str]:
        types = self.types
        for key, value in record.items():
            name = f"{group}{key}"
            if name not in types:
                yield f"{name}: no such option{suggestion(name, types)}"
            elif types[name] is None and not isinstance(value, dict):
                yield f"{name} {value}: expected {expected(None)}"
            elif types[name] is None:
                yield from self._mistakes(value, f"{name}.")

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text, types = " ".join(message.split()), self.types
        if text.lower().startswith("unrecognized arguments:"):
            known = [f"--{name}" for name in types]
            lines = [f"{flag}: no such option{suggestion(flag, known)}" for flag in FLAG.findall(text)]
            words = text.partition(": ")[2]
            raise ConfigError("\n".join(lines) or f"{words}: belongs to no option; options start with --, see --help")
        if found := re.match(r"argument --([\w.]+)\S*: expected one argument", text):
            raise ConfigError(f"--{found[1]}: its value is missing; expected {expected(types.get(found[1]))}")
        if found := re.match(r'Parser key "([\w.]+)"', text):
            group = re.search("load config '(.*?)'", text)
            value = group[1] if group else text.rpartition("value:")[2].strip()
            shown = "null" if value == "None" else value
            raise ConfigError(f"--{found[1]} {shown}: expected {expected(types.get(found[1]))}")
        raise ConfigError(f"{text}; see --help")


def expected(hint: Any) -> str:
    """What values of a type look like, in words; without a type, of a group of options."""
    kind = get_origin(hint) or hint
    inner = [each for each in get_args(hint) if each is not NoneType]
    if hint is None:
        return "a mapping of options, or a YAML file with it"
    if kind is Literal:
        return f"one of {', '.join(inner)}"
    if kind is list:
        return f"a list, each {expected(inner[0])}"
    if kind is tuple:
        return f"{len(inner)} values, each {expected(inner[0])}"
    if kind is dict:
        return 'a mapping such as {"key": 1}'
    return NAMES[kind] if kind in NAMES else " or ".join(map(expected, inner))


def _element(hint: Any) -> Any:
    """Type of the elements of a list or tuple; None for what takes one value."""
    for each in (hint, *get_args(hint)):
        if get_origin(each) in (list, tuple):
            return get_args(each)[0]
    return None


def _part(flag: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A flag with the values that follow it, wherever it is; and all other arguments."""
    own: list[str] = []
    others: list[str] = []
    current = others
    for argument in arguments:
        if argument.startswith("--"):
            current = own if argument.partition("=")[0] == flag else others
        current.append(argument)
    return own, others


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", text) is not None


def suggestion(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.7)
    in_groups = [name for name in names if name.split(".")[-1] == word.removeprefix("--")]
    likely = [*in_groups, *close]
    return f"; did you mean {likely[0]}?" if likely else "; see --help"
