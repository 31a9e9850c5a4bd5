"""The student of a run: cut from its teacher, loaded, or made with fresh weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.data.length_batches import batches_by_length, lengths
from seq2seq_distill.models import architectures
from seq2seq_distill.models.freezing import freeze_parts
from seq2seq_distill.models.fresh import fresh_student
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.shrink.depth import rebuild_settings
from seq2seq_distill.shrink.student import cut_student
from seq2seq_distill.training.device import device_of_run
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.locks import wait_until

CALIBRATION_TOKENS = 4096
"""Source tokens of a batch of calibration data, padding counted."""


def student_path(config: RunConfig) -> str | None:
    """Folder or hub id of the model that the student starts from, if there is one."""
    return None if config.student.path is None else demo.model_source(config.student.path, "student.path")


def is_cut(config: RunConfig) -> bool:
    """Whether the student is cut from the teacher."""
    return not (config.student.path or config.student.config)


def make_student(config: RunConfig, teacher: Teacher | None, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The student before training, unless it has to be calibrated: then it is `narrow_student`."""
    if path := student_path(config):
        return load_pretrained(path)
    if config.student.config:
        return fresh_student(config.student.config, len(tokenizer), tokenizer)
    assert teacher is not None  # refused by the checks of RunConfig
    return cut_student(config.student, teacher.model)


def narrow_student(config: RunConfig, teacher: Teacher, data: EncodedSplits, folder: Path | None) -> PreTrainedModel:
    """The student that is narrower than its teacher: cut once, by process 0, and otherwise read from `folder`.

    Sums over calibration data differ in their last bits from one number of threads to another. The other processes
    wait until process 0 has saved the student, which the caller sees to: `is_saved` is false then.

    Args:
        config: the run's.
        teacher: the one to cut from.
        data: as the student reads it.
        folder: of the student before training; without one, every process cuts its own.
    """
    batches = calibration_batches(data, config.student.calibration_rows)
    key = _calibration_key(config, teacher, batches)
    if folder is not None and not is_rank_zero():
        wait_until(lambda: _saved_key(folder) == key)
    if folder is not None and _saved_key(folder) == key:
        student = load_pretrained(folder)
        rebuild_settings(student)  # what a new model does not train, a loaded one would
        return student
    teacher.to(device_of_run(config.trainer))
    student = cut_student(config.student, teacher.model, batches)
    torch.nn.Module.to(student, "cpu")
    teacher.to("cpu")
    student.config.distilled_calibration = key
    return student


def is_saved(student: PreTrainedModel, folder: Path) -> bool:
    """Whether `folder` has this narrower student."""
    return _saved_key(folder) == getattr(student.config, "distilled_calibration", None)


def calibration_batches(data: EncodedSplits, rows: int) -> list[Mapping[str, Tensor]]:
    """Training rows in batches of like length: all, or this number of them, evenly spaced."""
    total = len(data.encoded["train"])
    chosen = [index * total // rows for index in range(rows)] if rows < total else list(range(total))
    source_lengths = lengths(data.encoded["train"].select(chosen), "input_ids").tolist()
    batches = batches_by_length(source_lengths, max_tokens=CALIBRATION_TOKENS)
    return [data.collated("train", [chosen[index] for index in batch]) for batch in batches]


def freeze_student(config: RunConfig, student: PreTrainedModel, teacher: Teacher | None) -> None:
    """Freeze what the config says; by default an encoder that is the teacher's, unchanged, with the embeddings.

    What noise does to a source an encoder can only learn to undo: with noise it is trained by default.
    """
    unchanged = False
    if teacher is not None and is_cut(config):
        every_layer = range(architectures.depths(teacher.model.config)[0])
        narrower = set(getattr(student.config, "distilled_widths", {})) - {"decoder_ffn_dim"}
        copied = list(student.config.distilled_encoder_layers) == list(every_layer) and not narrower
        unchanged = copied and not config.noise.is_on
    encoder = unchanged if config.student.freeze_encoder is None else config.student.freeze_encoder
    embeddings = encoder if config.student.freeze_embeds is None else config.student.freeze_embeds
    freeze_parts(student, encoder=encoder, embeddings=embeddings)


def _calibration_key(config: RunConfig, teacher: Teacher, batches: list[Mapping[str, Tensor]]) -> str:
    """Stands for everything that decides the weights of a narrower student."""
    digest = hashlib.sha256(json.dumps(asdict(config.student), sort_keys=True).encode())
    digest.update(teacher.fingerprint().encode())
    for batch in batches:
        for name, field in sorted(batch.items()):
            if isinstance(field, Tensor):
                digest.update(f"{name} {tuple(field.shape)}".encode())
                digest.update(field.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _saved_key(folder: Path) -> Any:
    try:
        return json.loads((folder / "config.json").read_text("utf-8")).get("distilled_calibration")
    except (OSError, ValueError):
        return None
