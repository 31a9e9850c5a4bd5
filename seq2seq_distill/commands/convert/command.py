"""`distill convert`: a Lightning checkpoint, or a folder, into a Hugging Face folder of the wanted precision."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seq2seq_distill.commands.convert.options import ConvertConfig
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_of
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.training.output_folder import check_free, save_model
from seq2seq_distill.utils.errors import ModelError
from seq2seq_distill.utils.files import hash_file, is_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

STUDENT_PREFIX = "student."
"""Of the student's weights among those of the Lightning module."""


def convert(config: ConvertConfig) -> None:
    """Save the model of a checkpoint with its tokenizer, in Hugging Face format.

    Raises:
        ModelError: the checkpoint is missing, damaged, or not one of a run.
    """
    target = check_free(config.folder)
    model, folder = load_checkpoint(Path(config.checkpoint).expanduser(), "checkpoint")
    model = model.to(getattr(torch, config.dtype))
    save_model(target, model, tokenizer_of(folder, "checkpoint"))
    logger.info("saved %s to %s", config.checkpoint, config.folder)


def load_checkpoint(path: Path, field: str) -> tuple[PreTrainedModel, Path]:
    """The model of a Lightning checkpoint of a run, or of a Hugging Face folder; and the folder of its tokenizer."""
    if path.is_dir():
        return load_pretrained(str(path), field=field), path
    if not path.is_file():
        raise ModelError(f"`{field}` {path}: no such checkpoint or folder; check the path")
    start = path.parent.parent / "student_init"
    if not start.is_dir():
        raise ModelError(
            f"`{field}` {path}: {start}, which has the model's config, is missing: keep the run's folder whole"
        )
    if hash_file(path).exists() and not is_whole(path):
        raise ModelError(f"`{field}` {path} is damaged (its SHA-256 differs): choose another one")
    model = load_pretrained(str(start), field=field)
    try:
        model.load_state_dict(_student_weights(path), strict=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"`{field}` {path} cannot be read as a checkpoint of its run ({reason}): choose another one"
        ) from None
    return model, start


def _student_weights(path: Path) -> dict[str, Tensor]:
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {
        name.removeprefix(STUDENT_PREFIX): value for name, value in weights.items() if name.startswith(STUDENT_PREFIX)
    }
