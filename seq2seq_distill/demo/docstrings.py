"""Summarization data from the docstrings of the Python packages that are installed anyway.

A pair is made of one class, function or method. The target is the summary line of its docstring (PEP 257); the source is what
else is known of it, on one line:

    [class words .] name words ( argument words , argument words ) : body of the docstring without the summary line

Identifiers are split into words (`getLayerNames` and `get_layer_names` give `get layer names`), so that a small vocabulary
covers both sides. Only pairs are kept in which at least half of the target's content words occur in the source. Files are
parsed, never imported.
"""

import ast
import hashlib
import importlib.util
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

VERSION = 1

# Distribution -> top-level packages. The core dependencies and what these bring along; of equal pairs the first one is kept.
PACKAGES = {
    "torch": ("torch", "torchgen", "functorch"),
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

MAX_SOURCE_WORDS = 60
TARGET_WORDS = (3, 20)
MIN_OVERLAP = 0.5
VAL_ROWS, TEST_ROWS = 500, 1000
VAL_SHARE, TEST_SHARE = 0.04, 0.08

_SKIPPED_FOLDERS = {"test", "tests", "testing", "_testing", "idle_test", "lib2to3", "site-packages", "_vendor", "__pycache__"}
_MAX_FILE_BYTES = 1_000_000
_STOP_WORDS = frozenset(
    "a an and are as at be by can do does for from has have if in into is it its no not of on or so such that the their then"
    " there these this to was when where which will with you your given used using use return returns".split()
)

_FENCE = re.compile(r"```.*?(```|\Z)|~~~.*?(~~~|\Z)", re.S)
_LITERAL = re.compile(r"::[ \t]*\n(?:[ \t]*\n)*(?P<indent>[ \t]+)\S.*(?:\n(?:(?P=indent).*|[ \t]*))*")
_RULES = (  # modest cleaning of reStructuredText, Markdown and HTML; the order matters
    (re.compile(r"\{\{.*?\}\}|<!--.*?-->|</?[A-Za-z][^<>\n]{0,40}>"), " "),
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)"), r"\1"),  # [text](url)
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{0,2}"), r"\1"),  # `text <url>`_
    (re.compile(r":[a-z]+(?::[a-z]+)?:`(?:[^`<]*<)?~?!?\.?([^`<>]*)>?`"), r"`\1`"),  # :role:`target`
    (re.compile(r"<?https?://\S+"), " "),
    (re.compile(r"\[`~?([^`\]]*)`\]"), r"`\1`"),  # [`Name`]
    (re.compile(r"`~?([A-Za-z_][\w.]*\.)?([A-Za-z_]\w*)(\(\))?`"), r" \2 "),  # `a.b.name()` -> name
    (re.compile(r"\|([A-Za-z]\w*)\||\[\d+\]_?|\b_\w+_\d+_\b"), r"\1"),
    (re.compile(r"[`*]+|\$\$?|\\[a-z]+\b|\\"), " "),
    (re.compile(r"\b(?:[a-z_]\w*\.){1,5}(\w+)(?:\(\))?"), lambda m: m[0] if len(m[0]) < 6 or m[1].isdigit() else m[1]),
    (re.compile(r"\(\)"), ""),
)
_DROPPED_LINE = re.compile(
    r"\s*(?:>>>|\.\.\.(?:\s|$)|\.\. |@|[-=~^#+*_\s|]{3,}$|:(?:\w+):|#+ |args?:$|arguments?:$|param(?:eter)?s?:?$|versionadded)",
    re.I,
)
_END_OF_PROSE = re.compile(
    r"\s*(?:examples?|references?|see also|shape|doctests?|usage|authors?|todo|notes?|sample)s?\s*(?::+\s*$|$)", re.I
)
_FIELD = re.compile(r":(?:param|type|returns?|rtype|raises?|arg|ivar|var|keyword)\b\s*([^:]*):", re.I)
_WORD_PARTS = re.compile(r"[A-Z]{2,}(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_IDENTIFIER = re.compile(r"\b(?:[A-Za-z]\w*_\w*|_+\w+|[A-Za-z]*[a-z]\d*[A-Z]\w*|[A-Z]{2,}[a-z]{2,}\w*)\b")
_SENTENCE_END = re.compile(r"(?<![.\s][a-z])(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)[.!?:]\s+(?=[A-Z])")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.'/()\-]*")


class Pair(NamedTuple):
    """One example: a source line and its summary, both plain text without line breaks."""

    source: str
    target: str


class Splits(NamedTuple):
    """The three splits, and the counts of what was found and removed."""

    train: list[Pair]
    val: list[Pair]
    test: list[Pair]
    counts: dict[str, int]


def split_identifier(name: str) -> str:
    """`getLayerNames`, `get_layer_names` -> `get layer names`; all-capital parts are kept: `BARTModel` -> `BART model`."""
    parts = _WORD_PARTS.findall(name)
    return " ".join(part if len(part) > 1 and part.isupper() and part.isalpha() else part.lower() for part in parts)


def clean(text: str) -> str:
    """Markup removed, identifiers split into words, white space collapsed to one line."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)  # type: ignore[arg-type]
    text = _IDENTIFIER.sub(lambda match: split_identifier(match[0]), text)
    text = re.sub(r"\s+([,.;:)])", r"\1", " ".join(text.split()))
    return re.sub(r"\(\s+", "(", text).strip()


def _body_text(lines: list[str]) -> str:
    """The docstring's body on one line: prose and the arguments' descriptions, without examples, code and tables."""
    kept: list[str] = []
    for line in lines:
        if _END_OF_PROSE.match(line):
            break
        line = _FIELD.sub(r"\1:", line)
        if not _DROPPED_LINE.match(line):
            kept.append(line)
    return clean("\n".join(kept)).strip(" :-")


def split_docstring(docstring: str) -> tuple[str, str]:
    """`(summary, body)` of a docstring whose indentation is cleaned; the summary is the first sentence of the first paragraph."""
    text = _LITERAL.sub(".\n", _FENCE.sub(" ", docstring)).strip()
    first, _, rest = text.partition("\n\n")
    summary = clean(first)
    match = _SENTENCE_END.search(summary + " ")
    remainder = ""
    if match:
        summary, remainder = summary[: match.start()], summary[match.end() :].strip()
    body = " ".join(part for part in (remainder, _body_text(rest.splitlines())) if part)
    return summary.rstrip(" .:;!"), body


def _arguments(node: ast.AST) -> list[str]:
    """Names of the arguments of a function, or of a class's `__init__`, without self and cls."""
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return _arguments(inits[0]) if inits else []
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    spec = node.args
    every = [*spec.posonlyargs, *spec.args, *([spec.vararg] if spec.vararg else []), *spec.kwonlyargs]
    if spec.kwarg:
        every.append(spec.kwarg)
    return [argument.arg for argument in every if argument.arg not in ("self", "cls")]


def _content_words(text: str) -> set[str]:
    """Lower-case words without stop words, cut to a crude stem so that `layers` meets `layer`."""
    words = re.findall(r"[a-z]{2,}", text.lower())
    return {re.sub(r"(?:ing|ed|es|s|e)$", "", word)[:8] or word for word in words if word not in _STOP_WORDS}


def make_pair(node: ast.AST, owner: str = "") -> Pair | None:
    """The pair of one class or function, or None if it has no fit docstring. `owner` is the class of a method."""
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    summary, body = split_docstring(ast.get_docstring(node) or "")
    if not TARGET_WORDS[0] <= len(summary.split()) <= TARGET_WORDS[1] or not _PLAIN.fullmatch(summary):
        return None
    arguments = " , ".join(filter(None, map(split_identifier, _arguments(node)[:10])))
    name = split_identifier(node.name)
    if not name:
        return None
    head = f"{split_identifier(owner)} . {name}" if owner else name
    source = f"{head} ( {arguments} ) : {body}" if arguments else f"{head} ( ) : {body}"
    source = " ".join(source.split()[:MAX_SOURCE_WORDS])
    wanted = _content_words(summary)
    if not wanted or len(wanted & _content_words(source)) < MIN_OVERLAP * len(wanted):
        return None
    return Pair(source, summary[0].upper() + summary[1:] + ".")


def pairs_in_file(path: str) -> tuple[int, list[Pair]]:
    """`(number of docstrings, fit pairs)` of one Python file, in the order of the text; a file that does not parse has none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return 0, []
    found, pairs = 0, []
    for node, owner in _definitions(tree.body, ""):
        if ast.get_docstring(node, clean=False):
            found += 1
            pair = make_pair(node, owner)
            if pair:
                pairs.append(pair)
    return found, pairs


def _definitions(
    body: Iterable[ast.stmt], owner: str
) -> Iterator[tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node, owner
            yield from _definitions(node.body, node.name)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, owner
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node.body, owner)


def python_files(packages: Iterable[str] | None = None) -> list[str]:
    """Paths of the Python files to read, package by package (default: all of `PACKAGES`, then the standard library), sorted
    within each; packages that are not installed are passed over."""
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
            paths = (os.path.join(folder, name) for name in sorted(names_here) if name.endswith(".py"))
            files += [path for path in paths if os.path.getsize(path) <= _MAX_FILE_BYTES]
    return files


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def split_pairs(pairs: Iterable[Pair], val_rows: int = VAL_ROWS, test_rows: int = TEST_ROWS) -> Splits:
    """Copies removed, then split by a hash of the normalised target, so that a pair is in the same split on every machine.

    A copy has the source or the target of an earlier pair, but for case, punctuation and digits. Rows beyond `val_rows` and
    `test_rows` are left out, not moved to training. Each split is in the order of the hash."""
    sources: set[str] = set()
    hashes: dict[str, Pair] = {}
    counts: Counter[str] = Counter()
    for pair in pairs:
        counts["fit"] += 1
        source, target = _normal(pair.source), _normal(pair.target)
        digest = hashlib.sha256(target.encode()).hexdigest()
        if source in sources or digest in hashes:
            counts["removed copies"] += 1
            continue
        sources.add(source)
        hashes[digest] = pair
    train, val, test = [], [], []
    for digest in sorted(hashes):
        share = int(digest[-8:], 16) / 2**32  # the end of the digest: its beginning already gives the order
        part = test if share < TEST_SHARE else val if share < TEST_SHARE + VAL_SHARE else train
        part.append(hashes[digest])
    counts["left out of val"] = max(0, len(val) - val_rows)
    counts["left out of test"] = max(0, len(test) - test_rows)
    return Splits(train, val[:val_rows], test[:test_rows], dict(counts))


def build(packages: Iterable[str] | None = None, processes: int | None = None) -> Splits:
    """All pairs of the installed packages (or of `packages` alone), split. `processes` defaults to the cores, 4 at most."""
    files = python_files(packages)
    processes = processes or min(4, os.cpu_count() or 1)
    results: list[tuple[int, list[Pair]]] = []
    if processes > 1:
        try:  # spawn, since the caller may hold threads of torch, which a fork does not survive
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                results = list(pool.map(pairs_in_file, files, chunksize=32))
        except BrokenProcessPool:  # a script without `if __name__ == "__main__"` cannot be spawned
            results = []
    results = results or [pairs_in_file(path) for path in files]
    splits = split_pairs(pair for _, pairs in results for pair in pairs)
    counts = {"files": len(files), "docstrings": sum(found for found, _ in results)}
    return splits._replace(counts=counts | splits.counts)


_SOURCE = re.compile(r"(?:.*? \. )?(?P<name>.*?) \((?: .*?)? \) :(?: (?P<body>.*))?")


def parse_source(source: str) -> tuple[str, str]:
    """`(name words, body)` of a source line; the body is empty where the line was cut before it."""
    match = _SOURCE.fullmatch(source)
    return (match["name"], match["body"] or "") if match else (source.partition(" ( ")[0], "")
