"""The picture of the README and its table: quality that students keep against their speed and size.

    python -m benchmarks.picture

draws docs/assets/students-light.svg and students-dark.svg, and writes the table of README.md between its marks, from
docs/assets/students.json, a list of students:

- `name`: beside the mark, followed by the size;
- `kept`: by score, as a fraction of the teacher's; ROUGE-L or BLEU is drawn, the table has all;
- `speedup`: the teacher's time per token over the student's;
- `bytes`: of the weights, to which the area of the mark is proportional;
- `command` and `date`: of the measurement.
"""

import json
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.marked import replace_marked
from seq2seq_distill.commands.evaluate import charts
from seq2seq_distill.config.tasks import TASKS, TITLES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FOLDER = ROOT / "docs" / "assets"
STUDENTS = FOLDER / "students.json"
SCORES = [task.main for task in TASKS.values()]
TEACHER = 100.0
"""The teacher's score, in percent of itself."""
HEADING = 40
"""Height of what stands above the picture."""
SMALLEST, LARGEST = 4.0, 15.0
"""Radii of marks."""

TEMPLATE = charts.TEMPLATES.from_string(
    """\
{% from "charts.html" import palette, lettering, colour, dots %}
<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{{ words }}"
 viewBox="0 {{ -heading }} {{ chart.WIDTH }} {{ scatter.height + heading }}">
<style>
svg {
{{ palette(dark) }}
font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
{{ lettering() }}
</style>
<rect y="{{ -heading }}" width="100%" height="100%" rx="8" fill="var(--paper)"/>
<text class="name" x="12" y="{{ 16 - heading }}">Share of the teacher's score, %</text>
{% for score in scores %}{% set x = 12 + 90 * loop.index0 %}
<circle cx="{{ x + 5 }}" cy="{{ 30 - heading }}" r="5" fill="{{ colour(loop.index) }}"/>
<text x="{{ x + 15 }}" y="{{ 34 - heading }}">{{ score }}</text>
{% endfor %}
<line class="median" stroke-dasharray="4 4" x1="{{ chart.LEFT }}" x2="{{ chart.WIDTH - chart.RIGHT }}"
 y1="{{ level }}" y2="{{ level }}"/>
<text class="name" x="{{ chart.LEFT }}" y="{{ level - 5 }}">teacher</text>
{{ dots(scatter, "times as fast per token as the teacher") }}
</svg>
"""
)


def render(students: Sequence[Mapping[str, Any]], *, dark: bool) -> str:
    """The picture as SVG, for light or dark pages."""
    rows = []
    for student in students:
        score = next(name for name in SCORES if name in student["kept"])
        kept = TEACHER * student["kept"][score]
        name = f"{student['name']}, {size(student['bytes'])}"
        rows.append((name, 1 + SCORES.index(score), student["speedup"], kept, kept, kept))
    largest = max(student["bytes"] for student in students)
    radii = [max(SMALLEST, LARGEST * sqrt(student["bytes"] / largest)) for student in students]
    scatter = charts.scatter(rows, 320, radii=radii, start=min(1.0, *(row[2] for row in rows)), level=TEACHER)
    return TEMPLATE.render(
        scatter=scatter,
        level=scatter.y(TEACHER),
        scores=[TITLES[name] for name in SCORES],
        words="; ".join(
            f"{name}: {kept:.1f}% kept at {speed:.2f} times the speed" for name, _, speed, kept, *_ in rows
        ),
        heading=HEADING,
        dark=dark,
    )


def table(students: Sequence[Mapping[str, Any]]) -> str:
    """The figures in Markdown."""
    lines = [
        "| student | share of the teacher's scores | speed-up per token | size | measured |",
        "|---|---|---:|---:|---|",
    ]
    for student in students:
        kept = ", ".join(f"{TITLES[name]} {TEACHER * share:.1f}%" for name, share in student["kept"].items())
        cells = (student["name"], kept, f"{student['speedup']:.2f}", size(student["bytes"]), student["date"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes as MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.{1 if count < 1e7 else 0}f} MB"


def files(students: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
    """What `main` writes."""
    readme = replace_marked(README.read_text("utf-8"), "students", table(students))
    pictures = {FOLDER / f"students-{page}.svg": render(students, dark=page == "dark") for page in ("light", "dark")}
    return {README: readme, **pictures}


def main() -> None:
    for path, text in files(json.loads(STUDENTS.read_text("utf-8"))).items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
