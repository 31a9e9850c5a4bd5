"""Our ROUGE beside rouge-score, on texts with many ties, and on other scripts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from seq2seq_distill.metrics.corpus import ROUGE, dropped_by_rouge, rouge
from seq2seq_distill.metrics.rouge import _sentences, rouge_fmeasures

few_words = st.lists(st.sampled_from([*"abcd", "running", "runs", ".\n", "\n"]), max_size=30).map(" ".join)
any_text = st.text(max_size=80)


def peer(prediction, reference):
    """rouge-score, with sentences split as we split them."""
    scorer = RougeScorer(list(ROUGE), tokenizer=DefaultTokenizer(use_stemmer=True))
    lines = ["\n".join(_sentences(text)) for text in (reference, prediction)]
    return {key: score.fmeasure for key, score in scorer.score(*lines).items()}


def check(predictions, references):
    ours = rouge_fmeasures(predictions, references, ROUGE)
    for row, pair in enumerate(zip(predictions, references, strict=True)):
        assert {key: ours[key][row] for key in ROUGE} == pytest.approx(peer(*pair), abs=1e-9), pair


@settings(max_examples=150, deadline=None)
@given(prediction=few_words, reference=few_words)
def test_ties_fall_as_in_rouge_score(prediction, reference):
    """ROUGE-Lsum depends on which of several longest subsequences is taken."""
    check([prediction], [reference])


@settings(max_examples=50, deadline=None)
@given(prediction=any_text, reference=any_text)
def test_any_text(prediction, reference):
    check([prediction], [reference])


def test_sentences():
    texts = [
        "Dr. Smith's dogs were running (quickly) over 3.5 fields. They weren't tired, were they? No!",
        "The dogs ran over the fields; the U.S. team, in 2020, ran too.\nIt isn't said why they ran.",
        "Fields of dogs, dogs of fields. Quickly said: it's 3.5 miles. Nobody was running.",
    ]
    check(texts * 3, texts[1:] + texts[:1] + texts[2:] + texts[:2] + texts)


def test_a_score_alone_is_the_same():
    texts = ["a dog runs.\nit barks", "a cat"], ["it barks and a dog runs", "the cat\na"]
    together = rouge_fmeasures(*texts, ROUGE)
    assert {key: rouge_fmeasures(*texts, [key])[key] for key in ROUGE} == together


class TestUnicode:
    @pytest.mark.parametrize(
        "text",
        [
            "Кошка сидит на окне",
            "猫が窓に座っている",
            "แมวนั่งอยู่ที่หน้าต่าง",
            "बिल्ली खिड़की पर बैठी है",
            "القطة على النافذة",
            "The cats sat",
        ],
    )
    def test_letters_of_every_script_count(self, text):
        assert rouge([text], [text], "unicode") == pytest.approx(dict.fromkeys(ROUGE, 100.0))
        assert 0 < rouge([text[: len(text) // 2]], [text], "unicode")["rouge1"] < 100
        assert rouge(["xyz"], [text], "unicode")["rouge1"] == 0

    def test_marks_belong_to_their_words(self):
        """Devanagari vowels are marks: split at them, two words that share a consonant would be alike."""
        assert rouge(["बिल्ली"], ["बैल"], "unicode")["rouge1"] == 0

    def test_forms_and_capitals_do_not_matter(self):
        assert rouge(["ÉCOLE ＡＢＣ"], ["e\u0301cole abc"], "unicode")["rouge2"] == pytest.approx(100)

    def test_what_the_default_drops(self):
        assert dropped_by_rouge(["кошка", "cat", "猫 cat", ""]) == 0.25
