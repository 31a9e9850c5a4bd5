"""Kinds of noise, typing errors and sampled subwords: what they change, and that a row alone decides it."""

import math
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from seq2seq_distill.config.noise import CHANGES_TARGETS, NoiseConfig
from seq2seq_distill.data import encoding_job
from seq2seq_distill.data.encoding import encode_split
from seq2seq_distill.data.noise.kinds import KINDS, with_noise
from seq2seq_distill.data.noise.subwords import SubwordSampler, UnigramSegmenter
from seq2seq_distill.data.noise.typos import with_typos
from seq2seq_distill.data.noise.variants import Variant
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_tokenizers import EVERY_KIND, SOURCES, TARGETS, marian_tokenizer, plain_tokenizer, t5_tokenizer

LANGUAGES = ("en", "de")


def apply(kind: str, source: str, target: str = "", languages: tuple[str, str] = LANGUAGES) -> tuple[str, str]:
    return KINDS[kind]((source, target), Random(0), languages)


class TestKinds:
    def test_case(self) -> None:
        assert apply("upper", "see {name} at https://a.b/c now", "çok iyi") == (
            "SEE {name} AT https://a.b/c NOW",
            "ÇOK IYI",
        )
        assert apply("upper", "x", "çok iyi", ("en", "tr"))[1] == "ÇOK İYİ"
        assert apply("title", "it's an %s, isn't it", "ein hund") == ("It's An %s, Isn't It", "Ein Hund")
        assert apply("upper", "go", "去吧")[1] == apply("title", "go", "去吧")[1] == "去吧"

    def test_a_stop_goes_from_both_sides(self) -> None:
        assert apply("no_stop", "Stop it!?", "Lass es.") == ("Stop it", "Lass es")
        assert apply("no_stop", "行きます。", "इधर आओ।") == ("行きます", "इधर आओ")
        assert apply("no_stop", "...", "no stop") == ("...", "no stop")

    def test_an_emoji_and_a_line_of_noise_are_the_same_on_both_sides(self) -> None:
        source, target = apply("emoji", "hi", "hallo")
        assert source.replace("hi", "") == target.replace("hallo", "") != ""
        line, copied = apply("lines", "hi", "hallo")
        assert line == copied and line not in ("hi", "hallo")

    def test_other_forms_of_characters_leave_the_target(self) -> None:
        forms = {KINDS["unicode"](("l'été", "x"), Random(seed), LANGUAGES) for seed in range(20)}
        assert forms == {("l’été", "x"), ("l'e\u0301te\u0301", "x")}
        assert ("ＡＢ中文", "x") in {KINDS["unicode"](("AB中文", "x"), Random(s), LANGUAGES) for s in range(20)}

    def test_rates_are_shares(self) -> None:
        rates = NoiseConfig(preset="firefox", typos=0.0, lines=0.1).rates
        assert rates == {"upper": 0.07, "title": 0.05, "no_stop": 0.2, "lines": 0.1}
        found = [with_noise("a dog.", "ein hund.", rates, Random(n), LANGUAGES) for n in range(4000)]
        capitals = sum(source.isupper() and target.isupper() and "DOG" in source for source, target in found)
        assert capitals / 4000 == pytest.approx(0.07 * 0.9, abs=0.015)
        assert sum(source == target for source, target in found) / 4000 == pytest.approx(0.1, abs=0.02)


class TestTypos:
    def test_words_alone_are_hit_and_little_changes(self) -> None:
        text = "please visit https://example.org/page with {user_name} and 1234567 euros for version2"
        found = {with_typos(text, Random(seed)) for seed in range(200)}
        assert len(found) > 100
        for typo in found:
            assert all(kept in typo for kept in ("https://example.org/page", "{user_name}", "1234567", "version2"))
            assert abs(len(typo) - len(text)) <= 3

    def test_letters_keep_their_marks(self) -> None:
        hindi = "नमस्कार मित्रों विद्यालय"
        letters = Counter(re.findall(r".[\u093a-\u094f\u0900-\u0903]*", hindi))
        for seed in range(100):
            typo = with_typos(hindi, Random(seed))
            assert set(re.findall(r".[\u093a-\u094f\u0900-\u0903]*", typo)) <= letters.keys()

    def test_scripts(self) -> None:
        assert {with_typos("我们明天去北京大学", Random(seed)) for seed in range(50)} == {"我们明天去北京大学"}
        russian = "".join(with_typos("электричество", Random(seed)) for seed in range(100))
        assert re.fullmatch(r"[а-яё ]+", russian)  # neighbouring keys are of its own layout


def bpe_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as BART has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(SOURCES + TARGETS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<s>")


class TestSubwords:
    def test_a_segmentation_comes_as_often_as_its_probability_says(self) -> None:
        scores = {"a": -1.0, "b": -2.0, "ab": -2.5, "c": -1.5, "bc": -2.2}
        alpha, words = 0.7, {("a", "b", "c"): -4.5, ("ab", "c"): -4.0, ("a", "bc"): -3.2}
        segmenter, rng = UnigramSegmenter(scores, alpha), Random(1)
        drawn = Counter(tuple(segmenter.draw(("ab", "c"), rng)) for _ in range(6000))
        total = sum(math.exp(alpha * score) for score in words.values())
        for word, score in words.items():
            assert drawn[word] / 6000 == pytest.approx(math.exp(alpha * score) / total, abs=0.025)
        assert drawn.keys() == words.keys()

    @pytest.mark.parametrize("kind", ["marian", "t5", "m2m100", "mbart", "bpe"])
    def test_the_text_stays(self, tmp_path: Path, kind: str) -> None:
        tokenizer = bpe_tokenizer() if kind == "bpe" else EVERY_KIND[kind](tmp_path)
        sampler = SubwordSampler(tokenizer, 0.3)
        rows = [tokenizer(text)["input_ids"] for text in SOURCES]
        drawn = [sampler.sample(row, Random(f"{n}")) for n, row in enumerate(rows)]
        assert drawn == [sampler.sample(row, Random(f"{n}")) for n, row in enumerate(rows)]
        assert (drawn != rows) is (kind != "mbart")  # its pieces are letters: there is one way
        for row, other in zip(rows, drawn, strict=True):
            texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in (row, other)]
            assert texts[0] == texts[1]
            assert [n for n in row if n in tokenizer.all_special_ids] == [
                n for n in other if n in tokenizer.all_special_ids
            ]

    def test_no_dropout_gives_the_tokens_of_the_tokenizer(self) -> None:
        tokenizer = bpe_tokenizer()
        for text in SOURCES:
            row = tokenizer(text)["input_ids"]
            assert SubwordSampler(tokenizer, 0.0).sample(row, Random(0)) == row

    def test_words_of_a_vocabulary_have_no_subwords(self) -> None:
        with pytest.raises(ConfigError, match=r"`noise.subword_sampling` 0.1: the tokenizer .* leave it out"):
            SubwordSampler(plain_tokenizer(), 0.1)


class TestEncoding:
    def rows(self, tmp_path: Path, noise: NoiseConfig, number: int = 1, length: int = 40, prefix: str = "") -> Dataset:
        texts = Dataset.from_dict({"source": [f"{s} ." for s in SOURCES], "target": [f"{t} ." for t in TARGETS]})
        variant = Variant(noise, 7, number, LANGUAGES) if noise.is_on else None
        lengths = {"max_source_length": length, "max_target_length": length}
        return encode_split(
            texts, marian_tokenizer(tmp_path), prefix=prefix, cache_dir=tmp_path, variant=variant, **lengths
        )

    def test_forms_differ_from_each_other_and_are_the_same_again(self, tmp_path: Path) -> None:
        noise, clean = NoiseConfig(no_stop=0.5, subword_sampling=0.2), self.rows(tmp_path, NoiseConfig())
        first, again, second = (self.rows(tmp_path / name, noise, n) for name, n in (("1", 1), ("2", 1), ("3", 2)))
        assert first[:] == again[:] and first["input_ids"][:] != second["input_ids"][:]
        assert "distilled" not in clean.column_names
        assert {True, False} == set(first["distilled"])
        for row in range(len(clean)):
            assert (first["labels"][row] == clean["labels"][row]) is first["distilled"][row]

    def test_rows_know_their_place_in_the_split(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        noise = NoiseConfig(no_stop=0.5, typos=0.5, subword_sampling=0.2)
        whole = self.rows(tmp_path / "whole", noise)
        monkeypatch.setattr(encoding_job, "PART_ROWS", 4)
        monkeypatch.setattr(encoding_job, "BATCH_ROWS", 3)
        assert self.rows(tmp_path / "parts", noise)[:] == whole[:]

    def test_what_the_vocabulary_cannot_write_stays(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, NoiseConfig(upper=1.0, emoji=0.5))  # its pieces are of small letters
        clean = self.rows(tmp_path, NoiseConfig())
        assert all(rows["distilled"]) and rows["input_ids"][:] == clean["input_ids"][:]

    def test_sampled_subwords_are_cut_and_leave_the_prefix(self, tmp_path: Path) -> None:
        noise, end = NoiseConfig(subword_sampling=0.01), 0
        long = self.rows(tmp_path, noise, prefix="the park ")
        short = self.rows(tmp_path, noise, length=9, prefix="the park ")
        opening = marian_tokenizer(tmp_path)("the park ", add_special_tokens=False)["input_ids"]
        for whole, cut in zip(long["input_ids"], short["input_ids"], strict=True):
            assert whole[: len(opening)] == opening and cut == [*whole[:8], end]
        assert all(short["source_truncated"])


def test_the_kinds_that_change_targets() -> None:
    pair = ("Is “it” a café-restaurant?", "Ein Haus am See.")
    changing = {kind for kind in KINDS if any(KINDS[kind](pair, Random(s), LANGUAGES)[1] != pair[1] for s in range(9))}
    assert changing == set(CHANGES_TARGETS)


def test_t5s_forms_are_encoded_by_the_class_too(tmp_path: Path) -> None:
    texts = Dataset.from_dict({"source": SOURCES, "target": TARGETS})
    variant = Variant(NoiseConfig(subword_sampling=0.3), 1, 1, LANGUAGES)
    tokenizer, lengths = t5_tokenizer(tmp_path), {"max_source_length": 60, "max_target_length": 20}
    rows = encode_split(texts, tokenizer, prefix="the park ", cache_dir=tmp_path, variant=variant, **lengths)
    assert tokenizer.batch_decode(rows["input_ids"][:], skip_special_tokens=True) == [f"the park {s}" for s in SOURCES]
