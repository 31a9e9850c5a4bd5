"""Greedy and beam search over any model that gives logits step by step, equal to those of transformers' `generate`.

A row leaves the batch once nothing can change its outputs, which changes no output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import LongTensor, Tensor
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import logits_process as processors

NEVER = -1e9
"""Score of what must not be chosen."""


class Steps(Protocol):
    """A decoder with a cache, one row for each output that is being written."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Feed the last token of each row, [R]; the logits of the next, [R, V], in float32."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; a row may come several times."""

    def reorder(self, rows: Tensor) -> None:
        """As `keep`, where each row is replaced by one of the same source."""


@dataclass(frozen=True)
class Found:
    """An output."""

    ids: list[int]
    """The end of sentence kept, the start left out."""
    score: float
    """Sum of the log-probabilities by (number of tokens ** length penalty)."""


def logits_processors(config: GenerationConfig) -> LogitsProcessorList:
    """What changes logits before a token is chosen, in the order of transformers."""
    ends = _ends(config)
    made = LogitsProcessorList()
    if config.repetition_penalty not in (None, 1.0):
        made.append(processors.RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        made.append(processors.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.bad_words_ids:
        made.append(processors.NoBadWordsLogitsProcessor(config.bad_words_ids, torch.tensor(ends) if ends else None))
    if config.min_length and ends:
        made.append(processors.MinLengthLogitsProcessor(config.min_length, torch.tensor(ends)))
    if config.forced_bos_token_id is not None:
        made.append(processors.ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        made.append(processors.ForcedEOSTokenLogitsProcessor(config.max_length, config.forced_eos_token_id))
    if config.suppress_tokens:
        made.append(processors.SuppressTokensLogitsProcessor(config.suppress_tokens))
    return made


def _ends(config: GenerationConfig) -> list[int]:
    ends = config.eos_token_id
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]


def _long(ids: Tensor) -> LongTensor:
    return ids  # type: ignore[return-value]


def _start(config: GenerationConfig) -> int:
    start = config.decoder_start_token_id
    return int(config.bos_token_id if start is None else start)


def search(steps: Steps, rows: int, config: GenerationConfig, n_best: int = 1) -> list[list[Found]]:
    """The best outputs of each source, the best first.

    Args:
        steps: with a row for each source.
        rows: number of sources.
        config: of beams, lengths, penalties, and what must or must not be written.
        n_best: outputs for each source; as many beams are needed.
    """
    if (config.num_beams or 1) == 1:
        return _greedy(steps, rows, config)
    return _Beams(steps, rows, config).run(n_best)


def _greedy(steps: Steps, rows: int, config: GenerationConfig) -> list[list[Found]]:
    process, ends = logits_processors(config), torch.tensor(_ends(config))
    written = torch.full((rows, 1), _start(config))
    scores, alive = torch.zeros(rows), torch.arange(rows)
    outputs: dict[int, list[Found]] = {}
    penalty = 1.0 if config.length_penalty is None else config.length_penalty
    while len(alive):
        logits = steps(written[:, -1])
        chosen = process(_long(written), logits.clone()).argmax(-1)
        if written.shape[1] > 1 or config.forced_bos_token_id is None:  # a forced token is not the model's choice
            scores = scores + logits.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
        written = torch.cat([written, chosen[:, None]], 1)
        is_done = torch.isin(chosen, ends) | (written.shape[1] >= config.max_length)
        for row in is_done.nonzero()[:, 0].tolist():
            ids = written[row, 1:].tolist()
            outputs[int(alive[row])] = [Found(ids, float(scores[row]) / len(ids) ** penalty)]
        if is_done.any():
            kept = (~is_done).nonzero()[:, 0]
            written, scores, alive = written[kept], scores[kept], alive[kept]
            steps.keep(kept)
    return [outputs[row] for row in range(rows)]


class _Beams:
    """Beam search. B sources, K beams, L the longest output with its start.

    What is written so far is `running` [B, K, L]; finished outputs are `outputs` [B, K, L], the best first.
    """

    def __init__(self, steps: Steps, rows: int, config: GenerationConfig) -> None:
        self.steps, self.config, self.rows = steps, config, rows
        self.beams, self.longest = int(config.num_beams), int(config.max_length)
        self.penalty = 1.0 if config.length_penalty is None else config.length_penalty
        self.process, self.ends = logits_processors(config), torch.tensor(_ends(config))
        size = rows, self.beams
        self.running = torch.full((*size, self.longest), _start(config))
        self.scores = torch.zeros(size)
        self.scores[:, 1:] = NEVER  # all beams begin alike: one is enough
        self.outputs, self.output_scores = self.running.clone(), torch.full(size, NEVER)
        self.lengths = torch.zeros(size, dtype=torch.int64)
        self.is_finished = torch.zeros(size, dtype=torch.bool)
        self.alive = torch.arange(rows)

    def run(self, n_best: int) -> list[list[Found]]:
        """The outputs of each source."""
        found: dict[int, list[Found]] = {}
        for length in range(1, self.longest):
            is_open = self._step(length)
            if not is_open.all():
                for row in (~is_open).nonzero()[:, 0].tolist():
                    found[int(self.alive[row])] = self._found(row, n_best)
                self._drop(is_open)
            if not len(self.alive):
                break
        return [found[row] for row in range(self.rows)]

    def _step(self, length: int) -> Tensor:
        """Write one more token, as the `length`-th after the start; which sources are not done, [B]."""
        is_first, rows = length == 1, len(self.alive)
        total = self._totals(length, is_first)
        vocabulary = total.shape[1] // self.beams
        # With an end each, there are still as many candidates left as beams.
        top, places = total.topk(max(2, 1 + len(self.ends)) * self.beams)
        beams, tokens = places // vocabulary, places % vocabulary
        candidates = self.running.gather(1, beams[:, :, None].expand(-1, -1, self.longest))
        candidates[:, :, length] = tokens
        stops = torch.isin(tokens, self.ends) | (length + 1 >= self.longest)
        self._finish(candidates, top, stops, length)
        self.scores, chosen = (top + stops * NEVER).topk(self.beams)
        self.running = candidates.gather(1, chosen[:, :, None].expand(-1, -1, self.longest))
        origin = beams.gather(1, chosen) + torch.arange(rows)[:, None] * self.beams
        if is_first:
            self.steps.keep((origin // self.beams).flatten())
        else:
            self.steps.reorder(origin.flatten())
        return self._can_improve(length) & ~stops.all(1)

    def _totals(self, length: int, is_first: bool) -> Tensor:
        """The score of each beam with each token, [B, K * V]."""
        rows = len(self.alive)
        last = self.running[:, :, length - 1]
        logits = self.steps(last[:, 0] if is_first else last.flatten())
        scores = logits.log_softmax(-1)
        if is_first:
            scores = scores.repeat_interleave(self.beams, 0)
        scores = self.process(_long(self.running[:, :, :length].flatten(0, 1)), scores)
        return (scores.view(rows, self.beams, -1) + self.scores[:, :, None]).flatten(1)

    def _finish(self, candidates: Tensor, top: Tensor, stops: Tensor, length: int) -> None:
        """Let candidates that end, among the best K, take the place of worse outputs."""
        ends = stops.clone()
        ends[:, self.beams :] = False
        scores = top / length**self.penalty + ~ends * NEVER
        merged = torch.cat([self.output_scores, scores], 1)
        self.output_scores, kept = merged.topk(self.beams)
        both = torch.cat([self.outputs, candidates], 1)
        self.outputs = both.gather(1, kept[:, :, None].expand(-1, -1, self.longest))
        lengths = torch.cat([self.lengths, torch.full_like(top, length, dtype=torch.int64)], 1)
        self.lengths = lengths.gather(1, kept)
        self.is_finished = torch.cat([self.is_finished, ends], 1).gather(1, kept)

    def _can_improve(self, length: int) -> Tensor:
        """Whether a running beam could still become better than the worst output, [B]; with `early_stopping` true it
        is enough that all outputs are there."""
        early = self.config.early_stopping
        if early is True:
            return ~self.is_finished.all(1) & self._may_beat(length)
        if early == "never" and self.penalty > 0:
            return self._may_beat(self.longest - 1)
        return self._may_beat(length)

    def _may_beat(self, length: int) -> Tensor:
        best = self.scores[:, :1] / length**self.penalty
        worst = torch.where(self.is_finished, self.output_scores.amin(1, keepdim=True), NEVER)
        return (best > worst).any(1)

    def _drop(self, is_open: Tensor) -> None:
        kept = is_open.nonzero()[:, 0]
        for name in ("running", "scores", "outputs", "output_scores", "lengths", "is_finished", "alive"):
            setattr(self, name, getattr(self, name)[kept])
        self.steps.keep((kept[:, None] * self.beams + torch.arange(self.beams)).flatten())

    def _found(self, row: int, n_best: int) -> list[Found]:
        triples = zip(self.outputs[row], self.lengths[row].tolist(), self.output_scores[row].tolist(), strict=True)
        return [Found(ids[1 : length + 1].tolist(), score) for ids, length, score in list(triples)[:n_best]]
