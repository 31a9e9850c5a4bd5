"""Folders of `distill export`, whatever their format."""

from __future__ import annotations

from pathlib import Path

import torch

from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import Decoder
from seq2seq_distill.decoding.likelihood import MAX_TOKENS
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.onnx_decoder import OnnxDecoder, onnx_files
from seq2seq_distill.decoding.shortlist.vmap import VMAP
from seq2seq_distill.utils.distributed import CPU
from seq2seq_distill.utils.optional import optional

CTRANSLATE2_MODEL = "model.bin"


def engine_of(folder: Path) -> str | None:
    """The engine that decodes with the weights of a folder: ctranslate2 or onnxruntime; None for any other folder."""
    if (folder / CTRANSLATE2_MODEL).is_file():
        return "ctranslate2"
    return "onnxruntime" if onnx_files(folder) else None


def decoding_files(folder: Path) -> list[Path]:
    """The files of an exported model that its outputs depend on: the weights, and a shortlist."""
    shortlist = folder / VMAP
    return [*(onnx_files(folder) or [folder / CTRANSLATE2_MODEL]), *([shortlist] if shortlist.is_file() else [])]


def open_exported(
    folder: Path,
    loaded: LoadedModel,
    field: str = "model",
    *,
    max_tokens: int = MAX_TOKENS,
    batch_size: int | None = None,
    device: torch.device = CPU,
) -> Decoder:
    """The decoder of an exported model.

    Args:
        folder: of `distill export`.
        loaded: tokenizer, prefix, limits and generation settings.
        field: the option that names the folder.
        max_tokens: source tokens of a batch at most, padding counted.
        batch_size: sources of a batch, instead.
        device: of the computation; onnxruntime computes on the CPU.

    Raises:
        ConfigError: the engine is not installed.
    """
    engine = engine_of(folder)
    optional(str(engine), f"`{field}` {folder}")
    if engine == "onnxruntime":
        return OnnxDecoder(folder, loaded, max_tokens=max_tokens, batch_size=batch_size)
    return CTranslate2Decoder(folder, loaded, max_tokens=max_tokens, batch_size=batch_size, device=device)
