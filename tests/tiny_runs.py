"""A whole run in miniature: a teacher folder, a data folder, and a config that ends in a few seconds."""

import random
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from seq2seq_distill.config import (
    BatchConfig,
    EncodeConfig,
    EvalConfig,
    FeatureLossConfig,
    LossConfig,
    RunConfig,
    StudentConfig,
    TaskConfig,
    TrainerConfig,
)
from seq2seq_distill.models import architectures
from tests.tiny_models import tiny_config_keys, tiny_model
from tests.tiny_tokenizers import (
    SOURCES,
    TARGETS,
    marian_tokenizer,
    mbart_tokenizer,
    nllb_tokenizer,
    plain_tokenizer,
    separate_marian_tokenizer,
)


def save_teacher(folder: Path, model_type: str = "marian", **overrides: Any) -> Path:
    """A tiny teacher with a tokenizer that fits it, in Hugging Face format; `overrides` as in `tiny_model`.

    Two encoder and two decoder layers. Marian, mBART and M2M100 (as NLLB) have tokenizers of their own, the others
    one of whole words.
    """
    tokenizer: PreTrainedTokenizerBase
    match model_type:
        case "marian":
            tokenizer = marian_tokenizer(folder / "pieces")
        case "mbart":
            tokenizer = mbart_tokenizer()
        case "m2m_100":
            tokenizer = nllb_tokenizer()
        case _:
            tokenizer = plain_tokenizer()
    model = tiny_model(model_type, **{**_vocabulary(model_type, tokenizer), **overrides})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_marian_with_own_sources(folder: Path, source_pieces: int, **overrides: Any) -> Path:
    """A tiny Marian teacher or student, whose tokenizer has so many source pieces, and always the same targets'."""
    tokenizer = separate_marian_tokenizer(folder / "pieces", source_pieces)
    sizes = {"vocab_size": len(tokenizer.encoder), "decoder_vocab_size": len(tokenizer.target_encoder)}
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "decoder_start_token_id"), tokenizer.pad_token_id)
    model = tiny_model("marian", **sizes, **ids, share_encoder_decoder_embeddings=False, **overrides)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_data(folder: Path, rows: int = 24, seed: int = 0) -> Path:
    """A folder of {train,val,test}.{source,target}: word salad of unequal lengths, a quarter of it in val and test."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    for split, count in (("train", rows), ("val", max(2, rows // 4)), ("test", max(2, rows // 4))):
        for side, texts, longest in (("source", SOURCES, 9), ("target", TARGETS, 7)):
            words = " ".join(texts).split()
            lines = [" ".join(chance.choices(words, k=chance.randint(2, longest))) for _ in range(count)]
            (folder / f"{split}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def config(tmp_path: Path, model_type: str = "marian", **changes: Any) -> RunConfig:
    """A run of four optimiser steps, from `tmp_path/teacher` and `tmp_path/data`, which are made if they are not there.

    Nothing in it depends on a measured time or entropy: targets, temperature and weights are given.

    `changes` are fields of RunConfig; a group takes a dict: `config(tmp_path, method="sft", trainer={"max_steps": 2})`,
    and so does each of the matches and of the tasks.
    """
    for name, kind in (("matches", FeatureLossConfig), ("tasks", TaskConfig)):
        changes[name] = [kind(**entry) for entry in changes.get(name, [])]
    teacher, data = tmp_path / "teacher", tmp_path / "data"
    if not teacher.exists():
        save_teacher(teacher, model_type)
    if not data.exists():
        write_data(data)
    run = RunConfig(
        task="translation",
        teacher=str(teacher),
        data=None if changes["tasks"] else [str(data)],
        src_lang={"m2m_100": "eng_Latn", "mbart": "en_XX"}.get(model_type, "en"),
        tgt_lang={"m2m_100": "deu_Latn", "mbart": "de_DE"}.get(model_type, "de"),
        output_dir=str(tmp_path / "run"),
        targets="reference",
        logger=[],
        loss=LossConfig(alpha_ce=0.8, alpha_mlm=0.2, temperature=2.0),
        student=StudentConfig(decoder_layers=1),
        encode=EncodeConfig(max_source_length=40, max_target_length=24),
        batch=BatchConfig(size=8),
        eval=EvalConfig(beams=1, max_target_length=6, batch_size=8, n_speed=2),
        trainer=TrainerConfig(
            accelerator="cpu", devices=1, max_steps=4, val_check_interval=2, enable_progress_bar=False
        ),
    )
    groups = {field.name for field in fields(run) if is_dataclass(getattr(run, field.name))}
    return replace(
        run,
        **{
            name: replace(getattr(run, name), **value) if name in groups and isinstance(value, dict) else value
            for name, value in changes.items()
        },
    )


def _vocabulary(model_type: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Config keys that fit a model to a tokenizer."""
    family = architectures.ARCHITECTURES[model_type]
    size, pad, eos = len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": pad}
    if family.nested:
        sides = tiny_config_keys(model_type)
        return {side: {**sides[side], **ids, "vocab_size": size} for side in ("encoder", "decoder")}
    start = pad if family.start == "pad" else eos
    return {**ids, "decoder_start_token_id": start, **dict.fromkeys(family.vocab, size)}
