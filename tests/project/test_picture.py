"""The picture of the README and its table are those of their figures."""

import json
import shlex
from datetime import date
from importlib.util import find_spec
from xml.etree import ElementTree

import pytest

from benchmarks import picture
from seq2seq_distill.cli.main import parse

STUDENTS = json.loads(picture.STUDENTS.read_text("utf-8"))
APART = [
    {"name": "small", "kept": {"bleu": 0.97}, "speedup": 37.0, "bytes": 1.5e6, "date": "2026-11-26"},
    {"name": "slower than its teacher", "kept": {"bleu": 1.02}, "speedup": 0.9, "bytes": 2.4e9, "date": "2026-11-26"},
    {"name": "as fast", "kept": {"rougeL": 0.9}, "speedup": 36.0, "bytes": 0.8e9, "date": "2026-11-26"},
]


def test_the_committed_picture_and_table_are_those_of_the_committed_figures():
    made = picture.files(STUDENTS)
    assert len(made) == 3
    for path, text in made.items():
        assert path.read_text("utf-8") == text, "run python -m benchmarks.picture"


def test_every_figure_has_a_command_and_a_day(monkeypatch):
    monkeypatch.chdir(picture.ROOT)
    for student in STUDENTS:
        assert date.fromisoformat(student["date"]) and student["speedup"] > 0 and student["bytes"] > 0
        program, *arguments = shlex.split(student["command"])
        if program == "distill":
            assert parse("run", arguments)
        else:
            assert (program, arguments[0]) == ("python", "-m") and find_spec(arguments[1])
    assert len({student["name"] for student in STUDENTS}) == len(STUDENTS)


@pytest.mark.parametrize("key", ["speedup", "bytes", "kept"])
def test_every_figure_shows(key):
    first, *others = APART
    other = {score: 0.5 * value for score, value in first[key].items()} if key == "kept" else first[key] / 10
    students = [{**first, key: other}, *others]
    assert picture.render(students, dark=False) != picture.render(APART, dark=False)
    assert picture.table(students) != picture.table(APART)


def test_the_teachers_level_is_always_in_the_picture():
    root = ElementTree.fromstring(picture.render(APART[2:], dark=False))
    line = next(element for element in root.iter() if "stroke-dasharray" in element.attrib)
    assert 0 < float(line.attrib["y1"]) < 280


def test_names_and_marks_lie_within_the_picture_and_areas_are_bytes():
    root = ElementTree.fromstring(picture.render(APART, dark=True))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    name = "{http://www.w3.org/2000/svg}"
    dots = [g for g in root.iter(f"{name}g") if g.find(f"{name}line") is not None]
    circles = {g.find(f"{name}text").text: g.find(f"{name}circle").attrib for g in dots}
    assert list(circles) == ["small, 1.5 MB", "slower than its teacher, 2.4 GB", "as fast, 800 MB"]
    for circle in circles.values():
        x, y, radius = (float(circle[key]) for key in ("cx", "cy", "r"))
        assert left <= x - radius and x + radius <= left + width and top <= y - radius and y + radius <= top + height
    for g in dots:
        text = g.find(f"{name}text")
        wide = len(text.text) * 7
        start = float(text.attrib["x"]) - {"start": 0, "middle": wide / 2, "end": wide}[text.attrib["text-anchor"]]
        assert left <= start and start + wide <= left + width
    largest, smaller = circles["slower than its teacher, 2.4 GB"], circles["as fast, 800 MB"]
    assert (float(largest["r"]) / float(smaller["r"])) ** 2 == pytest.approx(3)
