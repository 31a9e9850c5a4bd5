"""What a plan found, as a table for people and as a record for programs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from seq2seq_distill.commands.plan.layouts import MB, STEP_OF, Axes, Cost, Layout, Measured, frontier, in_words
from seq2seq_distill.utils.terminal import console


@dataclass(frozen=True)
class Findings:
    """What is known of the layouts."""

    axes: Axes
    teacher: Measured
    predicted: Mapping[Layout, Cost]
    """Of each layout that was to be tried, and of each step alone."""
    measured: Mapping[Layout, Measured]
    tried: Collection[Layout] = ()
    """What was measured of the layouts that may be chosen, and of the frontier where there is no target."""
    losses: Mapping[Layout, float] = field(default_factory=dict)
    """After the trial, or before training, nats per token of the whole vocabulary."""
    losses_alone: Mapping[Layout, float] = field(default_factory=dict)
    """Of the teacher and of steps alone, before training."""
    length_growth: Mapping[int, float | None] = field(default_factory=dict)
    """By size of the vocabulary, how much longer it makes texts."""
    chosen: Layout | None = None

    def best_known(self) -> list[Cost]:
        """The teacher's cost and that of each layout to try, measured or else predicted."""
        layouts = [self.teacher.layout, *self.axes.layouts(self.teacher.layout)]
        return [self.measured.get(layout) or self.predicted[layout] for layout in layouts]

    def name(self, layout: Layout) -> str:
        """The layout in words."""
        return layout.name(self.teacher.layout)


def record(findings: Findings) -> dict[str, Any]:
    """The findings as JSON."""
    teacher = findings.teacher
    return {
        "teacher": {**_figures(findings, teacher), "loss": findings.losses_alone.get(teacher.layout)},
        "alone": [
            {
                "dimension": name,
                **_figures(findings, findings.predicted[layout]),
                "loss": findings.losses_alone.get(layout),
                "length_growth": findings.length_growth.get(layout.vocabulary),
            }
            for name, layouts in findings.axes.alone(teacher.layout).items()
            for layout in layouts
        ],
        "layouts": [
            {
                **_figures(findings, findings.predicted[layout]),
                "measured": _measured(findings.measured.get(layout)),
                "loss": findings.losses.get(layout),
            }
            for layout in findings.axes.layouts(teacher.layout)
        ],
        "frontier": [findings.name(cost.layout) for cost in frontier(findings.best_known())],
        "chosen": None if findings.chosen is None else findings.name(findings.chosen),
    }


def _figures(findings: Findings, cost: Cost) -> dict[str, Any]:
    values = asdict(cost)
    return {"name": findings.name(cost.layout), **values.pop("layout"), **values}


def _measured(cost: Measured | None) -> dict[str, Any] | None:
    if cost is None:
        return None
    values = asdict(cost)
    del values["layout"]
    return values


def print_tables(findings: Findings) -> None:
    """What each step gives alone, and what was measured, to standard error."""
    shown = console(stderr=True)
    shown.print(_alone_table(findings))
    if findings.tried:
        shown.print(_layouts_table(findings))


def _alone_table(findings: Findings) -> Table:
    table = _table("each step alone", ("", "parameters", "MB", "speed-up", "loss"))
    whole = findings.teacher
    rows: list[tuple[str, Cost, Layout]] = [("teacher", whole, whole.layout)]
    for name, layouts in findings.axes.alone(whole.layout).items():
        rows += [
            (f"{name} {in_words(STEP_OF[name](layout))}", findings.predicted[layout], layout) for layout in layouts
        ]
    for label, cost, layout in rows:
        loss = findings.losses_alone.get(layout)
        table.add_row(label, f"{cost.parameters:,}", _mb(cost), f"{cost.speedup:.2f}", _loss(loss))
    return table


def _layouts_table(findings: Findings) -> Table:
    """Narrow enough for a terminal of 80 columns; the rest is in the record."""
    teacher, has_heads = findings.teacher, findings.teacher.layout.num_heads is not None
    columns = ("", "ffn", *(["heads"] if has_heads else []), "vocab", "MB", "ms", "speed-up", "predicted", "loss")
    table = _table("measured layouts", columns, caption="* no other layout is both larger and faster")
    best = {cost.layout for cost in frontier(findings.best_known())}
    tried = [findings.measured[layout] for layout in findings.tried]
    for cost in (teacher, *sorted(tried, key=lambda each: (-each.parameters, each.speedup))):
        layout, is_teacher = cost.layout, cost is teacher
        table.add_row(
            f"{layout.encoder_layers}-{layout.decoder_layers}{' *' if layout in best else ''}",
            in_words(layout.ffn),
            *([str(layout.num_heads)] if has_heads else []),
            str(layout.vocabulary),
            _mb(cost),
            f"{cost.latency_ms:.1f}",
            f"{cost.speedup:.2f}",
            "" if is_teacher else f"{findings.predicted[layout].speedup:.2f}",
            "" if is_teacher else _loss(findings.losses.get(layout)),
            style="bold" if layout == findings.chosen else None,
        )
    return table


def _table(title: str, columns: Iterable[str], caption: str | None = None) -> Table:
    table = Table(title=title, caption=caption)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def _mb(cost: Cost) -> str:
    return f"{cost.bytes / MB:.1f}"


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.3f}"
