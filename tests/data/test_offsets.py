"""Ends of labels in bytes, of every kind of tokenizer."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from seq2seq_distill.data.languages import special_tokens
from seq2seq_distill.data.tokenization.offsets import NO_TEXT, TargetOffsets, byte_offsets
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import train_tokenizer
from seq2seq_distill.utils.errors import ModelError
from tests.tiny_tokenizers import (
    EVERY_KIND,
    SOURCES,
    TARGETS,
    marian_tokenizer,
    mbart_tokenizer,
    separate_marian_tokenizer,
)

KINDS = {
    **EVERY_KIND,
    "two vocabularies": separate_marian_tokenizer,
    "byte-level": lambda path: train_tokenizer(SOURCES + TARGETS, 300),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
TEXTS = [*TARGETS[:3], "die  grüne wiese ½ 北京 ﬁn", "a\u0301 x\u00a0über"]


def labels_of(tokenizer, texts, longest=None):
    return list(TextEncoder(tokenizer, "text_target", longest).encode(texts).ids)


@every_kind
def test_a_text_before_an_end_reads_as_the_tokens_before_it(make, tmp_path):
    """Where a word ends, the tokens of the text up to there are the first tokens of the text."""
    tokenizer = make(tmp_path)
    labels = labels_of(tokenizer, TARGETS)
    special = {*map(tokenizer.convert_tokens_to_ids, special_tokens(tokenizer))} - {tokenizer.unk_token_id}
    for text, own, ends in zip(TARGETS, labels, TargetOffsets(tokenizer).ends(TARGETS, labels), strict=True):
        own, ends = list(own), ends.tolist()
        body = [end for end in ends if 0 <= end <= len(text.encode())]
        assert body == sorted(body) and body[-1] == len(text.encode())
        assert [end for end, token in zip(ends, own, strict=True) if token in special] == [
            len(text.encode()) + 1 if token == tokenizer.eos_token_id else NO_TEXT for token in own if token in special
        ]
        for place in (len(part.encode()) for part in _beginnings(text)):
            before = [token for token, end in zip(own, ends, strict=True) if 0 <= end <= place]
            [shorter] = labels_of(tokenizer, [text.encode()[:place].decode()])
            assert before == [token for token in shorter if token not in special]


def _beginnings(text):
    words = text.split(" ")
    return [" ".join(words[:count]) for count in range(1, len(words) + 1)]


@every_kind
def test_odd_texts_have_ascending_ends_on_characters(make, tmp_path):
    tokenizer = make(tmp_path)
    labels = labels_of(tokenizer, TEXTS)
    for text, ends in zip(TEXTS, TargetOffsets(tokenizer).ends(TEXTS, labels), strict=True):
        inside = [end for end in ends.tolist() if end >= 0]
        assert inside == sorted(inside) and inside[-1] == len(text.encode()) + 1
        assert inside[-2] == len(text.encode())


@every_kind
def test_a_cut_target_keeps_its_ends_and_has_no_end_of_sequence(make, tmp_path):
    tokenizer = make(tmp_path)
    [whole], [cut] = (labels_of(tokenizer, TARGETS[:1], longest) for longest in (None, 5))
    offsets = TargetOffsets(tokenizer)
    [of_whole], [of_cut] = offsets.ends(TARGETS[:1], [whole]), offsets.ends(TARGETS[:1], [cut])
    assert len(of_cut) == 5 and len(TARGETS[0].encode()) + 1 not in of_cut
    kept = [end for end in of_cut.tolist() if end >= 0]
    assert kept == [end for end in of_whole.tolist() if end >= 0][: len(kept)] and len(kept) >= 2


def test_byte_level_tokens_end_inside_characters():
    tokenizer = train_tokenizer(SOURCES + TARGETS, 300)
    text = "ein 北"
    [labels] = labels_of(tokenizer, [text])
    assert TargetOffsets(tokenizer).ends([text], [labels])[0].tolist()[-4:] == [5, 6, 7, 8]


def test_bytes_of_a_character_that_end_together_belong_together():
    vocab = {
        token: number for number, token in enumerate(["<unk>", "a", "b", *(f"<0x{byte:02X}>" for byte in range(256))])
    }
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    labels = [fast("a北b")["input_ids"]]
    assert TargetOffsets(fast).ends(["a北b"], labels)[0].tolist() == [1, 4, 4, 4, 5]


def test_special_languages_are_no_text(tmp_path):
    tokenizer = mbart_tokenizer()
    [labels] = labels_of(tokenizer, ["ein"])
    assert tokenizer.convert_ids_to_tokens(labels)[-2:] == ["</s>", "de_DE"]
    assert TargetOffsets(tokenizer).ends(["ein"], [labels])[0].tolist()[-2:] == [4, NO_TEXT]


def test_labels_of_another_text_have_no_ends(tmp_path):
    tokenizer = marian_tokenizer(tmp_path)
    labels = labels_of(tokenizer, TARGETS[:1])
    assert TargetOffsets(tokenizer).ends(["ein katze"], labels) == [None]


def test_a_class_without_offsets_is_refused(tmp_path):
    class Odd:
        is_fast = False

    with pytest.raises(ModelError, match=r"`loss.alpha_chunk`: a Odd does not tell where"):
        TargetOffsets(Odd())


@pytest.mark.parametrize("text", ["abc", "aé北😀b", ""])
def test_bytes_before_each_character(text):
    assert byte_offsets(text).tolist() == [len(text[:count].encode()) for count in range(len(text) + 1)]
