"""Summarization data from the docstrings of the Python packages that are installed anyway.

A pair is made of one class, function or method. The target is the summary line of its docstring (PEP 257); the source
is what else is known of it, on one line:

    [class words .] name words ( argument words , argument words ) : body of the docstring without the summary line

Identifiers are split into words (`getLayerNames` and `get_layer_names` give `get layer names`), so that a small
vocabulary covers both sides. Only pairs are kept in which at least half of the target's content words occur in the
source. Files are read, never imported.
"""

import ast
import hashlib
import importlib.util
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from seq2seq_distill.demo.markup import body_text, split_docstring, split_identifier

VERSION = 3

# Distribution -> packages: the core dependencies and what these bring along. Of copies the first one is kept.
PACKAGES = {
    "torch": ("torch", "functorch"),
    "pytorch-lightning": ("pytorch_lightning", "lightning_fabric"),
    "transformers": ("transformers",),
    "datasets": ("datasets",),
    "torchmetrics": ("torchmetrics",),
    "huggingface-hub": ("huggingface_hub",),
    "tokenizers": ("tokenizers",),
    "safetensors": ("safetensors",),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "pyarrow": ("pyarrow",),
    "sympy": ("sympy",),
    "networkx": ("networkx",),
    "nltk": ("nltk",),
    "mpmath": ("mpmath",),
    "tensorboard": ("tensorboard",),
    "fsspec": ("fsspec",),
    "aiohttp": ("aiohttp",),
    "jsonargparse": ("jsonargparse",),
    "rich": ("rich",),
    "babel": ("babel",),
    "sacrebleu": ("sacrebleu",),
    "rouge-score": ("rouge_score",),
    "sentencepiece": ("sentencepiece",),
    "absl-py": ("absl",),
    "werkzeug": ("werkzeug",),
    "jinja2": ("jinja2",),
    "click": ("click",),
    "typer": ("typer",),
    "pygments": ("pygments",),
    "markdown": ("markdown",),
    "markdown-it-py": ("markdown_it",),
    "joblib": ("joblib",),
    "dill": ("dill",),
    "multiprocess": ("multiprocess",),
    "protobuf": ("google.protobuf",),
    "grpcio": ("grpc",),
    "pillow": ("PIL",),
    "httpx": ("httpx",),
    "httpcore": ("httpcore",),
    "httpx2": ("httpx2",),
    "httpcore2": ("httpcore2",),
    "anyio": ("anyio",),
    "requests": ("requests",),
    "urllib3": ("urllib3",),
    "filelock": ("filelock",),
    "packaging": ("packaging",),
    "lightning-utilities": ("lightning_utilities",),
    "python-dateutil": ("dateutil",),
    "tqdm": ("tqdm",),
    "pyyaml": ("yaml",),
    "attrs": ("attr",),
    "yarl": ("yarl",),
    "setuptools": ("setuptools",),
}

MAX_SOURCE_WORDS = 48
MAX_ARGUMENTS = 10
TARGET_WORDS = (3, 20)
MIN_OVERLAP = 0.5
VAL_ROWS, TEST_ROWS = 500, 1000
VAL_SHARE, TEST_SHARE = 0.04, 0.08

_SKIPPED_FOLDERS = frozenset(
    ("test", "tests", "testing", "_testing", "idle_test", "lib2to3", "encodings", "pydoc_data", "site-packages")
    + ("dist-packages", "_vendor", "__pycache__")
)
# Much text and hardly a new summary: model code that is mostly copies of other model code, tables.
_SKIPPED_FILES = re.compile(r"(?:modeling_|modular_).*|_.*_builtins\.py|.*_pb2(?:_grpc)?\.py")
_MAX_FILE_BYTES = 1_000_000
_STOP_WORDS = frozenset(
    """a an and are as at be by can do does for from has have if in into is it its no not of on or so such that the
    their then there these this to was when where which will with you your given used using use return returns
    """.split()
)

_NO_SUMMARY = re.compile(
    r"(?:see|todo|fixme|deprecated|copied|note|alias|same|inherit|example|usage|args?|arguments|parameters)\b"
    r"|\w+(?: \w+){0,3} \((?:str|string|int|bool|float|tensor|list|dict|tuple|optional|torch|numpy|np|callable|union"
    r"|any|array)\b",
    re.I,
)
_ENDING = re.compile(r"(?:ing|ed|es|s|e)\b")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.'/()\-]*")

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_HEADER = re.compile(r"^(?P<indent>[ \t]*)(?:async[ ]+)?(?P<kind>def|class)[ ]+(?P<name>\w+)[ ]*[(:\[]", re.M)
_HEADER_END = re.compile(r"\)[^:\n]*:(?=[ \t]*(?:#[^\n]*)?$)", re.M)
_DOCSTRING = re.compile(r":[ \t]*(?:#[^\n]*)?\n\s*[rRuU]?(?P<quotes>\"\"\"|\'\'\')")


class Pair(NamedTuple):
    """One example: a source line and its summary, both plain text without line breaks."""

    source: str
    target: str


class Definition(NamedTuple):
    """A class or function with its docstring; a class has its `__init__`'s arguments, a method its class as `owner`."""

    name: str
    owner: str
    is_class: bool
    arguments: list[str]
    docstring: str


class Splits(NamedTuple):
    """The three splits, and the counts of what was found and removed."""

    train: list[Pair]
    val: list[Pair]
    test: list[Pair]
    counts: dict[str, int]


def _arguments(spec: ast.arguments) -> list[str]:
    """Names of the arguments, without self and cls."""
    stars = [star for star in (spec.vararg, spec.kwarg) if star]
    every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *stars]
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def _stems(text: str) -> list[str]:
    """Lower-case content words, cut to a crude stem so that `layers` meets `layer`."""
    words = (word for word in re.findall(r"[a-z]{2,}", text.lower()) if word not in _STOP_WORDS)
    return [word[:8] for word in _ENDING.sub("", " ".join(words)).split()]


def is_summary(text: str) -> bool:
    """Whether a summary is fit: plain text of 3 to 20 words, and no cross-reference or argument list."""
    length_fits = TARGET_WORDS[0] <= len(text.split()) <= TARGET_WORDS[1]
    return length_fits and bool(_PLAIN.fullmatch(text)) and not _NO_SUMMARY.match(text)


def make_pair(name: str, owner: str, arguments: list[str], docstring: str) -> Pair | None:
    """The pair of a class or function, or None if its docstring is not fit. `owner`: a method's class, else empty."""
    summary, rest = split_docstring(docstring)
    wanted = set(_stems(summary))
    words = split_identifier(name)
    if not is_summary(summary) or not wanted or not words:
        return None
    head = f"{split_identifier(owner)} . {words}" if owner else words
    listed = " , ".join(filter(None, map(split_identifier, arguments[:MAX_ARGUMENTS])))
    body = body_text(rest)
    source = " ".join(f"{head} ( {listed} ) : {body}".split()[:MAX_SOURCE_WORDS])
    if len(wanted.intersection(_stems(source))) < MIN_OVERLAP * len(wanted):
        return None
    return Pair(source, summary[0].upper() + summary[1:] + ".")


def _parse(header: str, indented: bool) -> _Definition | None:
    """The definition at the beginning of `header`, or None if this is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            node = ast.parse(f"if 1:\n{header}" if indented else header).body[0]
    except (SyntaxError, ValueError):
        return None
    node = node.body[0] if isinstance(node, ast.If) else node
    return node if isinstance(node, _Definition) else None


def definitions(text: str) -> list[Definition]:
    """Classes, functions and methods of a Python file that have a docstring in triple quotes, in the order of the text.

    Headers are found by a pattern; only these, with their docstrings, are parsed: much faster than all of the text."""
    found: list[Definition] = []
    outer: list[tuple[int, bool, str]] = []  # indentation, is a class, name
    headers = list(_HEADER.finditer(text))
    ends = [match.start() for match in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=False):  # without headers there is one end too many
        indent, is_class, name = len(header["indent"]), header["kind"] == "class", header["name"]
        while outer and outer[-1][0] >= indent:
            outer.pop()
        inside, owner = bool(outer), outer[-1][2] if outer else ""
        in_function = inside and not outer[-1][1]
        outer.append((indent, is_class, name))
        if in_function:
            continue
        start = _DOCSTRING.search(text, header.end() - 1, end)
        stop = text.find(start["quotes"], start.end(), end) if start else -1
        node = _parse(text[header.start() : stop + 3], indent > 0) if stop >= 0 else None
        docstring = ast.get_docstring(node) if node else None
        if docstring is None and name == "__init__":
            close = _HEADER_END.search(text, header.end() - 1, end)
            node = _parse(f"{text[header.start() : close.end()]} ...", indent > 0) if close else None
        arguments = _arguments(node.args) if node and not isinstance(node, ast.ClassDef) else []
        if name == "__init__" and found and found[-1].name == owner and found[-1].is_class:
            found[-1] = found[-1]._replace(arguments=arguments)
        if docstring is not None:
            found.append(Definition(name, owner, is_class, arguments, docstring))
    return found


def python_files(packages: Iterable[str] | None = None) -> list[str]:
    """Paths of the Python files to read, sorted, package by package (default: all of `PACKAGES`, then the standard
    library); packages that are not installed are passed over."""
    names = [name for group in PACKAGES.values() for name in group] if packages is None else list(packages)
    roots: list[Path] = []
    for name in names:
        parent, _, child = name.rpartition(".")
        spec = importlib.util.find_spec(parent or child)  # never of a dotted name: that would import its parent
        folders = list(spec.submodule_search_locations or []) if spec else []
        roots += [Path(folder) / child if parent else Path(folder) for folder in folders]
    if packages is None:
        roots.append(Path(sysconfig.get_path("stdlib")))
    files: list[str] = []
    for root in roots:
        for folder, subfolders, names_here in os.walk(root):
            subfolders[:] = sorted(set(subfolders) - _SKIPPED_FOLDERS)
            paths = (
                os.path.join(folder, name)
                for name in sorted(names_here)
                if name.endswith(".py") and not _SKIPPED_FILES.fullmatch(name)
            )
            files += [path for path in paths if os.path.getsize(path) <= _MAX_FILE_BYTES]
    return files


def split_pairs(pairs: Iterable[Pair], val_rows: int = VAL_ROWS, test_rows: int = TEST_ROWS) -> Splits:
    """Copies removed, then split by a hash of the target's letters: a pair is in the same split on every machine.

    A copy has the source or the target of an earlier pair, but for case, endings, stop words, punctuation and digits.
    Rows beyond `val_rows` and `test_rows` are left out, not moved to training. The hash also gives the order."""
    seen: set[tuple[str, ...]] = set()
    hashes: dict[str, Pair] = {}
    counts = {"fit": 0, "removed copies": 0}
    for pair in pairs:
        counts["fit"] += 1
        keys = {("source", *_stems(pair.source)), ("target", *_stems(pair.target))}
        if seen.isdisjoint(keys):
            letters = " ".join(re.findall(r"[a-z]+", pair.target.lower()))
            hashes[hashlib.sha256(letters.encode()).hexdigest()] = pair
        else:
            counts["removed copies"] += 1
        seen |= keys
    train: list[Pair] = []
    val: list[Pair] = []
    test: list[Pair] = []
    for digest in sorted(hashes):
        share = int(digest[-8:], 16) / 2**32  # the end of the digest: its beginning already gives the order
        part = test if share < TEST_SHARE else val if share < TEST_SHARE + VAL_SHARE else train
        part.append(hashes[digest])
    counts["left out of val"] = max(0, len(val) - val_rows)
    counts["left out of test"] = max(0, len(test) - test_rows)
    return Splits(train, val[:val_rows], test[:test_rows], counts)


def build(packages: Iterable[str] | None = None) -> Splits:
    """All pairs of the installed packages (or of `packages` alone), split. Takes about half a minute for all."""
    counts: Counter[str] = Counter()
    pairs: list[Pair] = []
    for path in python_files(packages):
        counts["files"] += 1
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for each in definitions(text):
            counts["docstrings"] += 1
            pair = make_pair(each.name, each.owner, each.arguments, each.docstring)
            if pair:
                pairs.append(pair)
    splits = split_pairs(pairs)
    return splits._replace(counts=dict(counts) | splits.counts)


_SOURCE = re.compile(r"(?:[^(]*? \. )?(?P<name>.*?) \((?: .*?)? \) :(?: (?P<body>.*))?")


def parse_source(source: str) -> tuple[str, str]:
    """`(name words, body)` of a source line; the body is empty where the line was cut before it."""
    match = _SOURCE.fullmatch(source)
    if match:
        return match["name"], match["body"] or ""
    return source.partition(" ( ")[0].rpartition(" . ")[2], ""
