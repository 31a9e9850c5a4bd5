"""Config files: YAML to a mapping of plain values, loaded safely; every error names its place."""

import itertools
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from seq2seq_distill.utils.errors import ConfigError, format_value

LONGEST = 1_000_000
"""Maximum size of a config file in bytes."""
MOST_VALUES = 10_000
"""Maximum number of values in a config file; a value that aliases (*name) repeat counts each time."""
MOST_DIGITS = 1000
"""Of a whole number; Python itself refuses to read one of more than 4,300."""
LARGEST_NUMBER = 10**30
"""Largest number that every later conversion can handle; the options' own bounds come later."""
EXAMPLE = "write lines such as `task: translation`"


class _Loader(yaml.SafeLoader):
    """YAML in which a repeated key is an error, as one of its values would be lost."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:
            message = f"a number of {len(node.value)} digits is too large"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def load_yaml_mapping(path: str) -> dict[Any, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: one line that opens with `--config`, its file and, where there is one, the line: it cannot be
            read, is not valid YAML or not a mapping, or is larger than any config.
    """
    if not path.strip():
        raise ConfigError(f"--config {format_value(path)} is empty: name a YAML file")
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or "not the name of a file"
        raise ConfigError(f"--config {format_value(path)}: {reason}; name a YAML file") from None
    if len(content) > LONGEST:
        raise ConfigError(f"--config {path}: larger than {LONGEST} bytes; name a YAML file of options")
    try:
        record = parse_yaml_mapping(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path}: not valid YAML (not UTF-8 text); {EXAMPLE}") from None
    except InvalidYaml as error:
        raise ConfigError(f"--config {path}{error}; {EXAMPLE}") from None
    return record


def parse_yaml_mapping(text: str) -> dict[Any, Any]:
    """The mapping that YAML text holds; raises InvalidYaml."""
    try:
        record = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidYaml(f"{line}: not valid YAML ({format_value(error.problem or error.context)})") from None
    except yaml.YAMLError as error:
        raise InvalidYaml(
            f": not valid YAML ({format_value(getattr(error, 'reason', None) or 'not UTF-8 text')})"
        ) from None
    except RecursionError:
        raise InvalidYaml(": not valid YAML (too deeply nested)") from None
    except ValueError as error:
        raise InvalidYaml(f": not valid YAML ({format_value(str(error))})") from None
    if not isinstance(record, dict):
        raise InvalidYaml(": contains no options")
    if sum(1 for _ in itertools.islice(_values(record), MOST_VALUES + 1)) > MOST_VALUES:
        raise InvalidYaml(f": contains more than {MOST_VALUES} values")
    for value in _values(record):
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise InvalidYaml(f": a number of {len(f'{value:x}')} hexadecimal digits is too large")
    return record


class InvalidYaml(Exception):
    """What is wrong with YAML text: the end of a message that opens with the name of its file."""


def _values(value: Any) -> Iterator[Any]:
    """All values within a value; endless where a value contains itself."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
