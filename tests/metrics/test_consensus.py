"""Mean scores of candidates against each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_distill.metrics import score_per_example
from seq2seq_distill.metrics.consensus import utilities

words = st.sampled_from(["the", "cat", "cats", "sat", "on", "mat.", "a", "Ä", "猫が", "12,5"])
candidates = st.lists(st.lists(words, max_size=8).map(" ".join), min_size=1, max_size=6)


@pytest.mark.parametrize("metric", ["chrf", "bleu", "rougeL"])
@settings(deadline=None, max_examples=60)
@given(texts=candidates)
def test_they_are_those_of_all_pairs(metric, texts):
    expected = [np.mean(score_per_example(metric, [text] * len(texts), texts)) for text in texts]
    assert utilities(metric, texts) == pytest.approx(expected, abs=1e-9)


def test_words_are_those_of_the_language():
    texts = ["猫がマットに座った", "猫がマットの上に座った", "犬が走る"]
    expected = [np.mean(score_per_example("bleu", [text] * 3, texts, "zh")) for text in texts]
    assert utilities("bleu", texts, "zh") == pytest.approx(expected, abs=1e-9)


def test_the_candidate_that_agrees_most_wins():
    texts = ["a dog barks", "the cat sat on the mat", "the cat sat on a mat", "the cat sits on the mat"]
    for metric in ("chrf", "bleu", "rougeL"):
        assert utilities(metric, texts).argmax() in (1, 2, 3)
        assert utilities(metric, texts).argmin() == 0
