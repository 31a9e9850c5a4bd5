"""What is wrong with the value of a single option, whatever the others are: neither torch nor a file is needed."""

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

from seq2seq_distill.config.bounds import Rules, rules_of
from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.utils.errors import format_value

LARGEST = 2**31 - 1
"""Of numbers without an upper bound of their own: what 32 bits hold, and more than anything that is counted here."""
LONGEST_PATH, LONGEST_NAME = 4096, 255
LONGEST_SHOWN = 40
"""Characters of a value that is refused for its length."""


@dataclass(frozen=True)
class _Option:
    """An option of a config, or a key in an entry of a list of mappings, and its value."""

    name: str
    """`optim.lr`, in a message; of an entry "`tasks` entry 0, prefix"."""
    option: str
    value: Any
    nullable: bool
    rules: Rules


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def option_problems(config: Dataclass) -> list[Problem]:
    """One problem for each value of a config (a dataclass, with groups in it) that its option cannot take."""
    return [
        Problem((option.option,), f"{option.name}{wrong}")
        for option in _options(config)
        if (wrong := _option_problem(option)) is not None
    ]


def _options(config: Dataclass, group: str = "", entry: str | None = None) -> Iterator[_Option]:
    """`entry`: the list of mappings that `config` stands in."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value, name = getattr(config, field.name), f"{group}{field.name}"
        if is_dataclass(value) and not isinstance(value, type):
            yield from _options(value, f"{name}.")
        elif isinstance(value, list) and any(is_dataclass(item) for item in value):
            for number, item in enumerate(value):
                yield from _options(item, f"`{name}` entry {number}, ", name)
        else:
            nullable = type(None) in get_args(hints[field.name])
            yield _Option(name if entry else f"`{name}`", entry or name, value, nullable, rules_of(field))


def _option_problem(option: _Option) -> str | None:
    value, rules = option.value, option.rules
    if rules.required and not value:
        return " is missing: name one"
    if value is None:
        return None if option.nullable else " null: it needs a value; give one, or leave it out for the default"
    shown = join_values(value) or "[]" if isinstance(value, list | tuple) else format_value(value)
    if (wrong := _value_problem(value, rules)) is not None:
        return wrong
    return next((f" {shown}{wrong}" for bound in rules.bounds if (wrong := bound(value))), None)


def _value_problem(value: Any, rules: Rules, inside_mapping: bool = False) -> str | None:
    """What makes a value, or one inside it, impossible for any option."""
    match value:
        case None | bool():
            return None
        case str():
            return _text_problem(value, rules, inside_mapping)
        case float() if not math.isfinite(value):
            return f" {value} is not a finite number: give a finite one"
        case int() | float():
            if abs(value) <= LARGEST or rules.has_maximum:
                return None
            return f" {format_value(value, LONGEST_SHOWN)} is too large: choose {LARGEST} or less"
        case list() | tuple():
            problems = (_value_problem(item, rules, inside_mapping) for item in value)
        case dict():
            problems = (_item_problem(key, item) for key, item in value.items())
        case _:
            kind = type(value).__name__
            return f" {format_value(value)} is a {kind}: give text (in YAML, in quotes), a number, true or false"
    return next(filter(None, problems), None)


def _item_problem(key: Any, value: Any) -> str | None:
    if not isinstance(key, str) or not key.isprintable() or not key:
        return f" {format_value(key)}: a key must be text; put it in quotes, or remove it"
    wrong = _value_problem(value, Rules(), inside_mapping=True)
    return None if wrong is None else f" {key}{wrong}"


def _text_problem(text: str, rules: Rules, inside_mapping: bool) -> str | None:
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), "")
    if odd and not (rules.free_text and odd in "\n\t"):
        return f" {format_value(text)} contains the character U+{ord(odd):04X}: remove it"
    if len(text) > LONGEST_PATH:
        return f" {format_value(text, LONGEST_SHOWN)} is too long: give at most {LONGEST_PATH} characters"
    if rules.free_text or inside_mapping:  # a mapping belongs to a library, which may take any text
        return None
    if not text.strip():
        return f" {format_value(text)} is empty: give a value, or leave it out"
    if max(len(part.encode("utf-8", "surrogatepass")) for part in text.split("/")) > LONGEST_NAME:
        return f" {format_value(text, LONGEST_SHOWN)} is too long: give names of at most {LONGEST_NAME} bytes"
    if text.startswith("~"):
        try:
            Path(text).expanduser()
        except RuntimeError:
            return f" {text}: no such home folder on this machine: write out the path"
    return None
