"""What trimming a vocabulary keeps: segmentation of covered texts, lengths, coverage, outputs.

    python -m benchmarks.trimming --data FOLDER [FOLDER ...] --teacher FOLDER
    python -m benchmarks.trimming --data FOLDER [FOLDER ...] --train_on FOLDER [FOLDER ...] --vocab_size 32000

With --teacher, its own tokenizer is trimmed, and its greedy outputs are compared with those of the whole model whose
removed tokens are suppressed. With --train_on, tokenizers of three kinds are trained on the texts of these folders:
SentencePiece Unigram (as T5 has it), SentencePiece BPE (M2M100) and byte-level BPE (BART). Pieces are counted in the
training split of each data set and compared on its validation and test splits. Prints one JSON line for each data set
and tokenizer.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    M2M100Tokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Tokenizer,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

from seq2seq_distill.data.sources import load_split
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer, train_tokenizer
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.shrink.trimming import SIDES, ParallelTexts, TrimmedModel, trim_vocabulary

ENCODED = {"source": "text", "target": "text_target"}
ROWS = 64
"""Whose greedy outputs are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders of parallel text")
    parser.add_argument("--teacher", help="folder of a model")
    parser.add_argument("--src_lang", help="of the teacher, if it needs languages")
    parser.add_argument("--tgt_lang", help="of the teacher, if it needs languages")
    parser.add_argument("--train_on", nargs="*", default=[], help="folders on which tokenizers are trained")
    parser.add_argument(
        "--kinds", nargs="+", choices=list(TRAINERS), default=list(TRAINERS), help="of these tokenizers"
    )
    parser.add_argument("--vocab_size", type=int, default=32000, help="of these tokenizers")
    parser.add_argument("--max_lines", type=int, default=200_000, help="lines that they are trained on")
    parser.add_argument("--coverage", type=float, nargs="+", default=[0.9999, 0.99])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for name, model, tokenizer in models(arguments, Path(place)):
            for data in arguments.data:
                for coverage in arguments.coverage:
                    line = compare(model, tokenizer, data, coverage, is_random=name != "teacher")
                    print(json.dumps({"benchmark": "trimming", "tokenizer": name, **line}), flush=True)


def models(arguments: argparse.Namespace, place: Path) -> list[tuple[str, PreTrainedModel, PreTrainedTokenizerBase]]:
    """The teacher, and tiny random models with the tokenizers that are trained, each with a name."""
    found: list[tuple[str, PreTrainedModel, PreTrainedTokenizerBase]] = []
    if arguments.teacher:
        tokenizer = load_tokenizer(arguments.teacher, arguments.src_lang, arguments.tgt_lang)
        found.append(("teacher", load_pretrained(arguments.teacher, torch.float64), tokenizer))
    if arguments.train_on:
        splits = [load_split(folder, "train") for folder in arguments.train_on]
        lines = [line for split in splits for side in SIDES for line in split[side]]
        lines = lines[:: max(1, len(lines) // arguments.max_lines)]
        for name in arguments.kinds:
            model_type, train = TRAINERS[name]
            tokenizer = train(lines, arguments.vocab_size, place / name)
            found.append((name, random_model(model_type, tokenizer), tokenizer))
    return found


def train_unigram(lines: Sequence[str], size: int, folder: Path) -> PreTrainedTokenizerBase:
    train_sentencepiece(lines, size, folder, "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return T5Tokenizer.from_pretrained(str(folder), extra_ids=0)


def train_sentencepiece_bpe(lines: Sequence[str], size: int, folder: Path) -> PreTrainedTokenizerBase:
    file = train_sentencepiece(lines, size, folder, "sentencepiece.bpe.model", model_type="bpe")
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    pieces = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    tokens = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *pieces])
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return M2M100Tokenizer(
        str(folder / "vocab.json"),
        str(file),
        src_lang="en",
        tgt_lang="fr",
        additional_special_tokens=[f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]],
    )


def train_sentencepiece(lines: Sequence[str], size: int, folder: Path, name: str, **options: Any) -> Path:
    folder.mkdir()
    with open(folder / name, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=size,
            num_threads=1,
            minloglevel=2,
            **options,
        )
    return folder / name


TRAINERS: dict[str, tuple[str, Callable[[Sequence[str], int, Path], PreTrainedTokenizerBase]]] = {
    "unigram": ("t5", train_unigram),
    "sentencepiece_bpe": ("m2m_100", train_sentencepiece_bpe),
    "byte_level_bpe": ("bart", lambda lines, size, folder: train_tokenizer(lines, size)),
}


def random_model(model_type: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The smallest model that has a row for each token."""
    rows = max(len(tokenizer), *getattr(tokenizer, "lang_token_to_id", {"": 0}).values()) + 1
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "eos", "bos")}
    shape = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "encoder_layers": 1}
    shape |= {"decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = AutoConfig.for_model(
        model_type, vocab_size=rows, decoder_start_token_id=tokenizer.eos_token_id, **ids, **shape
    )
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def compare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: str, coverage: float, *, is_random: bool
) -> dict[str, Any]:
    """The benchmark's JSON line for one data set and coverage."""
    splits = {split: load_split(data, split) for split in ("train", "val", "test")}
    texts = {split: ParallelTexts(list(rows["source"]), list(rows["target"])) for split, rows in splits.items()}
    trimmed = trim_vocabulary(model, tokenizer, texts["train"], coverage=coverage, held_out=texts["val"])
    report = trimmed.report
    line: dict[str, Any] = {
        "data": Path(data).name,
        "trim.coverage": coverage,
        "before": report["vocabulary"]["before"]["source"],
        "after": report["vocabulary"]["after"]["source"],
        "lost_characters": report["lost_characters"]["count"],
    }
    for side in SIDES:
        held_out = [*getattr(texts["val"], side), *getattr(texts["test"], side)]
        line[side] = {**report["held_out"][side], **segmentation(tokenizer, trimmed, side, held_out)}
    if not is_random:
        line["lost_mass"] = report["held_out"]["lost_mass"]
        line |= outputs(model, trimmed, texts["test"].source[:ROWS])
    return line


def segmentation(
    tokenizer: PreTrainedTokenizerBase, trimmed: TrimmedModel, side: Any, texts: Sequence[str]
) -> dict[str, Any]:
    """How many texts are covered, and of these segmented as before; of the others, how many are ties."""
    rows = trimmed.rows[side]
    kept = set(rows)
    before = TextEncoder(tokenizer, ENCODED[side]).encode(texts).ids  # type: ignore[arg-type]
    after = TextEncoder(trimmed.tokenizer, ENCODED[side]).encode(texts).ids  # type: ignore[arg-type]
    covered = [number for number, ids in enumerate(before) if kept.issuperset(ids)]
    pairs = [(before[number], [rows[token] for token in after[number]]) for number in covered]
    others = [pair for pair in pairs if pair[0] != pair[1]]
    return {
        "texts": len(texts),
        "covered": len(covered),
        "identical": len(pairs) - len(others),
        "ties": sum(is_tie(tokenizer, *pair) for pair in others),
    }


def is_tie(tokenizer: PreTrainedTokenizerBase, one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether a Unigram model gives two paths one score, up to the rounding of its sums in float32."""
    if not isinstance(tokenizer, T5Tokenizer):
        return False
    vocab = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["vocab"]
    scores = [sum(vocab[token][1] for token in ids) for ids in (one, other)]
    return abs(scores[0] - scores[1]) <= 1e-6 * abs(scores[0])


@torch.no_grad()
def outputs(model: PreTrainedModel, trimmed: TrimmedModel, texts: Sequence[str]) -> dict[str, Any]:
    """How many greedy outputs are those of the whole model with the removed tokens suppressed, on the same sources."""
    settings = {"num_beams": 1, "do_sample": False, "max_length": 80}
    rows = {side: torch.tensor(list(trimmed.rows[side])) for side in SIDES}
    removed = sorted(set(range(len(model.get_output_embeddings().weight))) - set(trimmed.rows["target"]))
    equal = 0
    for text in texts:
        ids = trimmed.tokenizer(text, return_tensors="pt")["input_ids"]
        expected = model.generate(rows["source"][ids], suppress_tokens=removed or None, **settings)  # type: ignore
        equal += int(rows["target"][trimmed.model.generate(ids, **settings)].equal(expected))  # type: ignore
    return {"outputs": len(texts), "equal_outputs": equal}


if __name__ == "__main__":
    main()
