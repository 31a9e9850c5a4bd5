"""What a kind of mistake is: how such input is made, one example of it, and what its message must name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from seq2seq_distill.config import RunConfig

# A command without a mistake, run in a folder that has these.
GOOD = {
    "--task": "translation",
    "--teacher": "teacher",
    "--data": "data",
    "--output_dir": "run",
    "--src_lang": "en",
    "--tgt_lang": "de",
    "--trainer.accelerator": "cpu",
    "--trainer.devices": "1",
}


@dataclass(frozen=True)
class Bad:
    """A command that is wrong."""

    arguments: Sequence[str]
    named: str
    """What the message must name: the flag, or the file with the key or line in it."""
    lines: int = 1
    """Mistakes in it, each of which has a line."""


@dataclass(frozen=True)
class Kind:
    """A mistake that a user can make."""

    title: str
    """What is wrong, as the documentation says it."""
    values: st.SearchStrategy[Any]
    """What differs from one such mistake to the next."""
    example: Any
    """One of the values, for the documentation."""
    make: Callable[[Any], Bad]
    """From a value to a command; writes the files that it needs into the current folder."""


def command(*arguments: str, without: Sequence[str] = ()) -> list[str]:
    """The good command with these arguments, which stand for those of the same flags, and without some flags."""
    given = {argument.partition("=")[0] for argument in arguments}
    kept = {flag: value for flag, value in GOOD.items() if flag not in given and flag not in without}
    return [*(word for pair in kept.items() for word in pair), *arguments]


def evaluation(*arguments: str) -> list[str]:
    """An evaluation without a mistake, with these arguments besides."""
    good = {"--data": "data", "--task": "translation", "--output_dir": "evaluation", "--device": "cpu"}
    return ["evaluate", *(word for pair in good.items() for word in pair), "--models", "teacher", *arguments]


def exporting(*arguments: str) -> list[str]:
    """An export without a mistake, with these arguments besides."""
    good = {"--model": "teacher", "--data": "data", "--task": "translation", "--output_dir": "served"}
    return ["export", *(word for pair in good.items() for word in pair), *arguments]


def labelling(*arguments: str) -> list[str]:
    """Labels without a mistake, with these arguments besides."""
    good = {"--model": "teacher", "--data": "data", "--task": "translation", "--output_dir": "labels"}
    return ["label", *(word for pair in good.items() for word in pair), *arguments]


def options(kind: type = RunConfig, group: str = "") -> dict[str, Any]:
    """Every option of a config with its type, null aside."""
    hints, types = get_type_hints(kind), {}
    for field in fields(kind):
        hint, name = hints[field.name], f"{group}{field.name}"
        if is_dataclass(hint):
            types |= options(hint, f"{name}.")
        else:
            inner = [argument for argument in get_args(hint) if argument is not NoneType]
            types[name] = inner[0] if len(inner) == 1 and NoneType in get_args(hint) else hint
    return types


OPTIONS = options()
COUNTS = [name for name, hint in OPTIONS.items() if hint is int]
NUMBERS = [name for name, hint in OPTIONS.items() if hint is float]
TEXTS = [name for name, hint in OPTIONS.items() if hint is str and not name.endswith("prefix")]
BOOLS = [name for name, hint in OPTIONS.items() if hint is bool]
MAPPINGS = [name for name, hint in OPTIONS.items() if get_origin(hint) is dict]
GROUPS = sorted({name.partition(".")[0] for name in OPTIONS if "." in name})

# Letters of which no number, no yes, no or null, and no name of anything here can be made.
words = st.text("bcdghjkm", min_size=3, max_size=12)
