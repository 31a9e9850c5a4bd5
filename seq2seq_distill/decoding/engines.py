"""What decodes texts: transformers, or CTranslate2 on a folder that was exported."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.encoding import Collator
from seq2seq_distill.decoding.generation import decoding, generate_batch, to_device
from seq2seq_distill.decoding.likelihood import MAX_TOKENS, batches_by_length, log_probabilities
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.distributed import CPU, num_local_cores
from seq2seq_distill.utils.errors import ModelError
from seq2seq_distill.utils.optional import optional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PATIENCE = 1.5
"""Of CTranslate2's beams, times their number: 99.4% of 500 outputs were those of 2, in 7% less time."""
CPU_TOKENS = 512
"""Source tokens that CTranslate2 decodes together on a CPU at most: more are slower, and share threads badly."""

CTRANSLATE2_OPTIONS = ("early_stopping", "min_length", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty")
"""Options of `generate`, besides those with a flag of their own, that CTranslate2 decodes with too."""


@dataclass(frozen=True)
class Hypothesis:
    """One output for a source."""

    ids: tuple[int, ...]
    """Without decoder start, end of sentence and padding; a forced first token is in it."""
    score: float
    """Sum of the tokens' log-probabilities, the end's too, by (their number ** length penalty)."""


class Engine(Protocol):
    """Something that decodes."""

    def decode(self, sources: Sequence[Sequence[int]], n_best: int = 1) -> list[list[Hypothesis]]:
        """The best outputs of each source (token ids, special tokens included), the best first."""


class TransformersEngine:
    """Decodes with `generate`.

    Args:
        model: on the device where it is to run.
        config: as `generation_config` gives it: searches by beams or greedily, or draws.
        pad_token_id: fills sources up.
        max_tokens: source tokens of a batch, padding counted.
    """

    def __init__(
        self, model: PreTrainedModel, config: GenerationConfig, pad_token_id: int, max_tokens: int = MAX_TOKENS
    ) -> None:
        self.model, self.config, self.max_tokens = model, config, max_tokens
        self._collate = Collator(pad_token_id, architectures.extra_inputs(model.config))

    def decode(self, sources: Sequence[Sequence[int]], n_best: int = 1) -> list[list[Hypothesis]]:
        """As `Engine.decode`, in batches of sources of like length; of outputs that were drawn, in no order."""
        found: list[list[Hypothesis]] = [[] for _ in sources]
        with decoding(self.model):
            for rows in batches_by_length([len(source) for source in sources], self.max_tokens):
                for row, hypotheses in zip(rows, self._batch([sources[row] for row in rows], n_best), strict=True):
                    found[row] = hypotheses
        return found

    def _batch(self, sources: list[Sequence[int]], n_best: int) -> list[list[Hypothesis]]:
        batch = self._collate([{"input_ids": source, "row": row} for row, source in enumerate(sources)])
        batch = to_device(batch, self.model.device)
        config = copy.deepcopy(self.config)
        config.num_return_sequences = n_best
        outputs = generate_batch(self.model, batch, config)
        hypotheses = list(map(self._hypothesis, outputs, self._log_probabilities(batch, outputs, n_best)))
        return [hypotheses[start : start + n_best] for start in range(0, len(hypotheses), n_best)]

    def _log_probabilities(self, batch: Mapping[str, Tensor], outputs: list[list[int]], n_best: int) -> list[float]:
        """By one more pass: `generate` would have to keep the logits of every step for it."""
        rows = [{"input_ids": [], "labels": ids, "row": row} for row, ids in enumerate(outputs)]
        labels = self._collate(rows)["labels"].to(self.model.device)
        first = labels.new_full((len(labels), 1), self._start)
        inputs = torch.cat([first, labels[:, :-1]], 1)
        inputs = inputs.masked_fill(inputs == IGNORE_INDEX, self._start)
        if self.config.forced_bos_token_id is not None:
            labels = labels.clone()
            labels[:, 0] = IGNORE_INDEX
        state = forward.encode(self.model, batch).repeat_interleave(n_best, 0)
        mask = batch["attention_mask"].repeat_interleave(n_best, 0)
        return log_probabilities(self.model, mask, state, inputs, labels)

    @property
    def _start(self) -> int:
        start = self.config.decoder_start_token_id
        return int(self.config.bos_token_id if start is None else start)

    def _hypothesis(self, output: list[int], log_probability: float) -> Hypothesis:
        ends = self.config.eos_token_id
        whole = bool(output) and output[-1] in (ends if isinstance(ends, list) else [ends])
        ids = output[:-1] if whole else output
        penalty = 1.0 if self.config.length_penalty is None else self.config.length_penalty
        return Hypothesis(
            tuple(token for token in ids if token != self._collate.pad_token_id),
            log_probability / max(1, len(output)) ** penalty,
        )


def unknown_to_ctranslate2(options: Mapping[str, Any], own: GenerationConfig | None = None) -> list[str]:
    """Names of the options of `generate` that CTranslate2 does not have.

    Args:
        options: by name.
        own: of an exported model. What it says already was there when outputs were compared, and is no wish to refuse.
    """
    wishes = {name for name, value in options.items() if own is None or getattr(own, name, None) != value}
    return sorted(wishes.difference(CTRANSLATE2_OPTIONS))


def check_exported_options(given: str, options: Mapping[str, Any], own: GenerationConfig) -> None:
    """Raise ModelError, opened with `given` (a flag and its value), for options that an exported model cannot take."""
    if unknown := unknown_to_ctranslate2(options, own):
        raise ModelError(
            f"{given} is an exported model, and CTranslate2 has no {', '.join(unknown)} of `generate`: "
            "leave it out, or give the original model"
        )


class CTranslate2Engine:
    """Decodes with CTranslate2.

    Args:
        folder: as `distill export` writes it: with tokenizer and generation settings beside the model.
        config: generation settings instead of the folder's.
        threads: (sources decoded side by side, threads for each); by default whichever is faster on this machine.
        compute_type: precision of the computation; "default" is that of the weights.
        max_tokens: source tokens of a batch, padding counted.
        batch_size: sources of a batch at most, instead.
        device: of the computation; a GPU decodes one batch after the other.
    """

    def __init__(
        self,
        folder: Path,
        config: GenerationConfig | None = None,
        threads: tuple[int, int] | None = None,
        compute_type: str = "default",
        max_tokens: int = MAX_TOKENS,
        batch_size: int | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.folder = folder
        self.config = config or GenerationConfig.from_pretrained(folder)
        self.tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(folder)
        self.compute_type = compute_type
        self.threads = threads if device.type == "cpu" else (1, 1)
        largest = min(max_tokens, CPU_TOKENS) if device.type == "cpu" else max_tokens
        self.batch = ("tokens", largest) if batch_size is None else ("examples", batch_size)
        self.device = device
        self._translator: Any = None

    def decode(self, sources: Sequence[Sequence[int]], n_best: int = 1) -> list[list[Hypothesis]]:
        """As `Engine.decode`."""
        if self._translator is None:
            self.threads = self.choose_threads(sources)
            self._translator = self._open(self.threads)
        return self._decode(self._translator, sources, n_best)

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

    def choose_threads(self, sources: Sequence[Sequence[int]]) -> tuple[int, int]:
        """The threads, measured on some sources where they are not given."""
        if self.threads is not None:
            return self.threads
        sources = sources[:64]
        cores = num_local_cores()
        seconds = {}
        for threads in dict.fromkeys([(cores, 1), (1, cores)]):
            translator = self._open(threads)
            self._decode(translator, sources[:8], 1)
            start = time.perf_counter()
            self._decode(translator, sources, 1)
            seconds[threads] = time.perf_counter() - start
            del translator  # before the next is opened: the model need not be in memory twice
        return min(seconds, key=seconds.__getitem__)

    def _decode(self, translator: Any, sources: Sequence[Sequence[int]], n_best: int) -> list[list[Hypothesis]]:
        config, to_tokens = self.config, self.tokenizer.convert_ids_to_tokens
        first = config.forced_bos_token_id
        results = translator.translate_batch(
            [to_tokens(list(source)) for source in sources],
            target_prefix=None if first is None else [[to_tokens(first)]] * len(sources),
            beam_size=config.num_beams or 1,
            num_hypotheses=n_best,
            # Searching on until nothing better can come is early_stopping False; this many rounds nearly always do.
            patience=1 if config.early_stopping is True else PATIENCE,
            length_penalty=1.0 if config.length_penalty is None else config.length_penalty,
            no_repeat_ngram_size=config.no_repeat_ngram_size or 0,
            repetition_penalty=config.repetition_penalty or 1.0,
            # Where transformers forces the end at the limit, one token less is the model's own.
            max_decoding_length=config.max_length - 1 - (config.forced_eos_token_id is not None),
            min_decoding_length=max(0, (config.min_length or 0) - 1),
            max_input_length=0,
            batch_type=self.batch[0],
            max_batch_size=self.batch[1],
            return_scores=True,
        )
        return [
            [
                Hypothesis(tuple(self._ids(tokens)), score)
                for tokens, score in zip(own.hypotheses, own.scores, strict=True)
            ]
            for own in results
        ]

    def _ids(self, tokens: list[str]) -> list[int]:
        ids: Any = self.tokenizer.convert_tokens_to_ids(tokens)
        return list(ids)
