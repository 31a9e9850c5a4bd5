"""Tiny tokenizers of every kind, made offline in a moment, anew at each call."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    M2M100Tokenizer,
    MarianTokenizer,
    MBartTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Tokenizer,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

SOURCES = [
    "a dog runs over the green field",
    "two men sit on a bench in the park",
    "the girl with the red hat reads a book",
    "three cats sleep under the old table",
    "a woman rides her bike to the market",
    "the boy throws a ball into the water",
]
TARGETS = [
    "ein hund läuft über die grüne wiese",
    "zwei männer sitzen auf einer bank im park",
    "das mädchen mit dem roten hut liest ein buch",
    "drei katzen schlafen unter dem alten tisch",
    "eine frau fährt mit dem rad zum markt",
    "der junge wirft einen ball ins wasser",
]


def plain_tokenizer(vocab_size: int = 64) -> PreTrainedTokenizerFast:
    """Words, the most frequent first, as tokens 3 and up; pad 0, eos 1, unk 2; eos appended."""
    words = " ".join(SOURCES + TARGETS).split()
    ranked = sorted(set(words), key=lambda word: (-words.count(word), word))
    vocab = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *ranked][:vocab_size])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=128,
    )


def mbart_tokenizer(src_lang: str = "en_XX", tgt_lang: str = "de_DE") -> MBartTokenizer:
    """Letters as tokens; `<s>` 0, pad 1, eos 2, unk 3; the language codes come last."""
    vocab = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [(letter, -3.0) for letter in _letters()]
    return MBartTokenizer(vocab=vocab, src_lang=src_lang, tgt_lang=tgt_lang)


def nllb_tokenizer(src_lang: str = "eng_Latn", tgt_lang: str = "deu_Latn") -> NllbTokenizer:
    """Letters as tokens; `<s>` 0, pad 1, eos 2, unk 3; four languages."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_letters()]
    return NllbTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        extra_special_tokens=["deu_Latn", "eng_Latn", "fra_Latn", "zho_Hans"],
        src_lang=src_lang,
        tgt_lang=tgt_lang,
    )


def marian_tokenizer(tmp_path: Path) -> MarianTokenizer:
    """Two sentencepiece models over one vocabulary: the sides cut text unlike; eos 0, unk 1, pad last."""
    folder = _folder(tmp_path, "marian")
    source = _sentencepiece(folder / "source.spm", SOURCES, 60)
    target = _sentencepiece(folder / "target.spm", TARGETS, 60)
    pieces = dict.fromkeys(["</s>", "<unk>", *source, *target, "<pad>"])
    vocab = folder / "vocab.json"
    vocab.write_text(json.dumps({piece: index for index, piece in enumerate(pieces)}), encoding="utf-8")
    return MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(vocab), source_lang="en", target_lang="de"
    )


def separate_marian_tokenizer(tmp_path: Path, source_pieces: int = 60) -> MarianTokenizer:
    """Two sentencepiece models with a vocabulary each, targets' always the same; eos 0, unk 1, pad 2 in both."""
    folder = _folder(tmp_path, "marian")
    files = {}
    for side, texts, size in (("source", SOURCES, source_pieces), ("target", TARGETS, 60)):
        pieces = _sentencepiece(folder / f"{side}.spm", texts, size)
        files[side] = folder / f"{side}.json"
        ids = {piece: index for index, piece in enumerate(["</s>", "<unk>", "<pad>", *pieces])}
        files[side].write_text(json.dumps(ids), encoding="utf-8")
    return MarianTokenizer(
        *(str(folder / f"{side}.spm") for side in files),
        *map(str, files.values()),
        source_lang="en",
        target_lang="de",
        separate_vocabs=True,
    )


def m2m100_tokenizer(
    tmp_path: Path, src_lang: str = "en", tgt_lang: str = "de", model_type: str = "unigram"
) -> M2M100Tokenizer:
    """One sentencepiece model; `<s>` 0, pad 1, eos 2, unk 3; the languages lie behind `len(encoder)`."""
    folder = _folder(tmp_path, "m2m100")
    pieces = _sentencepiece(folder / "sentencepiece.bpe.model", SOURCES + TARGETS, 80, model_type=model_type)
    vocab = folder / "vocab.json"
    tokens = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *pieces])
    vocab.write_text(json.dumps({token: index for index, token in enumerate(tokens)}), encoding="utf-8")
    return M2M100Tokenizer(
        str(vocab),
        str(folder / "sentencepiece.bpe.model"),
        src_lang=src_lang,
        tgt_lang=tgt_lang,
        additional_special_tokens=[f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]],
    )


def t5_tokenizer(tmp_path: Path) -> T5Tokenizer:
    """A sentencepiece unigram model; pad 0, eos 1, unk 2; no sentinel tokens."""
    folder = _folder(tmp_path, "t5")
    _sentencepiece(folder / "spiece.model", SOURCES + TARGETS, 60, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return T5Tokenizer.from_pretrained(str(folder), extra_ids=0)


EVERY_KIND: dict[str, Callable[[Path], PreTrainedTokenizerBase]] = {
    "plain": lambda path: plain_tokenizer(),
    "marian": marian_tokenizer,
    "t5": t5_tokenizer,
    "mbart": lambda path: mbart_tokenizer(),
    "nllb": lambda path: nllb_tokenizer(),
    "m2m100": m2m100_tokenizer,
}
"""Makers of tokenizers, each of which is given a folder for its files."""


def _letters() -> list[str]:
    return ["▁", *sorted(set("".join(SOURCES + TARGETS)) - {" "})]


def _folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sentencepiece(path: Path, lines: list[str], vocab_size: int, **ids: Any) -> list[str]:
    """Train a model at `path`; its pieces without the special ones."""
    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=stream,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
            **ids,
        )
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = range(model.get_piece_size())
    return [model.id_to_piece(i) for i in pieces if not (model.is_control(i) or model.is_unknown(i))]
