"""The results as tables, for a terminal and in Markdown."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from seq2seq_distill.config.tasks import TITLES
from seq2seq_distill.utils import terminal

MEGABYTE = 1_000_000
FILE_WIDTH = 120
NAME_WIDTH = 12
"""Of a model's name in the terminal before it is folded, at least."""


@dataclass(frozen=True)
class Table:
    """Texts in rows; the first `names` columns say what a row is, the others are numbers."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Quality, size, speed and behaviour."""
    models = results["models"]
    quality = tuple(
        (TITLES.get(metric, metric), model["name"], *_score(model["scores"][metric]))
        for metric in results["metrics"]
        for model in models
        if metric in model["scores"]
    )
    size = ("model", "engine", "parameters", "on disk, MB", "tensors, MB", "process, MB")
    speed = ("model", "beams", "latency, ms", "p95, ms", "ms per token", "examples/s", "speed-up")
    references = [] if results.get("agreement") else [{"name": "references", **results["references"]}]
    behaviour = ("model", "tokens", "length", "empty", "repeated", "copied", "wrong length", "cut")
    return [
        Table(*_quality_opening(results), ("metric", "model", "score", "95% interval", "p"), quality, names=2),
        *_stress(results),
        Table(
            "Size",
            "Weights on disk; at their peak tensors of one example decoded, as `distill plan` predicts them, and what "
            "loading the model and decoding a batch add to a process of its own.",
            size,
            tuple(_size(model) for model in models),
            names=2,
        ),
        Table("Speed", _speed_note(results), speed, tuple(_speed(model) for model in models)),
        Table(
            "Outputs",
            "Mean tokens of an output; length of all over that of the references; shares of outputs with a fault.",
            behaviour,
            tuple(_behaviour(model) for model in [*models, *references]),
        ),
    ]


def _quality_opening(results: Mapping[str, Any]) -> tuple[str, str]:
    """Title and note of the scores."""
    first, resamples = results["models"][0]["name"], results["settings"]["resamples"]
    if agreement := results.get("agreement"):
        return (
            "Agreement",
            f"Scores against the outputs of {agreement}, as the data has no references. Intervals of 95%.",
        )
    return (
        "Quality",
        f"Intervals of 95%; p of a difference from {first}, by {resamples} paired bootstrap samples.",
    )


def _stress(results: Mapping[str, Any]) -> Iterator[Table]:
    """Scores on noisy sources, a column for each kind of noise."""
    stress = results.get("stress")
    if not stress:
        return
    metrics = [metric for metric in results["metrics"] if all(metric in own for own in stress["clean"].values())]
    yield Table(
        "Stress",
        "Scores on noisy sources, each example with one kind of noise; references with the noise of targets.",
        ("metric", "model", *stress),
        tuple(
            (TITLES.get(metric, metric), name, *(f"{by_name[name][metric]:.2f}" for by_name in stress.values()))
            for metric in metrics
            for name in stress["clean"]
        ),
        names=2,
    )


def print_tables(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Show them; in a file or pipe as wide as they need."""
    console = console or terminal.console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    for table in tables(results):
        shown = RichTable(title=table.title, caption=table.note, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for index, column in enumerate(table.columns):
            if index < table.names:
                longest = max(len(row[index]) for row in table.rows)
                shown.add_column(column, overflow="fold", min_width=min(longest, NAME_WIDTH))
            else:
                shown.add_column(column, justify="right")
        for row in table.rows:
            shown.add_row(*map(escape, row))
        console.print(shown)
    console.print("\n".join(signatures(results)), markup=False)


def markdown(results: Mapping[str, Any]) -> list[str]:
    """The tables in Markdown, line by line."""
    lines: list[str] = []
    for table in tables(results):
        rules = ["---"] * table.names + ["---:"] * (len(table.columns) - table.names)
        lines += [f"### {table.title}", "", _markdown_row(table.columns), f"|{'|'.join(rules)}|"]
        lines += [*map(_markdown_row, table.rows), "", table.note, ""]
    return [*lines, *(f"- {line}" for line in signatures(results))]


def signatures(results: Mapping[str, Any]) -> Iterator[str]:
    """What another needs to get the same scores, a line each."""
    for metric, text in results["signatures"].items():
        yield f"{TITLES.get(metric, metric)}: {text}"


def _speed_note(results: Mapping[str, Any]) -> str:
    threads = dict.fromkeys(f"{model['engine']} {model['threads']}" for model in results["models"] if model["speed"])
    if not threads:
        return "Speed was not measured."
    settings = results["settings"]
    alone = min(settings["n_speed"], results["examples"])
    return (
        f"On {results['device']}, {', '.join(threads)}. Latency of {alone} examples one at a time, models "
        f"in turn after a warm-up; examples/s in batches of {settings['batch_size']}; speed-up per token beside the "
        "first model."
    )


def _score(score: Mapping[str, Any]) -> tuple[str, ...]:
    p = "" if score["p"] is None else f"{score['p']:.3f}"
    return f"{score['score']:.2f}", f"{score['low']:.2f} to {score['high']:.2f}", p


def _size(model: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = (_number(model[name], MEGABYTE) for name in ("bytes", "tensor_memory", "peak_memory"))
    return model["name"], model["engine"], _number(model["parameters"]), *sizes


def _speed(model: Mapping[str, Any]) -> tuple[str, ...]:
    speed = model["speed"] or {}
    figures = ("latency_ms", "p95_ms", "ms_per_token", "examples_per_second", "speedup")
    return model["name"], _number(model["beams"]), *(_number(speed.get(name), 1.0) for name in figures)


def _behaviour(model: Mapping[str, Any]) -> tuple[str, ...]:
    shares = ("empty", "repeated", "copied", "wrong_length", "cut")
    return (
        model["name"],
        _number(model["gen_len"], 1.0),
        _number(model["length_ratio"], 1.0),
        *("" if model["faults"].get(name) is None else f"{model['faults'][name]:.1%}" for name in shares),
    )


def _number(value: float | None, unit: float | None = None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if unit is None else f"{value / unit:,.2f}"


def _markdown_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
