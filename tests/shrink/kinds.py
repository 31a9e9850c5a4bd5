"""Tiny tokenizers of every kind of vocabulary, with pieces of several characters and merges of several ways."""

import json
from collections.abc import Callable
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BartTokenizer,
    M2M100Tokenizer,
    MarianTokenizer,
    MBart50Tokenizer,
    MBartTokenizer,
    NllbTokenizer,
    PegasusTokenizer,
    PLBartTokenizer,
    PreTrainedTokenizerBase,
    T5Tokenizer,
)

from seq2seq_distill.data.tokenization.tokenizers import train_tokenizer
from tests.tiny_tokenizers import SOURCES, TARGETS, _sentencepiece, plain_tokenizer, separate_marian_tokenizer

LINES = SOURCES + TARGETS
FAIRSEQ = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]


def _unigram(folder: Path, size: int = 90) -> list[tuple[str, float]]:
    """Pieces and scores of a SentencePiece model."""
    file = folder / "unigram.model"
    pieces = _sentencepiece(file, LINES, size)
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [(piece, model.get_score(model.piece_to_id(piece))) for piece in pieces]


def _bpe(initial_alphabet: list[str]) -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges of a BPE model over words that open with a space mark."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=130, initial_alphabet=initial_alphabet, show_progress=False)
    tokenizer.train_from_iterator(LINES * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def t5(folder: Path) -> PreTrainedTokenizerBase:
    """With sentinels."""
    _sentencepiece(folder / "spiece.model", LINES, 90, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return T5Tokenizer.from_pretrained(str(folder), extra_ids=5)


def mbart(folder: Path) -> PreTrainedTokenizerBase:
    return MBartTokenizer(vocab=[*FAIRSEQ, *_unigram(folder)], src_lang="en_XX", tgt_lang="de_DE")


def mbart50(folder: Path) -> PreTrainedTokenizerBase:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *_unigram(folder)]
    return MBart50Tokenizer(vocab=pieces, src_lang="en_XX", tgt_lang="de_DE")


def pegasus(folder: Path) -> PreTrainedTokenizerBase:
    """With the sentinels of its pretraining, before its pieces."""
    special = ["<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103)), "<unk>"]
    return PegasusTokenizer(vocab=[*((token, 0.0) for token in special), *_unigram(folder)])


def nllb(folder: Path) -> PreTrainedTokenizerBase:
    vocab, merges = _bpe([])
    tokens = [token for token, _ in FAIRSEQ] + sorted(vocab, key=vocab.__getitem__)
    return NllbTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=merges,
        extra_special_tokens=["deu_Latn", "eng_Latn", "fra_Latn", "zho_Hans"],
        src_lang="eng_Latn",
        tgt_lang="deu_Latn",
    )


def bart(folder: Path) -> PreTrainedTokenizerBase:
    """Byte-level, with its mask at the end."""
    model = json.loads(train_tokenizer(LINES * 2, 340).backend_tokenizer.to_str())["model"]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = [*special, *(token for token in model["vocab"] if token not in special), "<mask>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return BartTokenizer(vocab=vocab, merges=[tuple(merge) for merge in model["merges"]])


def byte_level(folder: Path) -> PreTrainedTokenizerBase:
    return train_tokenizer(LINES * 2, 340)


def marian(folder: Path, model_type: str = "unigram") -> PreTrainedTokenizerBase:
    pieces = {
        side: _sentencepiece(folder / f"{side}.spm", lines, 80, model_type=model_type)
        for side, lines in (("source", SOURCES), ("target", TARGETS))
    }
    tokens = dict.fromkeys(["</s>", "<unk>", *pieces["source"], *pieces["target"], "<pad>"])
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    files = (str(folder / name) for name in ("source.spm", "target.spm", "vocab.json"))
    return MarianTokenizer(*files, source_lang="en", target_lang="de")


def marian_bpe(folder: Path) -> PreTrainedTokenizerBase:
    return marian(folder, "bpe")


def m2m100(folder: Path) -> PreTrainedTokenizerBase:
    pieces = _sentencepiece(folder / "sentencepiece.bpe.model", LINES, 120, model_type="bpe")
    tokens = dict.fromkeys([*(token for token, _ in FAIRSEQ), *pieces])
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    files = (str(folder / name) for name in ("vocab.json", "sentencepiece.bpe.model"))
    return M2M100Tokenizer(*files, src_lang="en", tgt_lang="de")


def plbart(folder: Path) -> PreTrainedTokenizerBase:
    _sentencepiece(folder / "sentencepiece.bpe.model", LINES, 120, model_type="bpe")
    return PLBartTokenizer(str(folder / "sentencepiece.bpe.model"), src_lang="python", tgt_lang="en_XX")


KINDS: dict[str, tuple[str, Callable[[Path], PreTrainedTokenizerBase]]] = {
    "words": ("bart", lambda folder: plain_tokenizer()),
    "t5": ("t5", t5),
    "mbart": ("mbart", mbart),
    "mbart50": ("mbart", mbart50),
    "pegasus": ("pegasus", pegasus),
    "nllb": ("m2m_100", nllb),
    "bart": ("bart", bart),
    "byte_level": ("led", byte_level),
    "marian": ("marian", marian),
    "marian_bpe": ("marian", marian_bpe),
    "marian_separate": ("marian", lambda folder: separate_marian_tokenizer(folder, 70)),
    "m2m100": ("m2m_100", m2m100),
    "plbart": ("plbart", plbart),
}
"""For each kind, the architecture that goes with it, and its maker, which is given a folder for its files."""
