"""Mistakes in config files."""

import os
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.mistakes.kinds import COUNTS, NUMBERS, OPTIONS, TEXTS, Bad, Kind, command, words

FILE = "config.yaml"
MADE = "made-by-yaml"
"""Is there if YAML was run."""
ENDLESS = Path("/proc/self/mem")
"""Opens, but cannot be read from its beginning, not even by root."""


def held(content: str | bytes, named: str = FILE) -> Bad:
    """The good command with a config file of this content."""
    Path(FILE).write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return Bad(command("--config", FILE), named)


def option(name: str, value: Any) -> str:
    """YAML with one option."""
    group, _, key = name.rpartition(".")
    return yaml.safe_dump({group: {key: value}} if group else {key: value}, allow_unicode=True)


def misspelt(drawn: tuple[str, str]) -> Bad:
    name, letter = drawn
    return held(option(f"{name}{letter}", 1), f"{FILE}: {name}{letter}")


def wrong_type(drawn: tuple[str, Any]) -> Bad:
    name, value = drawn
    return held(option(name, value), f"{FILE}: {name}")


def twice(drawn: tuple[str, int, int]) -> Bad:
    name, first, second = drawn
    return held(f"{name}: {first}\n{name}: {second}\n")


def tagged(drawn: tuple[str, str]) -> Bad:
    name, tag = drawn
    return held(f"{name}: !!python/{tag} ['touch {MADE}']\n")


def multiplied(drawn: tuple[int, int]) -> Bad:
    depth, width = drawn
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return held("\n".join(lines))


def no_file(drawn: str) -> Bad:
    return Bad(command("--config", drawn), drawn)


def folder(name: str) -> Bad:
    Path(name).mkdir(exist_ok=True)
    return Bad(command("--config", name), name)


def unreadable(name: str) -> Bad:
    link = Path(f"{name}.yaml")
    if ENDLESS.exists():
        link.unlink(missing_ok=True)
        os.symlink(ENDLESS, link)
    return Bad(command("--config", str(link)), str(link))


KINDS = (
    Kind(
        "an unknown key",
        st.tuples(st.sampled_from([name for name in OPTIONS if "." in name]), words),
        ("student.decoder_layer", "z"),
        misspelt,
    ),
    Kind(
        "a value of the wrong type",
        st.one_of(
            st.tuples(st.sampled_from(COUNTS), st.one_of(words, st.booleans(), st.floats(0.1, 0.9), st.just([1]))),
            st.tuples(st.sampled_from(NUMBERS), st.one_of(words, st.booleans(), st.just({"a": 1}))),
            st.tuples(st.sampled_from(TEXTS), st.one_of(st.integers(), st.booleans(), st.dates(), st.just(["a"]))),
            st.tuples(st.just("data"), st.one_of(words, st.integers(), st.just({"a": "b"}))),
        ),
        ("src_lang", False),
        wrong_type,
    ),
    Kind(
        "null for an option that requires a value",
        st.sampled_from(
            ["seed", "method", "logger", "optim.lr", "batch.size", "student.overrides", "trainer.strategy"]
        ),
        "batch.size",
        lambda name: held(option(name, None), f"{FILE}: {name} null"),
    ),
    Kind(
        "a value that is out of range",
        st.tuples(st.sampled_from(["optim.lr", "batch.size", "eval.beams", "loss.temperature"]), st.integers(-99, -2)),
        ("optim.lr", -1),
        lambda drawn: held(option(*drawn), f"--{drawn[0]}"),
    ),
    Kind(
        "a file that is not a mapping",
        st.one_of(words, st.integers().map(str), st.lists(words).map(yaml.safe_dump), st.sampled_from(["", "# x\n"])),
        "- 1\n- 2\n",
        held,
    ),
    Kind(
        "invalid YAML",
        st.tuples(
            words, st.sampled_from(["{}: [1\nb: 2\n", "{}: 'x\n", "\t{}: 1\n", "{}: b: c\n", "{}: 1\n b: 2\n"])
        ).map(lambda drawn: drawn[1].format(drawn[0])),
        "data: [a\nseed: 1\n",
        held,
    ),
    Kind(
        "a key given twice",
        st.tuples(st.sampled_from(["seed", "method", "output_dir"]), st.integers(), st.integers()),
        ("seed", 1, 2),
        twice,
    ),
    Kind(
        "a tag for a Python object",
        st.tuples(
            st.sampled_from(["task", "teacher", "student", "anything"]),
            st.sampled_from(["object/apply:os.system", "object/new:os.system", "name:os.system", "module:os", "tuple"]),
        ),
        ("teacher", "object/apply:os.system"),
        tagged,
    ),
    Kind(
        "bytes that are not UTF-8",
        st.binary(min_size=1, max_size=30).map(b"seed: 1 # \xff".__add__),
        b"teacher: M\xfcnchen\n",
        held,
    ),
    Kind("a control character", st.sampled_from("\0\x01\x1b\x7f").map("seed: 1 # {}\n".format), "seed: 1\0\n", held),
    Kind(
        "a number with too many digits in a file",
        st.integers(5000, 9999).map(lambda n: f"seed: {'7' * n}\n"),
        f"seed: {'7' * 5000}\n",
        held,
    ),
    Kind(
        "brackets nested too deeply",
        st.tuples(st.sampled_from("[{"), st.integers(700, 1000)).map(lambda drawn: f"data: {drawn[0] * drawn[1]}"),
        f"data: {'[' * 700}",
        held,
    ),
    Kind("YAML aliases that multiply values", st.tuples(st.integers(8, 20), st.integers(8, 12)), (9, 9), multiplied),
    Kind("a file that does not exist", words.map("{}.yaml".format), "nowhere.yaml", no_file),
    Kind("a folder instead of a file", words, "configs", folder),
    Kind("a file that cannot be read", words, "secret", unreadable),
    Kind(
        "an empty file name",
        st.sampled_from(["", " ", "x" * 5000, "a\0b"]),
        "",
        lambda name: Bad(command("--config", name), "--config"),
    ),
)
