"""What decodes texts: transformers, or CTranslate2 on a folder that was exported."""

import copy
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.generation import decoding
from seq2seq_distill.optional import optional

MAX_TOKENS = 4096
"""Source tokens decoded at once, padding counted, by default."""


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
        config: as `generation_config` gives it: searches by beams or greedily.
        pad_token_id: fills sources up.
        max_tokens: source tokens of a batch, padding counted.
    """

    def __init__(
        self, model: PreTrainedModel, config: GenerationConfig, pad_token_id: int, max_tokens: int = MAX_TOKENS
    ) -> None:
        self.model, self.config, self.pad, self.max_tokens = model, config, pad_token_id, max_tokens

    def decode(self, sources: Sequence[Sequence[int]], n_best: int = 1) -> list[list[Hypothesis]]:
        """As `Engine.decode`, in batches of sources of like length."""
        found: list[list[Hypothesis]] = [[] for _ in sources]
        with decoding(self.model):
            for rows in batches_by_length([len(source) for source in sources], self.max_tokens):
                for row, hypotheses in zip(rows, self._batch([sources[row] for row in rows], n_best), strict=True):
                    found[row] = hypotheses
        return found

    def _batch(self, sources: list[Sequence[int]], n_best: int) -> list[list[Hypothesis]]:
        width = max(map(len, sources))
        ids = torch.tensor([[*source, *[self.pad] * (width - len(source))] for source in sources])
        mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
        device = self.model.device
        config = copy.deepcopy(self.config)
        config.num_return_sequences, config.return_dict_in_generate, config.output_scores = n_best, True, True
        output = self.model.generate(  # type: ignore[operator]
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
        )
        scores = self._scores(output)
        hypotheses = [
            Hypothesis(self._trim(own), score)
            for own, score in zip(output.sequences[:, 1:].tolist(), scores.tolist(), strict=True)
        ]
        return [hypotheses[start : start + n_best] for start in range(0, len(hypotheses), n_best)]

    def _scores(self, output: Any) -> torch.Tensor:
        if self.config.num_beams > 1:
            scores: torch.Tensor = output.sequences_scores
            return scores
        steps = self.model.compute_transition_scores(  # type: ignore[operator]
            output.sequences, output.scores, normalize_logits=True
        )
        chosen = output.sequences[:, 1:] != self.config.pad_token_id
        lengths = chosen.sum(1).clamp(min=1)
        return steps.masked_fill(~chosen, 0).sum(1) / lengths ** (self.config.length_penalty or 1.0)

    def _trim(self, ids: list[int]) -> tuple[int, ...]:
        ends = self.config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        stop = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        return tuple(token for token in ids[:stop] if token != self.config.pad_token_id)


class CTranslate2Engine:
    """Decodes with CTranslate2.

    Args:
        folder: as `distill export` writes it: with tokenizer and generation settings beside the model.
        config: generation settings instead of the folder's.
        threads: (sources decoded side by side, threads for each); by default whichever is faster on this machine.
        compute_type: precision of the computation; "default" is that of the weights.
        device: cpu or cuda.
        batch_size: sources decoded together at most, instead of `MAX_TOKENS` of their tokens.
    """

    def __init__(
        self,
        folder: Path,
        config: GenerationConfig | None = None,
        threads: tuple[int, int] | None = None,
        compute_type: str = "default",
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> None:
        self.folder = folder
        self.config = config or GenerationConfig.from_pretrained(folder)
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        self.compute_type = compute_type
        self.threads = threads
        self.device = device
        self.batch = ("tokens", MAX_TOKENS) if batch_size is None else ("examples", batch_size)
        self._translator: Any = None

    def decode(self, sources: Sequence[Sequence[int]], n_best: int = 1) -> list[list[Hypothesis]]:
        """As `Engine.decode`."""
        if self._translator is None:
            self.threads = self.threads or self._fastest(sources[:64])
            self._translator = self._open(self.threads)
        return self._decode(self._translator, sources, n_best)

    def _open(self, threads: tuple[int, int]) -> Any:
        ctranslate2 = optional("ctranslate2", f"--model {self.folder}")
        inter, intra = threads
        return ctranslate2.Translator(
            str(self.folder),
            device=self.device,
            inter_threads=inter,
            intra_threads=intra,
            compute_type=self.compute_type,
        )

    def _fastest(self, sources: Sequence[Sequence[int]]) -> tuple[int, int]:
        cores = len(os.sched_getaffinity(0))
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
            # Searching on until nothing better can come is early_stopping False; two rounds of beams nearly always do.
            patience=1 if config.early_stopping is True else 2,
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


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of batches of like length, the longest first, of at most `max_tokens` with their padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
