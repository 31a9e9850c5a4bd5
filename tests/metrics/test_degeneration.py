"""Figures about generated texts: closed forms, invariances, and which of them is called a collapse."""

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq_distill.metrics.degeneration import (
    OutputFaults,
    OutputStatistics,
    collapse,
    count_faults,
    is_loop,
    output_statistics,
    repetition,
    units,
)
from seq2seq_distill.modules.evaluation import Generations, degeneration_statistics
from seq2seq_distill.utils.errors import DataError

REFERENCES = [
    "a dog runs over the green field",
    "two men sit on a bench in the park",
    "the girl with the red hat reads a book",
    "three cats sleep under the old table",
]
HEALTHY = output_statistics(REFERENCES, REFERENCES)
texts = st.lists(st.text(st.sampled_from("ab c雪\n"), max_size=12), min_size=1, max_size=6)


class TestFigures:
    def test_references_judged_by_themselves(self) -> None:
        assert HEALTHY.named() == {"empty": 0, "repetition": 0, "length_ratio": 1}
        assert (HEALTHY.identical, HEALTHY.usual_identical) == (0.25, 0.25)

    def test_names_take_a_prefix(self) -> None:
        assert HEALTHY.named("val_").keys() == {"val_empty", "val_repetition", "val_length_ratio"}

    def test_empty_is_what_has_nothing_but_white_space(self) -> None:
        assert output_statistics(["", " \n", "<n>", "a"], REFERENCES).empty == 0.75

    @pytest.mark.parametrize(
        ("text", "repetition"),
        [
            ("a b c d", 0),
            ("a b c d a b c d", 1 / 5),  # abcd bcda cdab dabc abcd
            ("a a a a a a", 2 / 3),  # three times the same
            ("a a a", 0),  # too short for a 4-gram
            ("", 0),
        ],
    )
    def test_repetition_is_the_share_of_4_grams_seen_before_in_the_text(self, text: str, repetition: float) -> None:
        assert output_statistics([text], ["x"]).repetition == pytest.approx(repetition)

    def test_repetition_is_pooled_and_not_across_texts(self) -> None:
        """2 of 3 and 0 of 1 4-grams are 2 of 4; the same text twice repeats nothing."""
        assert output_statistics(["a a a a a a", "a b c d"], ["x", "y"]).repetition == 0.5
        assert output_statistics(["a b c d"] * 2, ["x", "y"]).repetition == 0

    def test_a_loop_without_spaces_is_a_loop(self) -> None:
        loop = output_statistics(["no" * 100], ["nothing is said twice here"])
        assert loop.repetition > 0.95 and loop.length_ratio == 200 / 5
        assert output_statistics(["Donaudampfschifffahrtsgesellschaft"], ["x"]).length_ratio == 1

    @pytest.mark.parametrize("text", ["这是一只狗", "これはいぬだ", "นี่คือสุนัข", "ນີ້ແມ່ນໝາ", "នេះជាឆ្កែ", "ဤသည်ခွေး"])
    def test_scripts_without_spaces_count_by_characters(self, text: str) -> None:
        assert output_statistics([text], [text[0]]).length_ratio == len(text)
        assert output_statistics([text * 30], [text]).repetition > 0.8

    @pytest.mark.parametrize("text", ["это собака", "αυτό είναι", "이것은 개입니다", "هذا كلب"])
    def test_scripts_with_spaces_count_by_words(self, text: str) -> None:
        assert output_statistics([text], ["x"]).length_ratio == 2

    def test_length_ratio_is_that_of_the_whole_corpus(self) -> None:
        """As BLEU's: 4 words for 2; the mean of the rows' ratios is 1.75."""
        assert output_statistics(["a a a", "a"], ["b", "b"]).length_ratio == 2
        assert output_statistics(["a", "a"], ["", ""]).length_ratio == 2

    def test_identical_is_the_share_of_the_commonest_output(self) -> None:
        figures = output_statistics(["the", "the ", "a", "the"], REFERENCES)
        assert (figures.identical, figures.commonest) == (0.75, "the")

    @given(texts)
    def test_shares_are_shares_and_the_order_of_rows_does_not_matter(self, outputs: list[str]) -> None:
        references = [f"{i} reference" for i in range(len(outputs))]
        figures = output_statistics(outputs, references)
        for share in (figures.empty, figures.repetition, figures.identical):
            assert 0 <= share <= 1
        assert figures.length_ratio >= 0
        rows = list(zip(outputs, references, strict=True))
        random.Random(0).shuffle(rows)
        assert output_statistics(*map(list, zip(*rows, strict=True))).named() == figures.named()

    @given(texts, st.integers(2, 4))
    def test_a_split_several_times_over_has_the_same_figures(self, outputs: list[str], times: int) -> None:
        references = ["a reference"] * len(outputs)
        once, more = output_statistics(outputs, references), output_statistics(outputs * times, references * times)
        assert more.named() == pytest.approx(once.named()) and more.identical == pytest.approx(once.identical)

    def test_no_rows_and_unequal_rows_are_refused(self) -> None:
        with pytest.raises(DataError, match="nothing to judge"):
            output_statistics([], [])
        with pytest.raises(ValueError, match="1 outputs for 2 references"):
            output_statistics(["a"], ["b", "c"])


class TestFaults:
    source, reference = "the dog runs over the field", "der Hund läuft über das Feld"

    @pytest.mark.parametrize(
        ("output", "fault"),
        [
            ("", "empty"),
            (" <n> ", "empty"),
            ("der Hund der Hund der Hund der Hund", "repeated"),
            ("the dog runs over the field", "copied"),
            ("field the over runs dog the", "copied"),
            ("Hund", "wrong_length"),
            (" ".join(f"Hund{i}" for i in range(19)), "wrong_length"),
            ("die Hunde laufen über das Feld", None),
            ("the dog runs over das Feld", None),
            ("der Hund", None),
        ],
    )
    def test_each_alone(self, output, fault):
        wanted = {name: float(name == fault) for name in ("empty", "repeated", "copied", "wrong_length")}
        assert count_faults([output], [self.source], [self.reference]) == OutputFaults(**wanted)

    def test_a_long_copy_with_a_changed_word_is_one(self):
        words = [f"w{i}" for i in range(30)]
        assert count_faults([" ".join([*words[:29], "x"])], [" ".join(words)], ["y " * 20]).copied == 1
        assert count_faults([" ".join(words[:20])], [" ".join(words)], ["y " * 20]).copied == 0

    def test_shares(self):
        outputs = ["", "Hund", "die Hunde laufen über das Feld", ""]
        assert count_faults(outputs, [self.source] * 4, [self.reference] * 4) == OutputFaults(0.5, 0, 0, 0.25)

    def test_scripts_without_spaces_count_characters(self):
        assert count_faults(["我喜欢吃苹果"], ["a b"], ["我喜欢吃梨"]) == OutputFaults(0, 0, 0, 0)

    def test_unequal_lengths_and_nothing_are_refused(self):
        with pytest.raises(DataError, match="nothing to judge"):
            count_faults([], [], [])
        with pytest.raises(ValueError, match="zip"):
            count_faults(["a"], ["b", "c"], ["d"])


class TestCollapse:
    def words(self, outputs: list[str], references: list[str] = REFERENCES) -> str:
        line = collapse(output_statistics(outputs, references))
        assert line is not None and "\n" not in line
        return line

    def test_a_student_that_learns_is_left_alone(self) -> None:
        assert collapse(HEALTHY) is None
        assert (
            collapse(output_statistics(["a dog runs", "two men sit on it", "", "cats sleep in it"], REFERENCES)) is None
        )

    def test_one_text_for_everything(self) -> None:
        line = self.words(["the dog runs over the field"] * 4)
        assert line.startswith("the student has collapsed, or not begun to learn: 100% of the outputs are one and")
        assert "the same text, 'the dog runs over the field': lower `optim.lr`" in line

    def test_one_token_for_everything(self) -> None:
        line = self.words(["the " * 60] * 4)
        assert "one and the same text, 'the the" in line and "..." in line
        assert "98% of the outputs is repetition within a text, the outputs are 7.5 times as long" in line

    def test_nothing_at_all(self) -> None:
        line = self.words([""] * 4)
        assert "100% of the outputs are empty: lower `optim.lr`" in line
        assert "the same text" not in line

    def test_loops_that_differ(self) -> None:
        line = self.words([f"{word} and " * 6 for word in ("dog", "men", "girl", "cats")])
        assert "% of the outputs is repetition within a text: lower `optim.lr`" in line

    def test_far_too_short_and_far_too_long(self) -> None:
        assert "the outputs are 0.25 times as long as the references: raise `eval.max_target_length`" in self.words(
            ["a dog", "two men", "a girl", "three cats"]
        )
        long = [" ".join(f"{i}{word}" for i in range(40)) for word in "abcd"]
        assert "times as long as the references: train longer, or lower `eval.length_penalty`" in self.words(long)

    def test_what_is_usual_in_the_references_is_no_collapse(self) -> None:
        labels = ["yes"] * 3 + ["no"]
        assert collapse(output_statistics(["yes"] * 4, labels)) is None
        chorus = [f"{word} la la la la la la la la" for word in "abcd"]
        assert collapse(output_statistics(chorus[::-1], chorus)) is None
        assert collapse(output_statistics(["", "", "", "a"], ["", "", "", "a"])) is None

    @pytest.mark.parametrize("rows", [1, 2])
    def test_one_or_two_rows_tell_nothing_of_sameness(self, rows: int) -> None:
        assert collapse(output_statistics(["a dog runs over the field"] * rows, REFERENCES[:rows])) is None

    @pytest.mark.parametrize(
        "change",
        [{"empty": 0.6}, {"repetition": 0.4}, {"identical": 0.6}, {"length_ratio": 0.3}, {"length_ratio": 4.0}],
    )
    def test_each_figure_alone_is_enough(self, change: dict[str, Any]) -> None:
        figures: OutputStatistics = replace(HEALTHY, **change)
        assert collapse(figures) is not None


@pytest.mark.parametrize(
    ("step", "outputs", "warnings"),
    [(20, ["the"] * 4, 1), (None, ["the"] * 4, 0), (20, REFERENCES, 0)],
)
def test_validation_warns_once_of_a_trained_student_alone(
    step: int | None, outputs: list[str], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    data: Any = SimpleNamespace(references=lambda split: REFERENCES)
    generations = Generations(outputs, [1] * len(outputs), list(range(len(outputs))))
    figures = degeneration_statistics(generations, data, "val", step=step)
    assert figures == output_statistics(outputs, REFERENCES).named()
    assert len(caplog.records) == warnings
    if warnings:
        assert caplog.messages[0].startswith("step 20: the student has collapsed") and "`optim.lr`" in caplog.text


LOOPS = [
    *("Hello hello", "h h h", "yes, yes, yes!", "Good morning good morning", "नमस्ते नमस्ते", "مرحبا مرحبا", "สวัสดีสวัสดี"),
    *(
        "你好你好",
        "привет Привет",
        "hellohello",
        "I think that that that that is",
        "a b a b a b",
        "QUELS THAT THAT THAT",
    ),
]
NO_LOOPS = [
    *(
        "",
        "Hello",
        "h",
        "mama",
        "bonbon",
        "Good morning",
        "I know that that is so",
        "नमस्ते",
        "बिल्ली बैल",
        "你好",
        "the cat saw the dog",
    ),
    *("谢谢", "no news is no good news"),
]


@pytest.mark.parametrize("text", LOOPS)
def test_short_loops_are_repeated(text):
    """4-grams do not see them in short texts: none of these was a fault."""
    assert is_loop(text)
    faults = count_faults([text, "a dog"], ["x", "y"], ["Hello there", "a dog"])
    assert faults.repeated == 0.5
    assert count_faults([text], ["x"], [text]).repeated == float(repetition([units(text)]) > 0.3)


@pytest.mark.parametrize("text", NO_LOOPS)
def test_other_short_texts_are_not(text):
    assert not is_loop(text)
