"""Decode with CTranslate2 on a folder that was exported."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from seq2seq_distill.decoding.conversion import saved_vocabularies
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.decoding.generation import text_of
from seq2seq_distill.decoding.likelihood import MAX_TOKENS
from seq2seq_distill.decoding.loading import LoadedModel, load_exported
from seq2seq_distill.decoding.shortlist.vmap import VMAP, check_settings
from seq2seq_distill.utils.distributed import CPU, num_local_cores
from seq2seq_distill.utils.optional import optional

PATIENCE = 1.5
"""Of CTranslate2's beams, times their number: 99.4% of 500 outputs were those of 2, in 7% less time."""
CPU_TOKENS = 512
"""Source tokens that CTranslate2 decodes together on a CPU at most: more are slower, and share threads badly."""
TRIAL = 64
"""Sources on which ways of sharing the cores are compared."""


class CTranslate2Decoder:
    """Decodes with CTranslate2.

    Args:
        folder: as `distill export` writes it: with tokenizer and generation settings beside the model.
        loaded: tokenizer, prefix, limits and generation settings instead of the folder's.
        threads: (sources decoded side by side, threads for each); by default whichever is faster on this machine.
        compute_type: precision of the computation; "default" is that of the weights.
        max_tokens: source tokens of a batch, padding counted.
        batch_size: sources of a batch at most, instead.
        device: of the computation; a GPU decodes one batch after the other.
        shortlist: whether to choose among the candidates of the folder's shortlist; by default if it has one.

    Raises:
        ConfigError: the generation settings do not go together with the shortlist.
    """

    name = "ctranslate2"

    def __init__(
        self,
        folder: Path,
        loaded: LoadedModel | None = None,
        *,
        threads: tuple[int, int] | None = None,
        compute_type: str = "default",
        max_tokens: int = MAX_TOKENS,
        batch_size: int | None = None,
        device: torch.device = CPU,
        shortlist: bool | None = None,
    ) -> None:
        self.folder = folder
        self.loaded = loaded or load_exported(folder)
        self.compute_type = compute_type
        self.threads = threads if device.type == "cpu" else (1, 1)
        largest = min(max_tokens, CPU_TOKENS) if device.type == "cpu" else max_tokens
        self._batch = ("tokens", largest) if batch_size is None else ("examples", batch_size)
        self.device = device
        self.shortlist = (folder / VMAP).is_file() if shortlist is None else shortlist
        if self.shortlist:
            check_settings(self.loaded.generation, f"the shortlist of {folder}", "export the model without it")
        self.translator: Any = None
        """CTranslate2's, once something was decoded."""

    @property
    def resources(self) -> str:
        """As `Decoder.resources`; the threads are known once something was decoded."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        side_by_side, threads = self.threads or (1, 1)
        return f"{side_by_side} x {threads} threads"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """As `Decoder.encode`."""
        return self.loaded.encode(texts)

    def decode(
        self, inputs: Sequence[Sequence[int]], n_best: int = 1, *, with_scores: bool = True
    ) -> list[list[Hypothesis]]:
        """As `Decoder.decode`; scores cost nothing, and there are no log-probabilities of tokens."""
        with _torch_threads_kept():
            if self.translator is None:
                self.threads = self.choose_threads(inputs)
                self.translator = self._open(self.threads)
            return self._decode(self.translator, inputs, n_best)

    def choose_threads(self, inputs: Sequence[Sequence[int]], cores: int | None = None) -> tuple[int, int]:
        """The threads, measured on some inputs where they are not given; `cores` are by default this process's."""
        if self.threads is not None:
            return self.threads
        inputs = inputs[:TRIAL]
        cores = cores or num_local_cores()
        seconds = {}
        with _torch_threads_kept():
            for threads in dict.fromkeys([(cores, 1), (1, cores)]):
                translator = self._open(threads)
                self._decode(translator, inputs[:8], 1)
                start = time.perf_counter()
                self._decode(translator, inputs, 1)
                seconds[threads] = time.perf_counter() - start
                del translator  # before the next is opened: the model need not be in memory twice
        return min(seconds, key=seconds.__getitem__)

    def _open(self, threads: tuple[int, int]) -> Any:
        ctranslate2 = optional("ctranslate2", f"`model` {self.folder}")
        inter, intra = threads
        return ctranslate2.Translator(
            str(self.folder),
            device=self.device.type,
            device_index=self.device.index or 0,
            inter_threads=inter,
            intra_threads=intra,
            compute_type=self.compute_type,
        )

    def _decode(self, translator: Any, inputs: Sequence[Sequence[int]], n_best: int) -> list[list[Hypothesis]]:
        config, (sources, targets) = self.loaded.generation, self.vocabularies
        first = config.forced_bos_token_id
        results = translator.translate_batch(
            [[sources[token] for token in ids] for ids in inputs],
            target_prefix=None if first is None else [[targets[first]]] * len(inputs),
            beam_size=config.num_beams or 1,
            num_hypotheses=n_best,
            # Searching on until nothing better can come is early_stopping False; this many rounds nearly always do.
            patience=1 if config.early_stopping is True else PATIENCE,
            length_penalty=1.0 if config.length_penalty is None else config.length_penalty,
            no_repeat_ngram_size=config.no_repeat_ngram_size or 0,
            repetition_penalty=config.repetition_penalty or 1.0,
            max_decoding_length=self.max_length,
            min_decoding_length=max(0, (config.min_length or 0) - 1),
            suppress_sequences=self._suppressed or None,
            max_input_length=0,
            batch_type=self._batch[0],
            max_batch_size=self._batch[1],
            return_scores=True,
            use_vmap=self.shortlist,
            asynchronous=True,
        )
        hypotheses: list[list[Hypothesis]] = [[]] * len(inputs)
        for row in sorted(range(len(inputs)), key=lambda row: -len(inputs[row])):  # as CTranslate2 takes them up
            result = results[row].result()
            hypotheses[row] = list(map(self._hypothesis, result.hypotheses, result.scores))
        return hypotheses

    @cached_property
    def vocabularies(self) -> tuple[list[str], list[str]]:
        """The tokens of sources and of targets, by id."""
        return saved_vocabularies(self.folder)

    @cached_property
    def _target_ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.vocabularies[1])}

    @cached_property
    def _suppressed(self) -> list[list[str]]:
        """Sequences of target tokens that must not be written."""
        config, tokens = self.loaded.generation, self.vocabularies[1]
        sequences = [[token] for token in config.suppress_tokens or ()] + list(config.bad_words_ids or ())
        return [[tokens[token] for token in ids] for ids in sequences if ids != [config.pad_token_id]]

    @property
    def max_length(self) -> int:
        """Most tokens that the model chooses: where transformers forces the end at the limit, one less."""
        config = self.loaded.generation
        return int(config.max_length) - 1 - (config.forced_eos_token_id is not None)

    def _hypothesis(self, tokens: list[str], score: float) -> Hypothesis:
        config, tokenizer = self.loaded.generation, self.loaded.tokenizer
        ids = [self._target_ids[token] for token in tokens]
        at_limit = len(ids) >= self.max_length
        has_end = config.forced_eos_token_id is not None or not at_limit
        return Hypothesis(
            text=text_of(tokenizer, ids),
            ids=tuple(ids),
            num_tokens=len(ids) - (config.forced_bos_token_id is not None) + has_end,
            at_limit=at_limit,
            score=score,
        )


@contextmanager
def _torch_threads_kept() -> Iterator[None]:
    """CTranslate2 sets the number of OpenMP's threads in this process, which is torch's too."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
