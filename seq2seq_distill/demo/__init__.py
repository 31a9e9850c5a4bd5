"""The built-in demo: data made from what is installed, teachers shipped with the package. Needs no network.

Names: `demo:summarization` (docstrings to their summary line), `demo:translation` (English to German), `demo:copying`
(random words, to teach a model from scratch to read its source first).
"""

import hashlib
import json
import logging
import platform
import re
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import seq2seq_distill.demo.copying as copying
import seq2seq_distill.demo.docstrings as docstrings
import seq2seq_distill.demo.phrases as phrases
from seq2seq_distill.utils.constants import SPLITS
from seq2seq_distill.utils.errors import ConfigError, ModelError
from seq2seq_distill.utils.files import cache_root, create_folder

log = logging.getLogger(__name__)

PREFIX = "demo:"
DATA = ("summarization", "translation", "copying")
TEACHERS = ("summarization", "translation")
COPYING_ROWS = {"train": 40_000, "val": 200, "test": 200}
_MIN_WORD_COUNT = 3  # of a word that copying lines are made of

Rows = dict[str, list[tuple[str, str]]]


def is_demo(name: str) -> bool:
    """Whether `name` is meant for this module: starts with `demo:`."""
    return name.startswith(PREFIX)


def resolve_data(name: str, cache_dir: Path | None = None) -> Path:
    """Folder `{train,val,test}.{source,target}` and `card.json` of a demo data set, built on first use and cached.

    The folder's name holds a hash of the versions of the generator and of the packages that the data is made of.
    `cache_dir` defaults to `$SEQ2SEQ_DISTILL_CACHE/demo`, else `~/.cache/seq2seq_distill/demo`.
    Raises ConfigError for an unknown name."""
    short = _short_name(name, DATA, "data", "data")
    root = cache_dir or cache_root() / "demo"
    recipe = _recipe(short)
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = root / f"{short}-{key}"
    if not (folder / "card.json").is_file():
        log.info("building %s in %s", name, folder)
        rows, counts = _build(short, root)
        _write(folder, rows, {"name": name, **recipe, "counts": counts})
    return folder


def resolve_teacher(name: str, field: str = "teacher") -> Path:
    """Folder of a teacher shipped with the package, named by `field`.

    Raises ConfigError: unknown name; ModelError: not there."""
    short = _short_name(name, TEACHERS, "teacher", field)
    folder = Path(__file__).parent / "teachers" / short
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"`{field}` {name}: {folder} is missing from this installation: "
            f"reinstall the package, or choose another `{field}`"
        )
    return folder


def data_source(name: str) -> str:
    """A data source, with the folder in place of a demo data set's name."""
    return str(resolve_data(name)) if is_demo(name) else name


def model_source(name: str, field: str = "teacher") -> str:
    """A model's folder or hub id, with the folder in place of a demo teacher's name, which `field` states."""
    return str(resolve_teacher(name, field)) if is_demo(name) else name


def baselines(folder: Path) -> dict[str, list[str]]:
    """What one gets on the test split without any model, by name: texts in file order.

    `copy` is the source; `name` (the function's name) and `body` (the first sentence of its docstring's body) are
    those of the summarization data only."""
    sources = (folder / "test.source").read_text(encoding="utf-8").splitlines()
    texts = {"copy": sources}
    if json.loads((folder / "card.json").read_text(encoding="utf-8"))["name"] == "demo:summarization":
        parts = [docstrings.parse_source(source) for source in sources]
        texts["name"] = [name for name, _ in parts]
        texts["body"] = [re.split(r"(?<=[.!?])\s", body)[0] for _, body in parts]
    return texts


def _short_name(name: str, known: Sequence[str], what: str, field: str) -> str:
    short = name.removeprefix(PREFIX)
    if short not in known:
        choices = ", ".join(PREFIX + demo for demo in known)
        raise ConfigError(f"`{field}` {name}: there is no such demo {what}: choose one of {choices}")
    return short


def _recipe(short: str) -> dict[str, Any]:
    """What the data depends on: the versions of its generators and of the packages it is made of."""
    if short == "translation":
        return {"generator": [phrases.VERSION], "packages": _versions(["babel"])}
    versions = _versions(docstrings.PACKAGES) | {"python": platform.python_version()}
    generators = [docstrings.VERSION] if short == "summarization" else [docstrings.VERSION, copying.VERSION]
    return {"generator": generators, "packages": versions}


def _versions(distributions: Sequence[str] | dict[str, Any]) -> dict[str, str]:
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _build(short: str, root: Path) -> tuple[Rows, dict[str, int]]:
    if short == "summarization":
        pairs = docstrings.build()
        return {split: [tuple(pair) for pair in getattr(pairs, split)] for split in SPLITS}, pairs.counts
    if short == "translation":
        drawn = phrases.build()
        return {split: [tuple(pair[:2]) for pair in getattr(drawn, split)] for split in SPLITS}, drawn.counts
    text = [
        (resolve_data("demo:summarization", root) / f"train.{side}").read_text(encoding="utf-8")
        for side in ("source", "target")
    ]
    counted = Counter(" ".join(text).split())
    words = sorted(word for word, count in counted.items() if count >= _MIN_WORD_COUNT)
    lines = {split: copying.copy_lines(words, rows, seed) for seed, (split, rows) in enumerate(COPYING_ROWS.items())}
    return {split: [(line, line) for line in lines[split]] for split in SPLITS}, {"words": len(words)}


def _write(folder: Path, rows: Rows, card: dict[str, Any]) -> None:
    """The folder appears whole or not at all; of two processes that build it at once, the first one wins."""

    def fill(folder: Path) -> None:
        for split, pairs in rows.items():
            for side, column in (("source", 0), ("target", 1)):
                text = "".join(f"{pair[column]}\n" for pair in pairs)
                (folder / f"{split}.{side}").write_text(text, encoding="utf-8", newline="\n")
        record = card | {"rows": {split: len(pairs) for split, pairs in rows.items()}}
        (folder / "card.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    try:
        create_folder(folder, fill)
    except OSError:
        if not (folder / "card.json").is_file():
            raise
