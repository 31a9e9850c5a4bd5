"""Texts to ids: what a tokenizer does not know, and names of special tokens in texts."""

import logging

import pytest
from datasets import Dataset

from seq2seq_distill.data.encoding import encode_split, unknown_tokens
from seq2seq_distill.data.languages import special_tokens
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from tests.tiny_tokenizers import (
    EVERY_KIND,
    SOURCES,
    TARGETS,
    nllb_tokenizer,
    plain_tokenizer,
    separate_marian_tokenizer,
)

KINDS = {**EVERY_KIND, "marian of two vocabularies": separate_marian_tokenizer}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
sides = pytest.mark.parametrize("side", ["text", "text_target"])


@every_kind
@sides
def test_plain_texts_are_read_as_the_tokenizer_does(make, side, tmp_path):
    tokenizer = make(tmp_path)
    texts = SOURCES if side == "text" else TARGETS
    assert TextEncoder(tokenizer, side).encode(texts).ids == tokenizer(**{side: texts})["input_ids"]
    cut = TextEncoder(tokenizer, side, 5).encode(texts)
    assert cut.ids == tokenizer(**{side: texts}, max_length=5, truncation=True)["input_ids"]
    assert TextEncoder(tokenizer, side).encode([]).ids == []


@every_kind
@sides
def test_names_of_special_tokens_are_text_or_reported(make, side, tmp_path):
    """Once a literal </s> in a target was the end of the label, and deu_Latn in a source another language."""
    tokenizer = make(tmp_path)
    specials = special_tokens(tokenizer)
    ids = set(tokenizer.convert_tokens_to_ids(specials)) - {tokenizer.unk_token_id}

    def count(row):
        return sum(token in ids for token in row)

    frame = count(tokenizer(**{side: ["a"]})["input_ids"][0])
    # A Unigram model of `tokenizers` may choose the piece "</s>" of its vocabulary, as the word "</s>".
    has_pieces = type(tokenizer).__name__ in ("T5Tokenizer", "MBartTokenizer")
    for token in specials[-6:] + specials[:6]:
        encoded = TextEncoder(tokenizer, side).encode(["a", f"a {token} b"])
        reported = encoded.literal == [False, True]
        assert reported == (count(encoded.ids[1]) > frame), token
        assert has_pieces or not reported, token


def test_a_text_with_a_special_token_is_cut_as_others_are(tmp_path):
    tokenizer = nllb_tokenizer()
    [whole] = TextEncoder(tokenizer).encode(["a </s> b"]).ids
    for limit in range(3, len(whole) + 3):
        encoded = TextEncoder(tokenizer, "text", limit).encode(["a </s> b"])
        room = limit - 2
        assert encoded.ids == [[whole[0], *whole[1:-1][:room], whole[-1]]]
        assert encoded.truncated == [len(whole) > limit]


def test_the_tokenizer_is_left_as_it_was(tmp_path):
    tokenizer = plain_tokenizer()
    before = tokenizer("a </s> b", max_length=4, truncation=True)["input_ids"]
    tokenizer.backend_tokenizer.no_truncation()
    TextEncoder(tokenizer, "text", 4).encode(["a </s> b"])
    assert tokenizer.backend_tokenizer.truncation is None
    assert tokenizer("a </s> b", max_length=4, truncation=True)["input_ids"] == before


class TestTargetTokens:
    """`>>deu<<` of OPUS-MT and `<2de>` of MADLAD-400."""

    @pytest.fixture
    def tokenizer(self, tmp_path):
        tokenizer = nllb_tokenizer()
        tokenizer.add_tokens(["<2de>", "<2fr>"], special_tokens=True)
        return tokenizer

    def test_at_the_start_stay_tokens(self, tokenizer):
        german, french = tokenizer.convert_tokens_to_ids(["<2de>", "<2fr>"])
        encode = TextEncoder(tokenizer, "text", None, "<2de> ").encode
        [ids] = tokenizer(["<2de> a dog"])["input_ids"]
        assert encode(["a dog"]).ids == [ids] and ids[1] == german
        [marked] = encode(["a <2fr> dog </s>"]).ids
        assert marked[1] == german and french not in marked and marked.count(tokenizer.eos_token_id) == 1

    def test_of_the_source_itself_win(self, tokenizer):
        french = tokenizer.convert_tokens_to_ids("<2fr>")
        for text in ("<2fr> a dog", "<2fr> a dog </s> b"):
            [ids] = TextEncoder(tokenizer, "text", None, "<2de> ").encode([text]).ids
            assert ids[1] == french and ids.count(tokenizer.eos_token_id) == 1


class TestUnknown:
    def test_tokens_and_characters_are_counted(self, tmp_path):
        tokenizer = nllb_tokenizer()
        texts = ["a dog", "a {dog} {", "{"]
        encoded = TextEncoder(tokenizer).encode(texts)
        assert encoded.unknown == [ids.count(tokenizer.unk_token_id) for ids in encoded.ids]
        assert encoded.unknown[0] == 0 < encoded.unknown[1]
        assert encoded.lost == ["", "{}", "{"]

    def test_of_a_split(self, tmp_path):
        rows = Dataset.from_dict({"source": ["a {dog}", "a {cat", "a dog"], "target": ["a", "b", "c"]})
        encoded = encode_split(rows, nllb_tokenizer(), max_source_length=9, max_target_length=9, cache_dir=tmp_path)
        found = unknown_tokens(encoded, "source")
        assert found.characters == ("{", "}")
        assert found.share == sum(encoded["source_unknown"]) / sum(map(len, encoded["input_ids"])) > 0
        assert unknown_tokens(encoded, "target").share == 0

    def test_a_vocabulary_of_targets_has_its_own(self, tmp_path):
        tokenizer = separate_marian_tokenizer(tmp_path)
        unknown = tokenizer.target_encoder[tokenizer.unk_token]
        encoded = TextEncoder(tokenizer, "text_target").encode(["ein \u2603"])
        assert encoded.unknown == [encoded.ids[0].count(unknown)] == [1]
        assert encoded.lost == ["\u2603"]


def test_what_cannot_be_read_as_text_is_logged_with_its_rows(tmp_path, caplog, monkeypatch):
    tokenizer = plain_tokenizer()
    monkeypatch.setattr(type(tokenizer), "_encode_plus", _never_splitting(type(tokenizer)._encode_plus), raising=True)
    rows = Dataset.from_dict({"source": ["a", "a </s> b", "c"], "target": ["a", "b", "c"]})
    with caplog.at_level(logging.WARNING):
        encode_split(rows, tokenizer, max_source_length=9, max_target_length=9, cache_dir=tmp_path)
    assert "1 sources contain the names of special tokens" in caplog.text and "rows 2;" in caplog.text


def _never_splitting(encode):
    return lambda self, *arguments, split_special_tokens=None, **options: encode(self, *arguments, **options)
