"""What trimming a multilingual model to two languages gains: parameters, bytes, the time of a step, and the export.

    python -m benchmarks.multilingual --train_on FOLDER [FOLDER ...] --data FOLDER

Models have the shape of NLLB (BPE, 202 languages) and of mT5 (Unigram) and random weights; their tokenizers are trained
on the texts of the first folders. The vocabulary is trimmed for the texts of --data. A step is that of a student with
one decoder layer: both models' forward passes and the student's backward pass, on the whole vocabulary and on the
trimmed one in turn. Prints one JSON line for each model.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    NllbTokenizer,
    PreTrainedTokenizerBase,
    T5Tokenizer,
)

from benchmarks.timing import interleaved, ratio
from benchmarks.trial import built, distiller, steps, train_on
from benchmarks.trimming import train_sentencepiece
from seq2seq_distill.config import BatchConfig, EncodeConfig, EvalConfig, RunConfig, StudentConfig, TrimConfig
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.parity import check_parity, to_ctranslate2
from seq2seq_distill.training.trimming import REPORT

SIDES = ("source", "target")
ROWS = 64
"""Sources on which the outputs of the export are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_on", nargs="+", required=True, help="folders on which tokenizers are trained")
    parser.add_argument("--data", required=True, help="folder of the two languages")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--vocab_size", type=int, default=32000)
    parser.add_argument("--max_lines", type=int, default=120_000, help="lines that tokenizers are trained on")
    parser.add_argument("--coverage", type=float, default=0.9999)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    lines = [line for name in arguments.train_on for side in SIDES for line in load_split(name, "train")[side]]
    lines = lines[:: max(1, len(lines) // arguments.max_lines)]
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as place:
            line = compare(name, lines, arguments, Path(place))
        print(json.dumps({"benchmark": "multilingual", "model": name, **line}), flush=True)


def nllb(lines: Sequence[str], size: int, folder: Path) -> PreTrainedTokenizerBase:
    """A BPE tokenizer with all of NLLB's languages."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size - 4, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(model["vocab"], key=model["vocab"].__getitem__)]
    return NllbTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[tuple(merge) for merge in model["merges"]],  # type: ignore[misc]  # its list[str] is that of old files
        src_lang="eng_Latn",
        tgt_lang="deu_Latn",
    )


def mt5(lines: Sequence[str], size: int, folder: Path) -> PreTrainedTokenizerBase:
    """A Unigram tokenizer with mT5's sentinels."""
    train_sentencepiece(lines, size, folder / "pieces", "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    return T5Tokenizer.from_pretrained(str(folder / "pieces"), extra_ids=100)


MODELS: dict[str, tuple[str, Callable[[Sequence[str], int, Path], PreTrainedTokenizerBase]]] = {
    "NLLB": ("m2m_100", nllb),
    "mT5": ("mt5", mt5),
}


def compare(name: str, lines: Sequence[str], arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """The benchmark's JSON line for one model."""
    teacher = save_teacher(name, lines, arguments, place)
    languages = ("eng_Latn", "deu_Latn") if name == "NLLB" else (None, None)
    whole = RunConfig(
        task="translation",
        teacher=str(teacher),
        data=[arguments.data],
        src_lang=languages[0],
        tgt_lang=languages[1],
        output_dir=str(place / "run"),
        student=StudentConfig(decoder_layers=1),
        encode=EncodeConfig(max_source_length=128, max_target_length=128),
        batch=BatchConfig(size=16),
        eval=EvalConfig(n_val=200, n_test=10),
    )
    trim = TrimConfig(arguments.coverage, languages=list(languages) if languages[0] else None)
    parts = {"whole": built(whole), "trimmed": built(replace(whole, trim=trim))}
    report = json.loads((place / "run" / "trimmed" / REPORT).read_text("utf-8"))
    batches = {side: steps(each, range(2)) for side, each in parts.items()}
    modules = {side: distiller(whole, each) for side, each in parts.items()}
    sides = {side: partial(train_on, modules[side], batches[side]) for side in parts}
    seconds = interleaved(sides, arguments.rounds)
    return {
        "tokens": [report["vocabulary"][when]["target"] for when in ("before", "after")],
        "parameters": list(report["parameters"].values()),
        "bytes": list(report["bytes"].values()),
        "student_parameters": [parts[side].student.num_parameters() for side in ("whole", "trimmed")],
        "length_growth": {side: report["held_out"][side]["length_growth"] for side in SIDES},
        "whole_over_trimmed_seconds": ratio(seconds, "whole", "trimmed"),
        "equal_outputs_of_the_export": equal_outputs(parts["trimmed"]),
    }


def save_teacher(name: str, lines: Sequence[str], arguments: argparse.Namespace, place: Path) -> Path:
    """A model with random weights, and as many rows besides its tokens as fill them up to a multiple of 128."""
    model_type, train = MODELS[name]
    tokenizer = train(lines, arguments.vocab_size, place)
    width = arguments.width
    shape = {"d_model": width, "d_kv": 64, "d_ff": 4 * width, "num_heads": width // 64, "num_layers": 6}
    shape |= {f"{side}_layers": 6 for side in ("encoder", "decoder")}
    shape |= {f"{side}_attention_heads": width // 64 for side in ("encoder", "decoder")}
    shape |= {f"{side}_ffn_dim": 4 * width for side in ("encoder", "decoder")}
    shape |= {"feed_forward_proj": "gated-gelu"}
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "eos")}
    start = ids["pad_token_id" if model_type == "mt5" else "eos_token_id"]
    rows = -(-len(tokenizer) // 128) * 128
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=rows, decoder_start_token_id=start, **ids, **shape)
    model = AutoModelForSeq2SeqLM.from_config(config)
    if model_type == "mt5":  # its head is another matrix; were it the same, random weights would repeat the start token
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        model.all_tied_weights_keys.pop("lm_head.weight", None)
    model.save_pretrained(place / "teacher")
    tokenizer.save_pretrained(place / "teacher")
    return place / "teacher"


def equal_outputs(parts: Any) -> float:
    """Share of sources for which CTranslate2 gives the greedy outputs of transformers, of the untrained student."""
    settings: GenerationConfig = parts.student.generation_config
    settings.update(num_beams=1, max_length=32)
    loaded = LoadedModel(parts.student.eval(), parts.tokenizer, "", None, settings)
    sources = parts.data.encoded["val"][:ROWS]["input_ids"]
    return check_parity(
        loaded, {"greedy": settings}, sources, to_ctranslate2("ctranslate2"), "ctranslate2", "look at it"
    )["greedy"].equal


if __name__ == "__main__":
    main()
