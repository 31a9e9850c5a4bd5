"""tokenizer.json of Marian and M2M100 encodes texts as their tokenizers do."""

import json

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import MarianTokenizer

from seq2seq_distill.data.tokenization.tokenizer_json import TokenizerJson, write_tokenizer_json
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_tokenizers import (
    SOURCES,
    TARGETS,
    m2m100_tokenizer,
    marian_tokenizer,
    plain_tokenizer,
    separate_marian_tokenizer,
)

TEXTS = [
    *SOURCES,
    *TARGETS,
    "  spaces   at the ends  and within  ",
    "Größe: straße ﬁeld １２ “quoted”",
    "北京的冬天很冷。 \t tabs",
    "",
]
FORMAT = "--format onnx"


@pytest.mark.parametrize("make", [marian_tokenizer, m2m100_tokenizer])
def test_all_texts_are_encoded_and_decoded_alike(make, tmp_path):
    tokenizer = make(tmp_path)
    assert write_tokenizer_json(tmp_path, tokenizer, [*TEXTS, *SOURCES, "a </s>"], FORMAT) == TokenizerJson(
        len(TEXTS), 0
    )
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.get_vocab_size() == len(tokenizer)
    for text in SOURCES:
        ids = tokenizer(text_target=text)["input_ids"]
        assert made.decode(ids).strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()
    names = tokenizer.get_vocab()
    assert {token: names[token] for token in tokenizer.all_special_tokens} == {
        token: made.token_to_id(token) for token in tokenizer.all_special_tokens
    }


def test_a_target_token_that_opens_a_source_is_a_token(tmp_path):
    marian_tokenizer(tmp_path)
    vocab = tmp_path / "marian" / "vocab.json"
    ids = json.loads(vocab.read_text())
    vocab.write_text(json.dumps({**ids, ">>deu<<": len(ids)}))
    files = (str(vocab.with_name(name)) for name in ("source.spm", "target.spm", "vocab.json"))
    tokenizer = MarianTokenizer(*files, source_lang="en", target_lang="de")
    assert write_tokenizer_json(tmp_path, tokenizer, [f">>deu<< {text}" for text in SOURCES], FORMAT).unequal == 0
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.encode(">>deu<< a dog").ids[0] == len(ids)


def test_what_differs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "seq2seq_distill.data.tokenization.tokenizer_json._normalizer", lambda spec: normalizers.Lowercase()
    )
    with pytest.raises(ModelError, match=r"would encode .* otherwise than MarianTokenizer: choose"):
        write_tokenizer_json(tmp_path, marian_tokenizer(tmp_path), ["a  dog"], FORMAT)
    assert not (tmp_path / "tokenizer.json").exists()


def test_others_have_one_or_are_refused(tmp_path):
    assert write_tokenizer_json(tmp_path, plain_tokenizer(), SOURCES, FORMAT) is None
    with pytest.raises(ModelError, match="cannot hold a tokenizer with a vocabulary for each side"):
        write_tokenizer_json(tmp_path, separate_marian_tokenizer(tmp_path), SOURCES, FORMAT)
