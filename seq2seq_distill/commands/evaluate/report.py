"""A page for people: tables, pictures, and the examples in which models differ most; one file, no network."""

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from seq2seq_distill.commands.evaluate import charts
from seq2seq_distill.commands.evaluate.scores import example_scores
from seq2seq_distill.commands.evaluate.tables import signatures, tables
from seq2seq_distill.config.tasks import TASKS, TITLES
from seq2seq_distill.data.languages import base_language
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.constants import NO_SPACES

EXAMPLES = 10
"""Shown of each model."""
_NO_SPACE = NO_SPACES.pattern
_WORD = re.compile(rf"{_NO_SPACE}|(?:(?!{_NO_SPACE})\w)+|\s+|.", re.DOTALL)

Piece = tuple[str, bool]
"""A part of a text, and whether the other text has it otherwise."""


@dataclass(frozen=True)
class Example:
    """An input for which a model's output is not the first model's."""

    row: int
    source: str
    reference: str
    first: list[Piece]
    other: list[Piece]
    first_score: float
    other_score: float


def render_html(results: Mapping[str, Any], texts: Mapping[str, Sequence[str]], rows: Dataset) -> str:
    """The whole page as HTML.

    Args:
        results: as results.json holds them.
        texts: outputs by model, in the order of the examples.
        rows: the columns source and target.
    """
    references, names = rows["target"][:], list(texts)
    tokenizer = results["settings"].get("rouge_tokenizer", "default")
    scores = {name: example_scores(results["task"], own, references, tokenizer) for name, own in texts.items()}
    lengths = {"reference": references, **texts}
    return charts.TEMPLATES.get_template("report.html").render(
        results=results,
        tables=tables(results),
        signatures=list(signatures(results)),
        names=names,
        title=TITLES[TASKS[results["task"]].main],
        example_score=TITLES[TASKS[results["task"]].per_example],
        scatter=_scatter(results),
        lengths=charts.histogram([(name, [len(_words(t)) for t in own]) for name, own in lengths.items()]),
        scores=charts.histogram(list(scores.items())),
        training=_training(results),
        examples={name: _examples(texts, scores, names[0], name, rows) for name in names[1:]},
        languages=[base_language(code) if code else "" for code in (results["src_lang"], results["tgt_lang"])],
    )


def diff_words(first: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, those marked that the other does not have in that place; word by word."""
    ours, theirs = _WORD.findall(first), _WORD.findall(other)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        left.append(("".join(ours[a:b]), kind != "equal"))
        right.append(("".join(theirs[c:d]), kind != "equal"))
    return [piece for piece in left if piece[0]], [piece for piece in right if piece[0]]


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if re.match(r"\w", word)]


def _scatter(results: Mapping[str, Any]) -> charts.Scatter | None:
    rows = []
    for index, model in enumerate(results["models"]):
        score = model["scores"].get(TASKS[results["task"]].main)
        if model["speed"] and score:
            rows.append((model["name"], index, model["speed"]["speedup"], score["score"], score["low"], score["high"]))
    return charts.scatter(rows) if rows else None


def _training(results: Mapping[str, Any]) -> list[tuple[str, charts.Curves]]:
    """Of the models that lie in the folder of a run: the validation's main score and loss over its steps."""
    found = []
    for key in (TASKS[results["task"]].main, "loss"):
        series = []
        for index, model in enumerate(results["models"]):
            points = [
                (line["step"], line[f"val_{key}"])
                for line in _metrics(model["model"])
                if isinstance(line.get(f"val_{key}"), int | float) and math.isfinite(line[f"val_{key}"])
            ]
            if len(points) > 1:
                series.append((index, points))
        if series:
            found.append((f"Validation {TITLES.get(key, key)}", charts.curves(series)))
    return found


def _metrics(model: str) -> list[dict[str, Any]]:
    try:
        return OutputFolder(Path(model).expanduser().resolve().parent).read_metrics()
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return []  # a picture less; the figures do not come from there


def _examples(
    texts: Mapping[str, Sequence[str]],
    scores: Mapping[str, Sequence[float]],
    first: str,
    other: str,
    rows: Dataset,
) -> list[Example]:
    """Those with the largest difference of scores."""
    differing = [row for row in range(len(rows)) if texts[first][row] != texts[other][row]]
    differing.sort(key=lambda row: -abs(scores[first][row] - scores[other][row]))
    return [
        Example(
            row,
            rows[row]["source"],
            rows[row]["target"],
            *diff_words(texts[first][row], texts[other][row]),
            scores[first][row],
            scores[other][row],
        )
        for row in differing[:EXAMPLES]
    ]
