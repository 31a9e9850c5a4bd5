"""tokenizer.json of Marian and M2M100 encodes texts as their tokenizers do."""

import json
import random
import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import sentencepiece_model_pb2
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

ODD = [
    "  spaces   at the ends  and within  ",
    "Größe: straße ﬁeld １２ “quoted”",
    "北京的冬天很冷。 \t tabs\r\nand lines\n",
    "",
    " ",
    "▁a▁ ▁dog▁",
    "\u200b\ufeffa\u00a0\u200ddog\x07 \u3000\x85",
    "a dog 👨‍👩‍👧 1️⃣ 🇩🇪 ☺️",
    unicodedata.normalize("NFD", "Việt Nam, señor, größe, 안녕, ガギグ"),
    "ｶﾞｷﾞ ﷺ ½ ①",
    "בַּ שָּׁ مُحَمَّد",
]
TEXTS = [*SOURCES, *TARGETS, *ODD]
FORMAT = "--format onnx"
bpe_tokenizer = partial(m2m100_tokenizer, model_type="bpe")


def made_marian(
    folder: Path, scores: Mapping[str, float], tokens: str = "", symbols: tuple[str, ...] = ()
) -> MarianTokenizer:
    """Of pieces with these scores; tokens, between spaces, stand in the vocabulary alone."""
    proto: Any = sentencepiece_model_pb2.ModelProto()
    piece = proto.SentencePiece
    proto.pieces.add(piece="<unk>", score=0, type=piece.UNKNOWN)
    for name, score in scores.items():
        proto.pieces.add(piece=name, score=score, type=piece.USER_DEFINED if name in symbols else piece.NORMAL)
    vocab = dict.fromkeys(["</s>", "<unk>", *scores, *tokens.split(), "<pad>"])
    files = [folder / name for name in ("source.spm", "target.spm", "vocab.json")]
    for file in files[:2]:
        file.write_bytes(proto.SerializeToString())
    files[2].write_text(json.dumps({token: index for index, token in enumerate(vocab)}))
    return MarianTokenizer(*map(str, files), source_lang="en", target_lang="de")


@pytest.mark.parametrize("make", [marian_tokenizer, m2m100_tokenizer, bpe_tokenizer])
def test_all_texts_are_encoded_and_decoded_alike(make, tmp_path):
    tokenizer = make(tmp_path)
    texts = [*TEXTS, *SOURCES, "a </s>", "a >>deu<<"]
    assert write_tokenizer_json(tmp_path, tokenizer, iter(texts), FORMAT) == TokenizerJson(len(TEXTS), 0, 2)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.get_vocab_size() == len(tokenizer)
    for text in SOURCES:
        ids = tokenizer(text_target=text)["input_ids"]
        assert made.decode(ids).strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()
    names = tokenizer.get_vocab()
    assert {token: names[token] for token in tokenizer.all_special_tokens} == {
        token: made.token_to_id(token) for token in tokenizer.all_special_tokens
    }


@pytest.mark.parametrize("make", [m2m100_tokenizer, bpe_tokenizer])
def test_mixtures_of_odd_characters_are_encoded_alike(make, tmp_path):
    """Without ligatures, before accents, to which SentencePiece does not join these."""
    draws, characters = random.Random(0), sorted({*"".join(TEXTS)} - {*"ﬁ½①ﾞ"})
    texts = ["".join(draws.choices(characters, k=draws.randint(1, 12))) for _ in range(1000)]
    compared = write_tokenizer_json(tmp_path, make(tmp_path), texts, FORMAT)
    assert compared is not None and compared.texts > 900


def test_a_target_token_that_opens_a_source_is_a_token(tmp_path):
    marian_tokenizer(tmp_path)
    vocab = tmp_path / "marian" / "vocab.json"
    ids = json.loads(vocab.read_text())
    vocab.write_text(json.dumps({**ids, ">>deu<<": len(ids)}))
    files = (str(vocab.with_name(name)) for name in ("source.spm", "target.spm", "vocab.json"))
    tokenizer = MarianTokenizer(*files, source_lang="en", target_lang="de")
    texts = [*(f">>deu<< {text}" for text in SOURCES), "a >>deu<< within"]
    assert write_tokenizer_json(tmp_path, tokenizer, texts, FORMAT) == TokenizerJson(len(SOURCES), 0, 1)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.encode(">>deu<< a dog").ids[0] == len(ids)


def test_letters_that_only_the_vocabulary_knows(tmp_path):
    """SentencePiece hands on unknown letters in a row as one piece, which the vocabulary may have."""
    tokenizer = made_marian(tmp_path, {"▁": -2, "a": -3, "▁a": -4}, "北 京 北京 ▁北 b a北")
    texts = ["北 a", "北京", "a北京a", "京北", "北京北 京", "x北", "xb xy b", "北京 a京", "[\\^-]", "a-"]
    assert write_tokenizer_json(tmp_path, tokenizer, texts, FORMAT) == TokenizerJson(len(texts), 0, 0)
    made = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert made.encode("北京 京北 京").tokens[:2] == ["▁", "北京"]
    assert [made.encode(text).ids[1] for text in ("北", "北京", "京北")] == [
        tokenizer.convert_tokens_to_ids(token) for token in ("北", "北京", "<unk>")
    ]


def test_symbols_of_the_user_are_never_cut(tmp_path):
    scores = {"▁": -2, "a": -0.5, "b": -0.5, "::": 0, "a b": 0, "ab": -9}
    tokenizer = made_marian(tmp_path, scores, "北 京", symbols=("::", "a b"))
    texts = ["a b", "ab a b", "::", "a::b", "北::京", "北京:: :", ":北 京"]
    assert write_tokenizer_json(tmp_path, tokenizer, texts, FORMAT) == TokenizerJson(len(texts), 0, 0)


def test_ties_are_counted(tmp_path, caplog):
    """SentencePiece itself cuts "000" in two ways: what stands before rounds the sums of scores unlike."""
    tokenizer = made_marian(tmp_path, {"▁": -2.1, "▁a": -3.7, "0": -10.061319351196289, "00": -10.979249000549316})
    texts = [f"{'a ' * count}000" for count in range(200)]
    cuts = {tuple(tokenizer.tokenize(text)[-2:]) for text in texts}
    assert cuts == {("0", "00"), ("00", "0")}
    compared = write_tokenizer_json(tmp_path, tokenizer, texts, FORMAT)
    assert compared is not None and 0 < compared.ties < 200
    assert f"tokenizer.json cuts {compared.ties} of 200 texts otherwise than MarianTokenizer, at equal" in caplog.text


def test_one_text_of_thousands_that_differs_is_refused(tmp_path, monkeypatch):
    rules = "seq2seq_distill.data.tokenization.tokenizer_json.SentencePieceRules.normalizer"
    monkeypatch.setattr(rules, lambda self: normalizers.Sequence([normalizers.Lowercase(), normalizers.Prepend(" ")]))
    texts = [f"a dog {count:x}" for count in range(2500)]
    message = r"would encode 1 of 2501 texts otherwise than MarianTokenizer, such as A dog: choose `format` ct"
    tokenizer = marian_tokenizer(tmp_path)
    with pytest.raises(ModelError, match=message):
        write_tokenizer_json(tmp_path, tokenizer, [*texts, "A dog"], FORMAT)
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_worse_cut_is_no_tie(tmp_path, monkeypatch):
    tokenizer = made_marian(tmp_path, {"▁": -2, "a": -3, "b": -3, "ab": -5.99, "ba": -5.98})
    monkeypatch.setattr(
        "seq2seq_distill.data.tokenization.sentencepiece_rules.SentencePieceRules.score",
        lambda self, token: {"ab": -5.98, "ba": -5.99}.get(token, -3.0),
    )
    with pytest.raises(ModelError, match="would encode 1 of 2 texts otherwise"):
        write_tokenizer_json(tmp_path, tokenizer, ["ab", "aba"], FORMAT)


def test_others_have_one_or_are_refused(tmp_path):
    assert write_tokenizer_json(tmp_path, plain_tokenizer(), SOURCES, FORMAT) is None
    with pytest.raises(ModelError, match="cannot hold a tokenizer with a vocabulary for each side"):
        write_tokenizer_json(tmp_path, separate_marian_tokenizer(tmp_path), SOURCES, FORMAT)
