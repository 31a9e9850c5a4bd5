"""results.json, the table that is printed, and the model card."""

from io import StringIO

import pytest
import yaml
from rich.console import Console

from seq2seq_distill.config import RunConfig
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.metrics.corpus import signature
from seq2seq_distill.training.model_card import model_card
from seq2seq_distill.training.results import (
    build_results,
    format_number,
    markdown_table,
    print_table,
)

STUDENT = {"bleu": 30.0, "chrf": 55.0, "gen_len": 9.5, "parameters": 1_000_000, "bytes": 4_000_000}
STUDENT |= {"latency_ms": 10.0, "ms_per_token": 1.0}
TEACHER = {"bleu": 40.0, "chrf": 50.0, "gen_len": 10.0, "parameters": 4_000_000, "bytes": 16_000_000}
TEACHER |= {"latency_ms": 25.0, "ms_per_token": 2.5}
RESULTS = build_results("translation", STUDENT, TEACHER, 2.5, "tok:13a")
ALONE = build_results("translation", {**STUDENT, "latency_ms": None, "ms_per_token": None}, None, None, "tok:13a")


class TestCombine:
    def test_shares_kept_are_of_the_scores_alone(self):
        assert RESULTS["kept"] == {"bleu": 0.75, "chrf": 1.1}
        assert RESULTS["speedup"] == 2.5
        assert (RESULTS["student"], RESULTS["teacher"]) == (STUDENT, TEACHER)

    def test_summaries_are_compared_by_all_of_rouge(self):
        scores = dict.fromkeys(TASKS["summarization"].metrics, 20.0)
        kept = build_results("summarization", scores, scores, 1.0, "")["kept"]
        assert kept == dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), 1.0)

    def test_without_a_teacher_three_are_null(self):
        assert (ALONE["teacher"], ALONE["kept"], ALONE["speedup"]) == (None, None, None)

    def test_of_a_teacher_that_scores_nothing_no_share_can_be_kept(self):
        assert build_results("translation", STUDENT, {**TEACHER, "bleu": 0.0}, 2.5, "")["kept"]["bleu"] is None


class TestTables:
    def test_numbers_are_for_people(self):
        assert [format_number(value) for value in (None, 0, 1_234_567, 2.345, 0.0)] == [
            "",
            "0",
            "1,234,567",
            "2.35",
            "0.00",
        ]

    def test_markdown_has_a_row_for_every_value(self):
        lines = markdown_table(RESULTS)
        assert lines[0] == "| | student | teacher | student / teacher |"
        assert "| bleu | 30.00 | 40.00 | 0.750 |" in lines
        assert "| parameters | 1,000,000 | 4,000,000 | 0.250 |" in lines
        assert lines[-1] == "| speed-up per token | | | 2.50 |"
        assert len(lines) == 2 + len(STUDENT) + 1

    def test_markdown_of_a_student_alone_leaves_the_teacher_blank(self):
        lines = markdown_table(ALONE)
        assert "| bleu | 30.00 | | |" in lines
        assert not any("speed-up" in line for line in lines)

    @pytest.mark.parametrize("results", [RESULTS, ALONE], ids=["both", "alone"])
    def test_the_printed_table_says_the_same(self, results):
        text = StringIO()
        print_table(results, "how scored", Console(file=text, width=100))
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.getvalue().splitlines()]
        markdown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown_table(results)[2:]]
        assert [row for row in rows if row] == markdown
        assert "how scored" in text.getvalue()

    def test_the_signature_says_how_it_was_scored(self):
        assert "nrefs:1" in signature("translation", "de")
        assert "tok:zh" in signature("translation", "zh")
        assert "Porter stemmer" in signature("summarization", None)
        assert "all scripts" in signature("summarization", None, "unicode")


class TestCard:
    def test_its_head_is_metadata(self):
        config = RunConfig(task="translation", teacher="some/teacher", data=["some/data"])
        card = model_card(config, None, RESULTS)
        metadata = yaml.safe_load(card.split("---\n")[1])
        assert metadata["base_model"] == "some/teacher"
        assert metadata["tags"] == ["translation", "distillation"]
        assert "`some/teacher`" in card and "`some/data`" in card and "knowledge distillation" in card
        assert "\n".join(markdown_table(RESULTS)) in card

    def test_without_a_teacher_none_is_named(self):
        card = model_card(RunConfig(task="summarization", data=["some/data"]))
        assert "base_model" not in card and "None" not in card and "istilled" not in card
        assert "Trained on `some/data`" in card
        assert "Test results" not in card

    def test_its_example_is_python(self):
        card = model_card(RunConfig(task="summarization", data=["d"]))
        code = card.split("```python\n")[1].split("```")[0]
        compile(code, "card", "exec")
        assert "max_new_tokens=142" in code
