"""A server labels: its answers are kept as they come, and become shards once they are complete."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.decoding.language_model.answers import Answer
from seq2seq_distill.decoding.language_model.client import Budget, Client, Rejected, Spent, Unanswered
from seq2seq_distill.decoding.language_model.prompts import Prompts
from seq2seq_distill.decoding.language_model.responses import request_body
from seq2seq_distill.training.labels.answers import Counts, candidates_of, counts_of, counts_path, write_counts
from seq2seq_distill.training.labels.journal import Entry, Journal
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.utils.errors import ConfigError, RunError, UserError
from seq2seq_distill.utils.progress import Progress

logger = logging.getLogger(__name__)

SUSPICIOUS = 20
"""Prompts that a server refuses before it has answered any, after which it is taken to refuse all."""


def request_options(config: LabelConfig, row: int, draw: int) -> dict[str, Any]:
    """All of a request but for its prompt: what is not given is left out, since some servers refuse what they do not
    know.

    Args:
        config: of the command.
        row: that is asked about.
        draw: number of the candidate that is asked for, or the first of several.
    """
    options: dict[str, Any] = {"model": config.model, "max_tokens": config.target_limit, "temperature": 0.0}
    if config.sample:
        seed = np.random.SeedSequence([config.seed, row, draw]).generate_state(1, np.uint32)[0] >> 1
        options |= {"temperature": config.temperature, "seed": int(seed)}
        options |= {"top_p": config.top_p} if config.top_p < 1 else {}
        options |= {"top_k": config.top_k} if config.top_k else {}
    if config.logprobs:
        options["logprobs"] = True if config.api == "chat" else 1
    return options | config.generate


@dataclass
class _OpenShard:
    """A shard of which some rows have no answer yet."""

    journal: Journal
    sources: dict[int, str]
    """By row."""
    missing: int


class ServerLabelling:
    """Asks a server about all rows of some shards; once it stops, for whatever reason, it can go on where it was.

    Args:
        config: of the command.
        prompts: make the prompts.
        folder: where answers and shards are written.
        dataset: the rows.
        request: fingerprint of all that requests depend on besides the source.
        key: of the server.
    """

    def __init__(
        self,
        config: LabelConfig,
        prompts: Prompts,
        folder: LabelFolder,
        dataset: Dataset,
        request: str,
        key: str | None,
    ) -> None:
        self._config, self._prompts, self._folder, self._dataset = config, prompts, folder, dataset
        self._request, self._key = request, key
        self._client: Client | None = None
        self._progress = Progress("labelling", None, shown=False)
        self._open: dict[int, _OpenShard] = {}
        self._stop: Exception | None = None
        self._one_by_one = False
        self._last_answer = 0.0
        self._refused: list[tuple[int, int, Entry]] = []  # before any answer
        self._unanswered: list[tuple[int, str]] = []

    def label(self, shards: Sequence[int]) -> None:
        """Write these shards.

        Raises:
            ConfigError: the server refuses all requests, or cannot do what the options ask for.
            RunError: the server is out of reach or the budget used up, with all answers so far kept.
        """
        rows = sum(len(self._folder.rows(shard)) for shard in shards)
        try:
            with Progress("labelling", rows) as self._progress:
                asyncio.run(self._label(shards))
        except OSError as error:
            raise RunError(
                f"`output_dir` {self._folder.path}: {error.strerror}: mend this, and repeat the command to go on"
            ) from None

    async def _label(self, shards: Sequence[int]) -> None:
        config = self._config
        self._client = Client(
            str(config.server),
            config.api,
            self._key,
            concurrency=config.concurrency,
            timeout=config.timeout,
            max_retries=config.max_retries,
            budget=Budget(config.max_requests, config.max_total_tokens),
            spent=self._spent_before(shards),
        )
        questions = self._questions(shards)
        async with self._client:
            # Twice as many as may be sent at once: those that wait before they ask again leave their places.
            await asyncio.gather(*(self._work(questions) for _ in range(2 * config.concurrency)))
        if self._stop is None and self._refused:
            self._stop = self._refuses_all()
        if self._stop is None and self._unanswered:
            (row, reason), count = self._unanswered[0], len(self._unanswered)
            self._stop = RunError(
                f"`server`: {count} rows have no answer (row {row}: {reason}): repeat the command to ask again, with a "
                "longer `timeout`, or do without them by `skip_unanswered` true"
            )
        if self._stop is not None:
            raise self._stop

    def _questions(self, shards: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Shard and number of each row that has no answer; shards are opened when their first row is asked about."""
        for shard in shards:
            sources = self._sources(shard)
            journal = self._journal(shard)
            answered = journal.read(sources)
            missing = [row for row in sources if row not in answered]
            self._progress.skip(len(answered))
            if answered:
                self._last_answer = time.monotonic()
            if not missing:
                self._write(shard, sources)
                continue
            journal.open()
            self._open[shard] = _OpenShard(journal, sources, len(missing))
            yield from ((shard, row) for row in missing)

    async def _work(self, questions: Iterator[tuple[int, int]]) -> None:
        """Ask about rows until none is left, or something ends the work."""
        assert self._client is not None
        while self._stop is None:
            try:
                question = next(questions, None)
                if question is None:
                    return
                await self._answer(*question)
            except (UserError, RunError) as error:
                self._stop = self._stop or error
                self._client.stop()

    async def _answer(self, shard: int, row: int) -> None:
        began = time.monotonic()
        try:
            entry = await self._ask(row, self._open[shard].sources[row])
        except Rejected as error:
            entry = Entry([], Spent(requests=1), self._config.model, rejected=str(error))
            if not self._last_answer:  # it may refuse all for the same reason
                self._refused.append((shard, row, entry))
                if len(self._refused) >= SUSPICIOUS:
                    raise self._refuses_all() from None
                return
        except Unanswered as error:
            if self._stop is not None:
                return
            if self._last_answer < began:
                raise RunError(
                    f"`server` does not answer ({error}): repeat the command to go on once it does"
                ) from None
            if not self._config.skip_unanswered:
                self._unanswered.append((row, str(error)))
                return
            entry = Entry([], Spent(), self._config.model, rejected=str(error))
        else:
            self._last_answer = time.monotonic()
            for refused in self._refused:
                self._keep(*refused)
            self._refused = []
        self._keep(shard, row, entry)

    async def _ask(self, row: int, source: str) -> Entry:
        """All answers to a row; where a server gives fewer at once than it is asked for, it is asked one by one."""
        assert self._client is not None
        config, answers, spent, fingerprint = self._config, list[Answer](), Spent(), None
        while (missing := config.n_best - len(answers)) > 0:
            options = request_options(config, row, len(answers))
            n = 1 if self._one_by_one else missing
            body = request_body(self._prompts, config.api, source, options | ({"n": n} if n > 1 else {}))
            response = await self._client.ask(body, spent)
            if config.logprobs and not response.has_log_probabilities:
                raise ConfigError("`logprobs`: the `server` gives no log-probabilities: leave it out, or use vLLM")
            if config.max_total_tokens is not None and not response.has_usage:
                raise ConfigError("`max_total_tokens`: the `server` counts no tokens: set `max_requests` instead")
            if len(response.answers) < n and not self._one_by_one:
                self._one_by_one = True
                logger.info("the server gives one answer a request, whatever `n_best`: it is asked once for each")
            answers += response.answers[:n]
            fingerprint = response.fingerprint or fingerprint
        return Entry(answers, spent, config.model, fingerprint)

    def _keep(self, shard: int, row: int, entry: Entry) -> None:
        """Write an answer down, and the shard, if it was the last that was missing."""
        found = self._open[shard]
        found.journal.add(row, found.sources[row], entry)
        found.missing -= 1
        self._progress.advance()
        if not found.missing:
            found.journal.sync()
            del self._open[shard]
            self._write(shard, found.sources)

    def _write(self, shard: int, sources: Mapping[int, str]) -> None:
        """The shard's candidates, in the order of its rows, of the answers that were kept."""
        entries = self._journal(shard).read(sources)
        counts = Counts()
        for entry in entries.values():
            counts.spent += entry.spent
        answers = [entries[row].answers for row in sources]
        candidates = candidates_of(self._config, list(sources.values()), answers, counts)
        write_counts(self._folder, shard, counts)
        self._folder.write_raw(shard, list(sources.values()), candidates)

    def _spent_before(self, shards: Sequence[int]) -> Spent:
        """What all answers took that are there."""
        total = counts_of(self._folder, [shard for shard in self._folder.shards if shard not in shards]).spent
        for shard in (shard for shard in shards if self._journal_path(shard).exists()):
            for entry in self._journal(shard).read(self._sources(shard)).values():
                total += entry.spent
        return total

    def _refuses_all(self) -> ConfigError:
        reason = self._refused[0][2].rejected
        return ConfigError(f"`server` refuses all of the first {len(self._refused)} prompts with {reason}: mend this")

    def _sources(self, shard: int) -> dict[int, str]:
        rows = self._folder.rows(shard)
        return dict(zip(rows, self._dataset[rows.start : rows.stop]["source"], strict=True))

    def _journal_path(self, shard: int) -> Path:
        return counts_path(self._folder, shard).with_suffix(".jsonl")

    def _journal(self, shard: int) -> Journal:
        return Journal(self._journal_path(shard), self._request)
