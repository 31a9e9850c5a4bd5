"""Candidates that are chosen, and pairs that are dropped."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.metrics.corpus import rouge, score_per_example
from seq2seq_distill.training.labels.choice import choose
from seq2seq_distill.training.labels.filters import MEASURES, Pairs, passes, scripts_of, worst

TEXTS = st.lists(st.sampled_from("the cat sat on a mat".split()), min_size=0, max_size=6).map(" ".join)


def pairs(*rows: tuple[str, str, str], scores=(), gains=()) -> Pairs:
    """Of sources, targets and references."""
    sources, targets, references = map(list, zip(*rows, strict=True))
    return Pairs(sources, targets, references, scores, gains, scripts_of(references))


class TestChoose:
    @given(st.lists(TEXTS, min_size=1, max_size=5), TEXTS.filter(bool))
    def test_best_is_that_of_brute_force(self, texts: list[str], reference: str) -> None:
        scorers = {
            "best-chrf": lambda text: CHRF().sentence_score(text, [reference]).score,
            "best-bleu": lambda text: BLEU(effective_order=True).sentence_score(text, [reference]).score,
            "best-rouge": lambda text: rouge([text], [reference])["rougeL"],
        }
        for keep, scorer in scorers.items():
            (chosen,) = choose(keep, texts, reference)
            values = [scorer(text) for text in texts]
            assert values[chosen] == max(values) and chosen == values.index(max(values))

    def test_the_likeliest_and_all(self) -> None:
        texts = ["b", "a", "b", "c", "a"]
        assert choose("top1", texts, "a") == [0]
        assert choose("all", texts, "a") == [0, 1, 3]


class TestMeasures:
    """Each by hand."""

    def measured(self, option: str, *rows: tuple[str, str, str]) -> list[float]:
        return MEASURES[option](pairs(*rows))

    def test_words(self) -> None:
        assert self.measured(
            "min_words", ("a", "", "x"), ("a", " \n", "x"), ("a", "ein Hund", "x"), ("a", "日本", "x")
        ) == [*(0, 0, 2, 2)]

    def test_lengths(self) -> None:
        rows = ("a b c d", "x y", "z"), ("a", "x y z", "z")
        assert self.measured("min_length_ratio", *rows) == self.measured("max_length_ratio", *rows) == [0.5, 3.0]

    def test_repetition(self) -> None:
        # Nine 4-grams, of which two are distinct; and three, all distinct.
        loop, plain = " ".join(["a", "b"] * 6), "a b c d e f"
        assert self.measured("max_repetition", ("s", loop, "r"), ("s", plain, "r")) == [7 / 9, 0.0]

    def test_agreement(self) -> None:
        rows = ("s", "the cat sat", "the cat sat"), ("s", "the cat ran", "the cat sat"), ("s", "x y", "the cat sat")
        assert self.measured("min_rouge2", *rows) == pytest.approx([100.0, 50.0, 0.0])
        chrf = self.measured("min_chrf", *rows)
        assert chrf[0] == 100.0 and 0 < chrf[1] < 100 and chrf[2] < 10

    def test_copies(self) -> None:
        rows = ("two men sit", "two men sit", "r"), ("two men sit", "zwei", "r")
        copied, translated = self.measured("max_copied", *rows)
        assert copied == 100.0 and translated < 30

    def test_script(self) -> None:
        rows = ("s", "ab жд", "ein"), ("s", "ähnlich, 12", "Hund"), ("s", "123", "x"), ("s", "いヌ犬", "läuft")
        assert self.measured("min_script", *rows) == [0.5, 1.0, 1.0, 0.0]

    def test_a_rare_script_of_the_references_is_not_theirs(self) -> None:
        assert scripts_of(["a" * 99, "ж"]) == {"LATIN", "CYRILLIC"}
        assert scripts_of(["a" * 100, "ж"]) == {"LATIN"}
        assert scripts_of(["犬がいる", "1"]) == {"CJK", "HIRAGANA"}

    def test_scores(self) -> None:
        own = pairs(("s", "t", "r"), ("s", "t", "r"), scores=[-1.0, -2.0], gains=[3.0, 0.5])
        assert passes("min_score", -1.0, own) == [True, False]
        assert passes("min_gain", 0.5, own) == [True, True] and passes("min_gain", 0.6, own) == [True, False]

    def test_cut(self) -> None:
        own = replace(pairs(("s", "t", "r"), ("s", "t", "r")), cut=[True, False])
        assert passes("drop_cut", 0.0, own) == [False, True]

    def test_short_loops_are_repetitions(self) -> None:
        own = pairs(("x", "hello Hello", "hello you"), ("x", "bye bye", "bye bye"), ("x", "a b", "c"))
        assert passes("max_repetition", 0.9, own) == [False, True, True]

    def test_at_most_and_at_least(self) -> None:
        own = pairs(("a b", "x y", "r"))
        assert passes("max_length_ratio", 1.0, own) == passes("min_length_ratio", 1.0, own) == [True]
        assert passes("max_length_ratio", 0.9, own) == passes("min_length_ratio", 1.1, own) == [False]

    def test_every_measure_is_an_option_that_is_off_but_for_emptiness(self) -> None:
        defaults = LabelConfig()
        assert {name: getattr(defaults, name) for name in MEASURES} == {
            **dict.fromkeys(MEASURES),
            "min_words": 1,
            "drop_cut": False,
            "drop_unsupported": [],
        }


@given(st.lists(st.sampled_from([-3.0, -2.5, -1.0, -0.5, 0.0]) | st.floats(-9, 0), max_size=40), st.floats(0, 0.99))
def test_the_worst_are_the_lowest_and_of_equal_ones_the_first(scores: list[float], share: float) -> None:
    in_order = sorted(range(len(scores)), key=scores.__getitem__)  # a stable sort
    expected = set(in_order[: int(share * len(scores))])
    assert set(np.flatnonzero(worst(np.array(scores), share))) == expected


def test_scores_of_single_examples() -> None:
    for name in ("rouge1", "rougeL", "chrf", "bleu"):
        equal, other = score_per_example(name, ["the cat", "dogs"], ["the cat", "cats"])
        assert equal == pytest.approx(100) and other < 60
    assert score_per_example("bleu", [], []) == []
