"""Command-line arguments to a config; every mistake among them is told in a line of its own."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from jsonargparse import Namespace

from seq2seq_distill.cli.parser import Parser, WrongValue, describe_type, element_of, suggestion
from seq2seq_distill.cli.yaml_files import InvalidYaml, load_yaml_mapping, parse_yaml_mapping
from seq2seq_distill.utils.errors import ConfigError, format_value

QUESTIONS = ("-h", "--help", "--print_config")
LONGEST_NUMBER = 60
"""Characters of a number on the command line."""


def config_from(arguments: Sequence[str], kind: type, prog: str, description: str) -> Any:
    """A config of this kind from command-line arguments; prints the help and exits if they ask for it.

    Raises:
        ConfigError: a line for each argument that cannot be understood and, in that case, for each impossible value;
            otherwise the values are not checked.
    """
    parser = Parser.of(kind, prog, description)
    given = CommandLine(parser, arguments)
    values, wrong = Namespace(), []
    for opening, record in given.records:  # in front of the flags: whatever comes later wins
        parse_record = functools.partial(parser.parse_object, namespace=values, defaults=False)
        values, lines = _parsed(parse_record, record, dict(record), opening)
        wrong += lines

    def parse_flags(flags: Mapping[str, str]) -> Namespace:
        return parser.parse_args([*given.questions, *(f"--{name}={text}" for name, text in flags.items())], values)

    values, lines = _parsed(parse_flags, given.flags, given.typed, "--")
    fields = parser.instantiate(values).as_dict()
    config = kind(**{name: value for name, value in fields.items() if name not in ("config", "provenance")})
    if mistakes := [*given.mistakes_in_files, *wrong, *lines, *given.mistakes]:
        further = [] if given.lacks_a_file else _further_mistakes(config, mistakes)
        raise ConfigError("\n".join([*mistakes, *further]))
    return config


def _parsed(
    parse: Callable[[dict[str, Any]], Namespace], values: dict[str, Any], typed: Mapping[str, Any], opening: str
) -> tuple[Namespace, list[str]]:
    """What comes of the values but for those of the wrong type, and a line for each of these."""
    wrong: list[str] = []
    while True:
        try:
            return parse(values), wrong
        except WrongValue as error:
            name = next((name for name in values if name == error.name or name.startswith(f"{error.name}.")), None)
            if name is None:
                raise ConfigError(f"{opening}{error}") from None
            del values[name]  # so that others come to light
            wrong.append(f"{opening}{name} {format_value(typed[name])}: expected {describe_type(error.hint)}")


def _further_mistakes(config: Any, mistakes: Sequence[str]) -> list[str]:
    """What else is wrong, but for what may follow from leaving out the options of these mistakes."""
    named = {word for line in mistakes for word in re.findall(r"[\w.]*\w", line)}
    try:
        config.check()
    except ConfigError as error:
        lines = str(error).split("\n")
        return [line for line in lines if named.isdisjoint(re.findall(r"(?<!\S)--([\w.]*\w)", line))]
    return []


class CommandLine:
    """What the arguments of a command say, sorted out, and what is wrong with them but for the types of values."""

    def __init__(self, parser: Parser, arguments: Sequence[str]) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        """Of config files and of groups (`--optim '{"lr": 1e-4}'`): the opening of a message, and values by option."""
        self.flags: dict[str, str] = {}
        """Option to value, in the form in which it is parsed."""
        self.typed: dict[str, str] = {}
        """Option to value, as it was typed."""
        self.questions: list[str] = []
        """For help, or for the config."""
        self.mistakes_in_files: list[str] = []
        self.mistakes: list[str] = []
        self.lacks_a_file = False
        """Whether a config file could not be read."""
        self._parser = parser
        for flag, words in _groups(arguments):
            if flag.partition("=")[0] in QUESTIONS or flag in parser.helps:
                self.questions += [flag, *words]
            elif flag:
                self._take(*flag.partition("="), words)
            else:
                self._stray(words)

    def _take(self, flag: str, equals: str, value: str, words: list[str]) -> None:
        name = flag.removeprefix("--")
        if name != "config" and not self._parser.knows(name):
            known = [f"--{name}" for name in self._parser.types]
            self.mistakes.append(f"{format_value(flag)}: no such option{suggestion(flag, known)}")
            return
        hint = Path if name == "config" else self._parser.type_of(name)
        element = element_of(hint)
        values = [value] if equals else words if element else words[:1]
        typed = " ".join(values)
        if not values:
            self.mistakes.append(f"{flag}: its value is missing; expected {describe_type(hint)}")
        elif name in self.typed:
            self.mistakes.append(
                f"{flag} is given twice, {format_value(self.typed[name])} and {format_value(typed)}: give it once"
            )
        elif wrong := next((each for each in values if not _can_be(each, element or hint)), None):
            self.mistakes.append(f"{flag} {format_value(wrong, LONGEST_NUMBER)}: expected {describe_type(hint)}")
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

    def _stray(self, words: Sequence[str]) -> None:
        if words:
            self.mistakes.append(
                f"{format_value(' '.join(words))}: belongs to no option; options start with --, see --help"
            )

    def _add_file(self, path: str) -> None:
        try:
            record = load_yaml_mapping(path)
        except ConfigError as error:
            self.mistakes_in_files.append(str(error))
            self.lacks_a_file = True
            return
        opening = f"--config {path}: "
        values, mistakes = _values(self._parser, record, "", opening)
        self.mistakes_in_files += mistakes
        self.records.append((opening, values))

    def _add_group(self, name: str, text: str) -> None:
        """A group of options as a mapping, or as the path of a file with one."""
        try:
            record = load_yaml_mapping(text) if Path(text).is_file() else parse_yaml_mapping(text)
        except (InvalidYaml, OSError, ValueError):
            self.mistakes.append(f"--{name} {format_value(text)}: expected {describe_type(None)}")
            return
        values, mistakes = _values(self._parser, record, f"{name}.", "--")
        self.mistakes += mistakes
        self.typed[name] = text
        self.records.append(("--", values))

    def _add_entries(self, name: str, words: Sequence[str]) -> None:
        """A list of mappings: `[{...}, {...}]` or `{...} {...}`."""
        self.typed[name] = " ".join(words)
        text = words[0] if len(words) == 1 and words[0].startswith("[") else f"[{', '.join(words)}]"
        try:
            record = parse_yaml_mapping(f"{name}: {text}")
        except InvalidYaml:
            self.mistakes.append(f"--{name} {format_value(text)}: expected {describe_type(self._parser.type_of(name))}")
            return
        values, mistakes = _values(self._parser, record, "", "--")
        self.mistakes += mistakes
        self.records.append(("--", values))


def _values(parser: Parser, record: Mapping[Any, Any], group: str, opening: str) -> tuple[dict[str, Any], list[str]]:
    """Values by option, and what is wrong with the keys, in messages that open with `opening`."""
    types = parser.types
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for key, value in record.items():
        name = f"{group}{key if isinstance(key, str) else format_value(key)}"
        if name not in types:
            mistakes.append(f"{opening}{format_value(name)}: no such option{suggestion(name, types)}")
        elif isinstance(value, list) and is_dataclass(kind := element_of(types[name])):
            wrong = _mistakes_in_entries(kind, value, f"{opening}{name}")
            mistakes += wrong
            values |= {} if wrong else {name: value}
        elif types[name] is not None and (value is not None or NoneType in get_args(types[name])):
            values[name] = value
        elif types[name] is None and isinstance(value, dict):
            inner, further = _values(parser, value, f"{name}.", opening)
            values |= inner
            mistakes += further
        else:
            mistakes.append(f"{opening}{name} {format_value(value)}: expected {describe_type(types[name])}")
    return values, mistakes


def _mistakes_in_entries(kind: Any, entries: Sequence[Any], opening: str) -> list[str]:
    """What is wrong with the keys and types of a list of mappings, a line each that names the number of the entry."""
    parser, mistakes = Parser.of(kind, "", ""), []
    parse = functools.partial(parser.parse_object, defaults=False)
    for number, entry in enumerate(entries):
        place = f"{opening} entry {number}, "
        if isinstance(entry, dict):
            values, lines = _values(parser, entry, "", place)
            mistakes += [*lines, *_parsed(parse, values, dict(values), place)[1]]
        else:
            mistakes.append(f"{place}{format_value(entry)}: expected {describe_type(kind)}")
    return mistakes


def _groups(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag (or "") with the words behind it; a word may begin with one dash, as -1 does."""
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
    """Whether the text is worth a look at its type: it is Unicode; a number is not endless, nor 1:30, YAML's for 90."""
    if not text.isascii() and re.search("[\ud800-\udfff]", text):
        return False
    is_number = not {hint, *get_args(hint)}.isdisjoint({int, float})
    return not is_number or (len(text) <= LONGEST_NUMBER and ":" not in text)


def _as_list(values: Sequence[str], element: Any) -> str:
    """`a b` as `["a", "b"]`, which is how a list is parsed; a single value may be such a list already."""
    if len(values) == 1 and values[0].startswith("["):
        return values[0]
    numbers = element in (int, float)
    return f"[{', '.join(value if numbers and _is_number(value) else json.dumps(value) for value in values)}]"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", text) is not None
