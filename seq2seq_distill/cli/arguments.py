"""From command-line arguments to a config; every mistake in them is reported on a separate line."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from jsonargparse import Namespace

from seq2seq_distill.cli.parser import Parser, closest, describe_type, element_of, suggestion
from seq2seq_distill.cli.yaml_files import InvalidYaml, load_yaml_mapping, parse_yaml_mapping
from seq2seq_distill.config import find_problems
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.run_record import as_it_was_meant
from seq2seq_distill.utils.errors import ConfigError, format_value, raise_config_error

QUESTIONS = ("-h", "--help", "--print_config")
LONGEST_NUMBER = 60
"""Maximum number of characters of a number on the command line."""


def config_from(arguments: Sequence[str], config_class: type, prog: str, description: str) -> Any:
    """Build a config of this class from command-line arguments; print the help and exit if they ask for it.

    Raises:
        ConfigError: at least one argument cannot be parsed. There is a line for each of these, and then for each of
            `find_problems`. Where all arguments can be parsed, the config is not validated here.
    """
    parser = Parser.of(config_class, prog, description)
    given = CommandLine(parser, arguments)
    values, problems = Namespace(), given.problems_in_files
    for opening, record in given.records:  # before the flags: whatever comes later wins
        values, wrong = _parsed(functools.partial(parser.parse_object, defaults=False), record, values)
        problems += [_type_problem(parser, name, record[name], opening) for name in wrong]

    def parse_flags(flags: Mapping[str, str], namespace: Namespace) -> Namespace:
        return parser.parse_args([f"--{name}={text}" for name, text in flags.items()], namespace)

    values, wrong = _parsed(parse_flags, given.flags, values)
    if given.questions:
        parser.parse_args(given.questions, values)  # prints, and exits
    problems += [_type_problem(parser, name, given.typed[name], "--") for name in wrong]
    problems += given.problems
    fields = parser.instantiate(values).as_dict()
    config = config_class(**{name: value for name, value in fields.items() if name not in ("config", "provenance")})
    if problems:
        if not given.lacks_a_file:
            named = {option for problem in problems for option in problem.options}
            problems += [problem for problem in find_problems(config) if named.isdisjoint(problem.options)]
        raise_config_error([problem.message for problem in problems])
    return config


def _parsed(
    parse: Callable[[dict[str, Any], Namespace], Namespace], values: dict[str, Any], namespace: Namespace
) -> tuple[Namespace, list[str]]:
    """The namespace with the values but for those of the wrong type, and the names of these.

    Jsonargparse stops at the first value that it refuses and names it only in its message, so each is tried alone.
    """
    try:
        return parse(values, namespace), []
    except ConfigError:
        wrong = [name for name, value in values.items() if not _is_parsed(parse, name, value)]
        if not wrong:
            raise
    return parse({name: value for name, value in values.items() if name not in wrong}, namespace), wrong


def _is_parsed(parse: Callable[[dict[str, Any], Namespace], Namespace], name: str, value: Any) -> bool:
    try:
        parse({name: value}, Namespace())
    except ConfigError:
        return False
    return True


def _type_problem(parser: Parser, name: str, value: Any, opening: str) -> Problem:
    expected = describe_type(parser.type_of(name))
    if expected == describe_type(str) and not isinstance(value, str):
        expected += "; put it in quotes"  # YAML reads no, 2024 and 1.5 as other types
    return Problem((name,), f"{opening}{name} {format_value(value)}: expected {expected}")


class CommandLine:
    """The arguments of a command by option, and what is wrong with them except for the types of values."""

    def __init__(self, parser: Parser, arguments: Sequence[str]) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        """For each config file and group (`--optim '{"lr": 1e-4}'`): the opening of messages, and values by option."""
        self.flags: dict[str, str] = {}
        """Value of each option, in the form that the parser takes."""
        self.typed: dict[str, str] = {}
        """Value of each option, as it was typed."""
        self.questions: list[str] = []
        """Arguments that ask for help or for the config."""
        self.problems_in_files: list[Problem] = []
        self.problems: list[Problem] = []
        self.lacks_a_file = False
        """Whether a config file could not be read."""
        self._parser = parser
        for flag, words in _groups(arguments):
            if flag.partition("=")[0] in QUESTIONS or flag in parser.help_flags:
                self.questions += [flag, *words]
            elif flag:
                self._take(*flag.partition("="), words)
            else:
                self._stray(words)

    def _take(self, flag: str, equals: str, value: str, words: list[str]) -> None:
        name = flag.removeprefix("--")
        if name != "config" and not self._parser.knows(name):
            known = [f"--{name}" for name in self._parser.types]
            meant = (closest(flag, known) or "").removeprefix("--")
            self._add((name, meant), f"{format_value(flag)}: no such option{suggestion(flag, known)}")
            return
        hint = Path if name == "config" else self._parser.type_of(name)
        element = element_of(hint)
        values = [value] if equals else words if element else words[:1]
        typed = " ".join(values)
        if not values:
            self._add((name,), f"{flag}: its value is missing; expected {describe_type(hint)}")
        elif name in self.typed:
            both = f"{format_value(self.typed[name])} and {format_value(typed)}"
            self._add((name,), f"{flag} is given twice, {both}: give it once")
        elif wrong := next((value for value in values if not _can_be(value, element or hint)), None):
            self._add((name,), f"{flag} {format_value(wrong, LONGEST_NUMBER)}: expected {describe_type(hint)}")
        elif name == "config":
            self._add_file(values[0])
        elif hint is None:
            self._add_group(name, values[0])
        elif is_dataclass(element):
            self._add_entries(name, values)
        else:
            none = values == ["null"] and NoneType in get_args(hint)
            self.flags[name] = _as_list(values, element) if element and not none else values[0]
            self.typed[name] = typed
        self._stray(words if equals else words[len(values) :])

    def _add(self, options: tuple[str, ...], message: str) -> None:
        self.problems.append(Problem(options, message))

    def _stray(self, words: Sequence[str]) -> None:
        if words:
            self._add((), f"{format_value(' '.join(words))}: belongs to no option; options start with --, see --help")

    def _add_file(self, path: str) -> None:
        try:
            record = as_it_was_meant(load_yaml_mapping(path))
        except ConfigError as error:
            self.problems_in_files.append(Problem((), str(error)))
            self.lacks_a_file = True
            return
        opening = f"--config {path}: "
        values, problems = _values(self._parser, record, "", opening)
        self.problems_in_files += problems
        self.records.append((opening, values))

    def _add_group(self, name: str, text: str) -> None:
        """Add a group of options, given as a mapping or as the path of a file with one."""
        try:
            record = load_yaml_mapping(text) if Path(text).is_file() else parse_yaml_mapping(text)
        except (InvalidYaml, OSError, ValueError):
            self._add((name,), f"--{name} {format_value(text)}: expected {describe_type(None)}")
            return
        values, problems = _values(self._parser, record, f"{name}.", "--")
        self.problems += problems
        self.typed[name] = text
        self.records.append(("--", values))

    def _add_entries(self, name: str, words: Sequence[str]) -> None:
        """Add a list of mappings, given as `[{...}, {...}]` or `{...} {...}`."""
        self.typed[name] = " ".join(words)
        text = words[0] if len(words) == 1 and words[0].startswith("[") else f"[{', '.join(words)}]"
        try:
            record = parse_yaml_mapping(f"{name}: {text}")
        except InvalidYaml:
            expected = describe_type(self._parser.type_of(name))
            self._add((name,), f"--{name} {format_value(text)}: expected {expected}")
            return
        values, problems = _values(self._parser, record, "", "--")
        self.problems += problems
        self.records.append(("--", values))


def _values(
    parser: Parser, record: Mapping[Any, Any], group: str, opening: str
) -> tuple[dict[str, Any], list[Problem]]:
    """The values of a record by option, and what is wrong with its keys, in messages that open with `opening`."""
    types = parser.types
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in record.items():
        name = f"{group}{key if isinstance(key, str) else format_value(key)}"
        if name not in types:
            message = f"{opening}{format_value(name)}: no such option{suggestion(name, types)}"
            problems.append(Problem((name, closest(name, types) or ""), message))
        elif isinstance(value, list) and is_dataclass(entry_class := element_of(types[name])):
            wrong = _entry_mistakes(entry_class, value, f"{opening}{name}")
            problems += [Problem((name,), message) for message in wrong]
            values |= {} if wrong else {name: value}
        elif types[name] is not None and (value is not None or NoneType in get_args(types[name])):
            values[name] = value
        elif types[name] is None and isinstance(value, dict):
            inner_values, inner_problems = _values(parser, value, f"{name}.", opening)
            values |= inner_values
            problems += inner_problems
        else:
            problems.append(_type_problem(parser, name, value, opening))
    return values, problems


def _entry_mistakes(entry_class: Any, entries: Sequence[Any], opening: str) -> list[str]:
    """One message per wrong key or type in a list of mappings; it names the number of the entry."""
    parser, mistakes = Parser.of(entry_class), []
    parse = functools.partial(parser.parse_object, defaults=False)
    for number, entry in enumerate(entries):
        place = f"{opening} entry {number}, "
        if not isinstance(entry, dict):
            mistakes.append(f"{place}{format_value(entry)}: expected {describe_type(entry_class)}")
            continue
        values, problems = _values(parser, entry, "", place)
        _, wrong = _parsed(parse, values, Namespace())
        problems += [_type_problem(parser, name, values[name], place) for name in wrong]
        mistakes += [problem.message for problem in problems]
    return mistakes


def _groups(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag (or "") with the words that follow it; a word may begin with a single dash, as -1 does."""
    flag = ""
    words: list[str] = []
    for argument in arguments:
        if argument.startswith("--") or argument in QUESTIONS:
            yield flag, words
            flag, words = argument, []
        else:
            words.append(argument)
    yield flag, words


def _can_be(text: str, hint: Any) -> bool:
    """Whether the parser may see the text: it is Unicode, and a number is neither too long nor 1:30, YAML's 90."""
    if not text.isascii() and re.search("[\ud800-\udfff]", text):
        return False
    is_number = not {hint, *get_args(hint)}.isdisjoint({int, float})
    return not is_number or (len(text) <= LONGEST_NUMBER and ":" not in text)


def _as_list(values: Sequence[str], element: Any) -> str:
    """`a b` as `["a", "b"]`, the form that the parser takes; a single value may already be such a list."""
    if len(values) == 1 and values[0].startswith("["):
        return values[0]
    numbers = element in (int, float)
    return f"[{', '.join(value if numbers and _is_number(value) else json.dumps(value) for value in values)}]"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", text) is not None
