"""Figures of a student beside its teacher: results.json, and tables of it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.metrics.corpus import means_of_all
from seq2seq_distill.utils import terminal

logger = logging.getLogger(__name__)


def build_results(
    task: str, student: dict[str, Any], teacher: dict[str, Any] | None, speed: float | None, scored_by: str
) -> dict[str, Any]:
    """The content of results.json; without a teacher the figures about it are null."""
    kept = None
    if teacher is not None:
        kept = {name: student[name] / teacher[name] if teacher[name] else None for name in TASKS[task].metrics}
    return {
        "task": task,
        "student": student,
        "teacher": teacher,
        "kept": kept,
        "speedup": speed,
        "scored_by": scored_by,
    }


def with_whole_teacher(results: dict[str, Any], whole: dict[str, Any] | None) -> dict[str, Any]:
    """The results with the figures of the teacher before its vocabulary was trimmed, if it was."""
    if whole is None:
        return results
    student, compared = results["student"], build_results(results["task"], results["student"], whole, None, "")
    times = whole["ms_per_token"], student["ms_per_token"]
    return {
        **results,
        "whole_teacher": whole,
        "kept_of_whole": compared["kept"],
        "speedup_over_whole": times[0] / times[1] if all(times) else None,
    }


def merge_task_results(by_task: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of results.json: the results of each task by its name, and means of the figures that all have.

    The only task of a run without `tasks` has no name, and its results are those of the run.
    """
    if list(by_task) == [""]:
        return dict(by_task[""])
    results = list(by_task.values())
    means: dict[str, Any] = {}
    for part in ("student", "teacher", "kept"):
        figures = [{name: v for name, v in (result[part] or {}).items() if v is not None} for result in results]
        means[part] = {
            name: figures[0][name] if all(values[name] == figures[0][name] for values in figures) else mean
            for name, mean in means_of_all(figures).items()
        } or None
    speeds = [result["speedup"] for result in results]
    return {
        "task": " and ".join(dict.fromkeys(result["task"] for result in results)),
        **means,
        "speedup": None if None in speeds else sum(speeds) / len(speeds),
        "scored_by": "; ".join(dict.fromkeys(map(how_scored, results))),
        "tasks": dict(by_task),
    }


def how_scored(results: Mapping[str, Any]) -> str:
    """How the scores in a results.json were computed; empty for one of before they said so."""
    return str(results.get("scored_by", ""))


def print_table(
    results: Mapping[str, Any], caption: str = "", console: Console | None = None, *, title: str | None = None
) -> None:
    """Show student and teacher side by side, and below them the caption on a line of its own."""
    table = Table(title=f"{title or results['task']}: test split")
    head, *rows = _table_rows(results)
    for column in head:
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for row in rows:
        table.add_row(*row)
    console = console or terminal.console()
    console.print(table)
    console.print(caption, soft_wrap=True, highlight=False)


def _table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Head and rows of the table of student and teacher, and of the teacher with its whole vocabulary."""
    others = {"teacher": results["teacher"] or {}}
    speeds = [results["speedup"]]
    if results.get("whole_teacher"):
        others["whole teacher"] = results["whole_teacher"]
        speeds.append(results["speedup_over_whole"])
    rows = [["", "student", *(cell for name in others for cell in (name, f"student / {name}"))]]
    for name, value in results["student"].items():
        row = [name, format_number(value)]
        for other in (other.get(name) for other in others.values()):
            row += [format_number(other), f"{value / other:.3f}" if value and other else ""]
        rows.append(row)
    if results["speedup"]:
        cells = (cell for speed in speeds for cell in ("", f"{speed:.2f}"))
        rows.append(["speed-up per token", "", *cells])
    return rows


def markdown_table(results: Mapping[str, Any]) -> list[str]:
    """The same table in Markdown, line by line."""
    head, *rows = _table_rows(results)
    rule = "|".join(["---", *["---:"] * (len(head) - 1)])
    return [_markdown_row(head), f"|{rule}|", *map(_markdown_row, rows)]


def _markdown_row(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def format_number(value: float | None) -> str:
    """For people: thousands separated, two decimals, nothing for null."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
