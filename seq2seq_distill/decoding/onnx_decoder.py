"""Decode with onnxruntime on a folder that was exported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.length_batches import map_by_length
from seq2seq_distill.data.tokenization.tokenizers import pad_id
from seq2seq_distill.decoding.decoder import Hypothesis, hypothesis_of
from seq2seq_distill.decoding.loading import LoadedModel, load_exported
from seq2seq_distill.decoding.search import search
from seq2seq_distill.utils.distributed import num_local_cores
from seq2seq_distill.utils.optional import optional

CPU_TOKENS = 2048
"""Source tokens that are decoded together at most: more are no faster on a CPU."""


def onnx_files(folder: Path) -> tuple[Path, Path] | None:
    """Encoder and decoder of an exported folder; None where there are none."""
    for suffix in ("", "_quantized"):
        files = [folder / "onnx" / f"{name}{suffix}.onnx" for name in ("encoder_model", "decoder_model_merged")]
        if all(file.is_file() for file in files):
            return files[0], files[1]
    return None


class OnnxDecoder:
    """Decodes with onnxruntime on the CPU, in batches of sources of like length, the longest first.

    Args:
        folder: as `distill export` writes it.
        loaded: tokenizer, prefix, limits and generation settings instead of the folder's.
        threads: of a computation; by default one for each core of this process.
        max_tokens: source tokens of a batch, padding counted.
        batch_size: sources of a batch, instead.
    """

    name = "onnxruntime"

    def __init__(
        self,
        folder: Path,
        loaded: LoadedModel | None = None,
        *,
        threads: int | None = None,
        max_tokens: int = CPU_TOKENS,
        batch_size: int | None = None,
    ) -> None:
        runtime = optional("onnxruntime", f"`model` {folder}")
        self._loaded = loaded or load_exported(folder)
        files = onnx_files(folder)
        assert files is not None
        self.threads = threads or num_local_cores()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        # Threads that wait for work by spinning take the cores from torch, which searches between two steps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._encoder, self._decoder = (
            runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]) for file in files
        )
        limits = {"max_tokens": min(max_tokens, CPU_TOKENS)}
        self._limits = limits if batch_size is None else {"size": batch_size}
        self._collate = Collator(pad_id(self._loaded.tokenizer, self._loaded.generation))

    @property
    def resources(self) -> str:
        """As `Decoder.resources`."""
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `Decoder.encode`."""
        return self._loaded.encode(texts)

    def decode(
        self, inputs: Sequence[Sequence[int]], n_best: int = 1, *, with_scores: bool = True
    ) -> list[list[Hypothesis]]:
        """As `Decoder.decode`; scores cost nothing, and there are no log-probabilities of tokens."""
        with torch.inference_mode():
            return map_by_length(partial(self._decode, n_best=n_best), inputs, list(map(len, inputs)), **self._limits)

    def _decode(self, inputs: list[Sequence[int]], n_best: int) -> list[list[Hypothesis]]:
        batch = self._collate([{"input_ids": ids, "row": row} for row, ids in enumerate(inputs)])
        ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
        [state] = self._encoder.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": mask})
        config = self._loaded.generation
        found = search(_Steps(self._decoder, state, mask), len(inputs), config, n_best)
        tokenizer = self._loaded.tokenizer
        return [[hypothesis_of(tokenizer, best.ids, config, best.score) for best in outputs] for outputs in found]


class _Steps:
    """The decoder's session with its cache, as `Steps`.

    Args:
        session: of the decoder.
        state: of the encoder, [R, S, H].
        mask: [R, S].
    """

    def __init__(self, session: Any, state: NDArray[np.float32], mask: NDArray[np.int64]) -> None:
        self._session, self._state, self._mask = session, state, mask
        names = [(each.name, each.shape) for each in session.get_inputs() if each.name.startswith("past_key_values.")]
        self._past: dict[str, NDArray[np.float32]] = {
            name: np.zeros((len(state), shape[1], 0, shape[3]), np.float32) for name, shape in names
        }
        self._is_first = True

    def __call__(self, tokens: Tensor) -> Tensor:
        feeds = {
            "input_ids": tokens[:, None].numpy(),
            "encoder_attention_mask": self._mask,
            "encoder_hidden_states": self._state,
            "use_cache_branch": np.array([not self._is_first]),
            **self._past,
        }
        # Of the source, keys and values are there since the first step.
        names = [name for name in self._past if self._is_first or ".decoder." in name]
        wanted = ["logits", *(name.replace("past_key_values", "present") for name in names)]
        logits, *present = self._session.run(wanted, feeds)
        self._past.update(zip(names, present, strict=True))
        if self._is_first:
            self._is_first, self._state = False, self._state[:1, :1]  # asked for, and not read any more
        return torch.from_numpy(logits[:, -1])

    def keep(self, rows: Tensor) -> None:
        """As `Steps.keep`."""
        index = rows.numpy()
        self._mask = self._mask[index]
        self._past = {name: values[index] for name, values in self._past.items()}

    def reorder(self, rows: Tensor) -> None:
        """As `Steps.reorder`: the source's keys and values stay."""
        index = rows.numpy()
        if (index != np.arange(len(index))).any():
            self._past |= {name: values[index] for name, values in self._past.items() if ".decoder." in name}
