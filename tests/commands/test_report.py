"""The page for people: marks where they belong, texts as texts, and how it looks in a browser."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.commands.evaluate import charts
from seq2seq_distill.commands.evaluate.report import EXAMPLES, diff_words, render_html
from seq2seq_distill.commands.evaluate.tables import markdown, print_tables, tables

NASTY = '<script>alert("x")</script> & </div><img src=x onerror=alert(1)> "quoted" \'so\' {{ 7 * 7 }}'
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def score(value: float, p: float | None) -> dict[str, Any]:
    return {"score": value, "low": value - 2, "high": value + 2, "p": p}


def model(name: str, place: Path | str, quality: float, speedup: float | None) -> dict[str, Any]:
    speed = {"latency_ms": 90.0, "p95_ms": 120.0, "ms_per_token": 3.0, "examples_per_second": 40.0, "speedup": speedup}
    return {
        "name": name,
        "model": str(place),
        "scores": {"bleu": score(quality, 0.02), "chrf": score(quality + 20, 0.01)},
        "gen_len": 12.0,
        "length_ratio": 1.02,
        "faults": {"empty": 0.0, "repeated": 0.01, "copied": 0.0, "wrong_length": 0.1, "cut": 0.0},
        "engine": "transformers" if speedup else "outputs",
        "threads": "2 threads",
        "parameters": 1_234_567 if speedup else None,
        "bytes": 4_938_268,
        "beams": 4,
        "tensor_memory": 50_000_000,
        "peak_memory": 81_000_000,
        "speed": speed if speedup else None,
    }


def results(*models: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": "translation",
        "data": ["demo:translation"],
        "split": "test",
        "examples": 30,
        "data_fingerprint": "0123abcd",
        "src_lang": "en",
        "tgt_lang": "de_DE",
        "device": "x86_64 CPU",
        "processes": 1,
        "settings": {"batch_size": 32, "n_speed": 50, "resamples": 1000, "seed": 12345},
        "versions": {"torch": "2.13.0", "datasets": None},
        "metrics": ["bleu", "chrf"],
        "signatures": {"bleu": "nrefs:1|tok:13a", "chrf": "nrefs:1|nc:6"},
        "references": {
            "gen_len": None,
            "length_ratio": 1.0,
            "faults": {"empty": 0.0, "repeated": 0.0, "copied": 0.0, "wrong_length": 0.0},
        },
        "models": list(models),
    }


def rows(count: int = 30) -> Dataset:
    words = "der Hund läuft über das grüne Feld und sieht zwei alte Männer im Park".split()
    return Dataset.from_dict(
        {
            "source": [f"{NASTY if i == 3 else 'the dog runs'} {i}" for i in range(count)],
            "target": [" ".join(words[: 3 + i % 10]) for i in range(count)],
        }
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a metrics.jsonl."""
    lines = [{"step": step, "val_bleu": step / 40, "val_loss": 3 - step / 500} for step in (0, 400, 800, 1200)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return tmp_path


@pytest.fixture
def report(run: Path) -> str:
    targets = rows()["target"][:]
    texts = {
        "teacher": targets,
        "student": [f"{text} ja {i}" if i % 2 else text for i, text in enumerate(targets)],
        f"file {NASTY}": [NASTY, *targets[1:]],
    }
    models = [
        model("teacher", "demo:translation", 40, 1.0),
        model("student", run / "best", 36, 2.4),
        model(f"file {NASTY}", "outputs.txt", 30, None),
    ]
    return render_html(results(*models), texts, rows())


class Page(HTMLParser):
    """Tags with attributes, and whether they are closed in order."""

    VOID = ("meta", "br", "hr", "img", "input", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


class TestPage:
    def test_is_well_formed_and_asks_for_nothing(self, report):
        parsed = Page(report)
        assert parsed.open == []
        assert {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object"} == set()
        assert not [name for _, attributes in parsed.tags for name in attributes if name in ("src", "href", "onerror")]
        assert "url(" not in report and "@import" not in report
        ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
        assert len(ids) == len(set(ids)) and {f"t{i}" for i in (1, 2, 3, 4)} <= set(ids)

    def test_texts_of_others_stay_texts(self, report):
        assert "<script" not in report and "<img" not in report and "&lt;script&gt;" in report
        assert "{{ 7 * 7 }}" in "".join(Page(report).texts)
        assert NASTY in "".join(Page(report).texts)

    def test_pictures_have_words_for_those_who_do_not_see_them(self, report):
        pictures = [attributes for tag, attributes in Page(report).tags if tag == "svg"]
        assert len(pictures) == 5
        assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
        assert pictures[0]["aria-label"] == (
            "BLEU against speed: teacher 40.00 at 1.00 times the speed; student 36.00 at 2.40 times the speed"
        )

    def test_the_examples_are_those_that_differ_most(self, report):
        shown = re.findall(r'class="label">example (\d+)<', report)
        assert len(shown) == EXAMPLES + 1 and shown[-1] == "0"
        assert all(int(row) % 2 for row in shown[:-1])
        assert int(shown[0]) % 10 == 1  # the shortest reference suffers most from two more words

    def test_without_speed_or_runs_or_another_model_it_is_shorter(self, report):
        alone = render_html(results(model("a", "a.txt", 30, None)), {"a": rows()["target"][:]}, rows())
        assert "Quality against speed" in report and "Quality against speed" not in alone
        assert "Validation BLEU" in report and "Training" not in alone
        assert Page(alone).open == []

    def test_a_validation_without_a_number_is_left_out(self, run):
        lines = [{"step": step, "val_bleu": value} for step, value in enumerate((float("nan"), 1.0, 2.0))]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        own = render_html(results(model("a", run / "best", 30, 1.0)), {"a": rows()["target"][:]}, rows())
        assert "Validation BLEU" in own

    def test_a_damaged_metrics_file_costs_the_curves_alone(self, run):
        (run / "metrics.jsonl").write_text('{"step": 0, "val_b')
        own = render_html(results(model("a", run / "best", 30, 1.0)), {"a": rows()["target"][:]}, rows())
        assert "Training" not in own

    @pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
    def test_in_a_browser(self, report, tmp_path, width, dark):
        """It fits the screen, asks for nothing, and the browser finds nothing to complain of."""
        playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is not installed")
        if BROWSER is None:
            pytest.skip("no Chromium here")
        path = tmp_path / "report.html"
        path.write_text(report, "utf-8")
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
            said, asked = [], []
            view.on("console", lambda message: said.append(message.text))
            view.on("pageerror", lambda error: said.append(str(error)))
            view.on("request", lambda request: asked.append(request.url))
            view.goto(path.as_uri())
            wide, screen = view.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            unreadable = view.evaluate(
                """[...document.querySelectorAll('svg text')].filter(text => {
                    const own = text.getBoundingClientRect(), picture = text.closest('svg').getBoundingClientRect();
                    return own.height < 10 || own.left < picture.left || own.right > picture.right + 0.5
                }).map(text => text.textContent)"""
            )
            dark_paper = view.evaluate("getComputedStyle(document.body).backgroundColor")
            heading = view.get_by_role("heading", name="Quality", exact=True)
            assert heading.is_visible() and view.get_by_role("img").count() == 5
            view.screenshot(path=tmp_path / "page.png", full_page=True)
            browser.close()
        assert (said, asked) == ([], [path.as_uri()])
        assert wide <= screen and unreadable == []
        assert dark_paper == ("rgb(23, 25, 28)" if dark else "rgb(252, 252, 250)")


class TestMarked:
    @given(st.text("ab, 北京", max_size=20), st.text("ab, 北京", max_size=20))
    def test_pieces_make_the_texts_and_the_rest_is_equal(self, first, other):
        left, right = diff_words(first, other)
        assert "".join(text for text, _ in left) == first
        assert "".join(text for text, _ in right) == other
        assert "".join(t for t, changed in left if not changed) == "".join(t for t, changed in right if not changed)

    def test_goes_word_by_word(self):
        left, right = diff_words("zwei alte Männer.", "zwei junge Männer!")
        assert left == [("zwei ", False), ("alte", True), (" Männer", False), (".", True)]
        assert right == [("zwei ", False), ("junge", True), (" Männer", False), ("!", True)]

    def test_scripts_without_spaces_go_by_character(self):
        assert diff_words("我喜欢苹果", "我喜欢梨")[1] == [("我喜欢", False), ("梨", True)]


class TestCharts:
    def test_labels_do_not_cover_each_other(self):
        near = [(f"a model with a name {i}", i, 1 + i / 50, 40 + i / 50, 39.0, 41.0) for i in range(4)]
        points = charts.scatter(near).points
        assert len({(point.label_x, point.label_y) for point in points}) == 4

    @pytest.mark.parametrize(("low", "high"), [(0.0, 100.0), (38.2, 38.9), (0.0, 3.0), (0.0, 1e-3), (-1.0, 1200.0)])
    def test_ticks_are_round_and_inside(self, low, high):
        ticks = charts.Axis(0, 100, low, high).ticks
        assert 3 <= len(ticks) <= 8
        assert all(-1e-6 <= tick.at <= 100 + 1e-6 and len(tick.label) <= 6 for tick in ticks)

    def test_far_apart_speeds_have_a_logarithmic_axis(self):
        x = charts.scatter([("a", 0, 1.0, 40, 39, 41), ("b", 1, 50.0, 38, 37, 39)]).x
        assert x.log and x(10) - x(1) == pytest.approx(x(100) - x(10), abs=0.1)

    @given(st.lists(st.lists(st.floats(0, 100), min_size=1), min_size=1, max_size=3))
    def test_a_histogram_counts_everything_once(self, groups):
        drawn = charts.histogram([(str(i), values) for i, values in enumerate(groups)])
        tallest = max(height for bars in drawn.bars for *_, height in bars)
        for values, bars in zip(groups, drawn.bars, strict=True):
            shares = [height for *_, height in bars]
            assert sum(share > 0 for share in shares) <= len(values)
            assert min(x for x, *_ in bars) >= charts.LEFT - 0.01 and max(shares) <= tallest
            assert bars[-1][0] + bars[-1][2] <= charts.WIDTH - charts.RIGHT + 0.1


class TestTables:
    def test_markdown_has_no_cell_of_its_own_making(self):
        lines = markdown(results(model("a|b", "a.txt", 30, None)))
        assert all(line.count("|") == 6 for line in lines if line.startswith("| BLEU"))

    def test_the_terminal_shows_markup_as_it_is(self, capsys):
        print_tables(results(model("[red]a[/red]", "a", 30, 2.0)))
        assert "[red]a[/red]" in capsys.readouterr().out

    def test_what_was_not_measured_is_empty(self):
        quality, size, speed, behaviour = tables(results(model("a", "a.txt", 30, None)))
        assert size.rows[0][2] == "" and speed.rows[0][2:] == ("",) * 5 and speed.note == "Speed was not measured."
        assert quality.rows[0] == ("BLEU", "a", "30.00", "28.00 to 32.00", "0.020")
        assert behaviour.rows[-1][0] == "references"
