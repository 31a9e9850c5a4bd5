"""Scores over a corpus."""

import logging
import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from seq2seq_distill.config.tasks import monitor_mode
from seq2seq_distill.metrics.corpus import (
    bleu,
    bleu_language,
    bleu_signature,
    rouge,
    rouge_per_example,
    score,
    score_per_example,
)
from seq2seq_distill.utils.errors import ConfigError, DataError

ENGLISH = [
    "the cat sat on the mat near the door",
    "a small dog runs over the green field",
    "two men are playing chess in the park",
    "she reads a long book about old ships",
    "the train to the coast leaves at nine",
    "children paint a wall with bright colours",
    "he has lost the key to his own house",
    "an old bridge crosses the quiet river",
]


def f_measure(matches: int, predicted: int, wanted: int) -> float:
    return 100 * 2 * matches / (predicted + wanted)


class TestRouge:
    def test_closed_forms(self) -> None:
        # 5 against 6 words; 4 words, 2 pairs (a b, d e) and a subsequence of 4 (a b d e) in common.
        got = rouge(["ab cd gh ij kl"], ["ab cd ef gh ij mn"])
        assert got["rouge1"] == pytest.approx(f_measure(4, 5, 6))
        assert got["rouge2"] == pytest.approx(f_measure(2, 4, 5))
        assert got["rougeL"] == pytest.approx(f_measure(4, 5, 6))

    def test_equal_texts_score_100_and_disjoint_ones_0(self) -> None:
        assert set(rouge(ENGLISH, ENGLISH).values()) == {100.0}
        assert set(rouge(["one two three"], ["four five six"]).values()) == {0.0}

    def test_is_the_mean_over_examples(self) -> None:
        predictions = [*ENGLISH[:4], *ENGLISH[:4]]
        per_example = rouge_per_example(predictions, ENGLISH)
        assert rouge(predictions, ENGLISH) == {k: pytest.approx(fmean(v)) for k, v in per_example.items()}
        assert [len(v) for v in per_example.values()] == [8] * 4

    def test_stems_words(self) -> None:
        assert rouge(["runs jumping"], ["running jumps"])["rouge1"] == 100

    def test_Lsum_ignores_the_order_of_sentences_and_L_does_not(self) -> None:
        a, b = "The cat sat on the mat.", "Dr. Smith went home."
        got = rouge([f"{a} {b}"], [f"{b} {a}"])
        assert got["rougeLsum"] == pytest.approx(100)
        assert got["rougeL"] == pytest.approx(f_measure(6, 10, 10))

    def test_Lsum_takes_line_breaks_for_ends_of_sentences(self) -> None:
        assert rouge(["cat on mat\ndog at home"], ["dog at home\ncat on mat"])["rougeLsum"] == 100

    def test_pegasus_line_breaks_are_not_words(self) -> None:
        """H32: the `<n>` of Pegasus goes before anything is counted."""
        assert set(rouge(["A cat sat.<n>A dog ran."], ["A cat sat. A dog ran."]).values()) == {100.0}
        assert rouge(["<n>a cat<n>"], ["a cat"])["rouge1"] == 100

    def test_text_that_the_tokenizer_drops_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        """Not a silent zero; a number or a name in Latin letters does not hide it."""
        texts = ["Кошка сидит на ковре", "В 2020 году собака бежала", "猫が座っている", "a cat"]
        with caplog.at_level(logging.WARNING):
            got = rouge(texts, texts)
        assert got["rouge1"] == 50.0
        assert [r.getMessage() for r in caplog.records if "75.0% of the references" in r.getMessage()]
        assert len(caplog.records) == 1

    @pytest.mark.parametrize("text", ["Die Straße ist schön.", "L'été à la plage", "...", "", "42 %"])
    def test_european_and_empty_texts_raise_no_warning(self, text: str, caplog: pytest.LogCaptureFixture) -> None:
        rouge([text, "a cat"], [text, "a cat"])
        assert not caplog.records

    def test_a_sentence_that_the_splitter_loses_still_counts(self) -> None:
        text = "A cat saw ∯ once. It ran up."
        assert set(rouge([text], [text]).values()) == {100.0}
        assert (
            rouge_per_example([text], ["a cat"])["rouge1"] == rouge_per_example([text], ["a cat"], ["rouge1"])["rouge1"]
        )

    def test_a_no_break_space_behind_an_initial(self) -> None:
        """At which sentencex panics."""
        assert rouge(["Vitamin C\u00a0. Cats."], ["Vitamin C . Cats."])["rougeLsum"] == pytest.approx(100)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["Dr.", "cat", "(a)", "1.", "U.S.", '"Why?"', "...", "ran.", "Mr", "\n", "C\u00a0.", "é。"])
        )
    )
    def test_splitting_sentences_loses_no_word(self, words: list[str]) -> None:
        text = " ".join(words)
        plain = rouge_per_example([text], ["cat ran up"], ["rouge1", "rougeL"])
        assert {k: rouge_per_example([text], ["cat ran up"])[k] for k in plain} == plain


class TestBleu:
    def test_closed_form(self) -> None:
        # 4 of 5 words, 3 of 4 pairs, 2 of 3, 1 of 2; 5 words for 6: a brevity penalty of exp(1 - 6/5).
        got = bleu(["a b c d x"], ["a b c d e f"])["bleu"]
        assert got == pytest.approx(100 * math.exp(-0.2) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)

    def test_equal_texts_score_100(self) -> None:
        assert bleu(ENGLISH, ENGLISH) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}

    def test_is_no_mean_over_batches(self) -> None:
        """H24: BLEU belongs to the corpus; a mean over batches of it is another number."""
        predictions = [*ENGLISH[:4], *("the " + " ".join(r.split()[1:5]) for r in ENGLISH[4:])]
        batches = [bleu(predictions[i : i + 4], ENGLISH[i : i + 4])["bleu"] for i in (0, 4)]
        whole = bleu(predictions, ENGLISH)["bleu"]
        assert whole == pytest.approx(BLEU().corpus_score(predictions, [ENGLISH]).score)
        assert abs(whole - fmean(batches)) > 1

    @pytest.mark.parametrize(
        ("tgt_lang", "tokenizer"),
        [(None, "13a"), ("de", "13a"), ("deu_Latn", "13a"), ("zh", "zh"), ("zh_CN", "zh"), ("zho_Hans", "zh")]
        + [(">>cmn_Hans<<", "zh"), ("th_TH", "char"), ("khm_Khmr", "char")],
    )
    def test_tokenizer_goes_by_target_language(self, tgt_lang: str | None, tokenizer: str) -> None:
        signature = bleu_signature(tgt_lang)
        assert f"|tok:{tokenizer}|" in signature["bleu"]
        assert signature["bleu"].startswith("nrefs:1|")
        assert "nc:6|nw:0" in signature["chrf"]

    @pytest.mark.parametrize("tgt_lang", ["ja_XX", "jpn_Jpan", "ko"])
    def test_japanese_and_korean_are_never_split_at_spaces(self, tgt_lang: str) -> None:
        signature = bleu_signature(tgt_lang)["bleu"]
        assert "-mecab" in signature or "|tok:char|" in signature

    def test_chinese_words_count(self) -> None:
        assert bleu(["我喜欢吃苹果和梨"], ["我喜欢吃苹果和桃"], "zh_CN")["bleu"] > 50
        assert bleu(["我喜欢吃苹果和梨"], ["我喜欢吃苹果和桃"], "en")["bleu"] == 0

    @pytest.mark.parametrize(
        "text", ["我喜欢吃苹果", "私は猫が好きです", "ฉันชอบแมวมาก", "ខ្ញុំចូលចិត្តឆ្មា", "ຂ້ອຍມັກແມວຫຼາຍ", "ငါကြောင်ကြိုက်တယ်"]
    )
    def test_the_script_chooses_where_no_language_is_given(self, text: str) -> None:
        """Once identical texts had BLEU 0: a sentence was one word."""
        assert bleu([text], [text])["bleu"] == pytest.approx(100)
        language = bleu_language(None, [text, "a b"])
        assert "tok:13a" not in bleu_signature(language)["bleu"]
        assert score_per_example("bleu", [text], [text], language) == pytest.approx([100])

    def test_scripts_with_spaces_choose_nothing(self) -> None:
        texts = ["a cat", "кошка", "고양이가 있다", "बिल्ली", "mostly latin with 猫", ""]
        assert [bleu_language(None, [text]) for text in texts] == [None] * len(texts)
        assert bleu_language("de", ["我喜欢吃苹果"]) == "de"


class TestScore:
    def test_goes_by_task(self) -> None:
        assert list(score("summarization", ENGLISH, ENGLISH)) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        assert list(score("translation", ENGLISH, ENGLISH, "en")) == ["bleu", "chrf"]

    def test_an_unknown_task_is_named(self) -> None:
        with pytest.raises(ConfigError, match="`task` classification"):
            score("classification", ["a"], ["a"])

    @pytest.mark.parametrize("task", ["summarization", "translation"])
    def test_corpora_that_do_not_fit(self, task: str) -> None:
        with pytest.raises(DataError, match="nothing to score"):
            score(task, [], [])
        with pytest.raises(ValueError, match="2 predictions for 1 references"):
            score(task, ["a", "b"], ["a"])


class TestMonitorMode:
    @pytest.mark.parametrize("name", ["rouge2", "val_rougeL", "bleu", "chrf"])
    def test_of_a_score_more_is_better(self, name: str) -> None:
        assert monitor_mode(name) == "max"

    @pytest.mark.parametrize("name", ["loss", "val_loss", "ce_loss", "val_hid_loss_dec"])
    def test_of_a_loss_less_is_better(self, name: str) -> None:
        """H28: with a loss the worst model was kept as the best."""
        assert monitor_mode(name) == "min"

    def test_anything_else_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="`eval.monitor` rouge3.*choose one of rouge1"):
            monitor_mode("rouge3")
