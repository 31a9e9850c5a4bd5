"""Batches of encoded rows, distributed over the processes according to the plan."""

import itertools
import signal
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seq2seq_distill.data.batching import MicroBatch
from seq2seq_distill.data.chunks.chunk_targets import chunk_columns, collate_chunks
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.data.teacher_cache import CachedSplit
from seq2seq_distill.data.teacher_inputs import attach_teacher_inputs
from seq2seq_distill.data.token_columns import TokenColumn

GRACE = 10
"""Seconds that a worker process lives on after a SIGTERM."""


class EncodedBatches(Dataset[dict[str, Tensor]]):
    """Encoded rows, indexed by `MicroBatch`: the item is the collated batch with the step's token counts.

    With cached teacher outputs, they are in it as `teacher_cache.FIELDS`, token by token of all rows; with `teachers`,
    the same rows as the teacher reads them, their sources as `teacher_sources.NAMES`. Of several tasks, which end
    before the rows `ends`, it says the batch's as `task`. With `chunk_targets` it has their fields and, as `chunks`,
    the number of the step's. With `forms`, the rows are those of the noisy forms that the micro-batch names; then
    `distill_mask` [B] says whose targets the teacher knows, `distill_tokens` how many tokens of the step these have,
    and cached outputs are those of these rows alone.
    """

    def __init__(
        self,
        encoded: datasets.Dataset,
        collate: Collator,
        cached: CachedSplit | None = None,
        teachers: "EncodedBatches | None" = None,
        ends: Sequence[int] = (),
        chunk_targets: datasets.Dataset | None = None,
        forms: Sequence[datasets.Dataset] = (),
    ) -> None:
        self._encoded = encoded
        self._collate = collate
        self._cached = cached
        self._teachers = teachers
        self._ends = ends
        self._chunk_targets = chunk_targets
        self._forms = forms
        self._columns: list[tuple[TokenColumn, TokenColumn]] = []
        self._chunk_columns: tuple[TokenColumn, TokenColumn] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_columns": [], "_chunk_columns": None}  # a worker process maps the files itself

    def __getitem__(self, micro_batch: MicroBatch) -> dict[str, Any]:
        batch: dict[str, Any] = self._collate(self._rows(micro_batch))
        known = micro_batch.rows
        if self._forms and micro_batch.distill_tokens is not None:
            known = tuple(itertools.compress(micro_batch.rows, micro_batch.distilled))
            batch["distill_mask"] = torch.tensor(
                micro_batch.distilled or [True]
            )  # without rows there is one of padding
            batch["distill_tokens"] = micro_batch.distill_tokens
        if self._cached is not None:
            batch |= self._cached.read(known)
        if self._chunk_targets is not None:
            self._chunk_columns = self._chunk_columns or chunk_columns(self._chunk_targets)
            batch |= collate_chunks(self._chunk_columns, micro_batch.rows, batch["labels"].shape)
            batch["chunks"] = micro_batch.chunks
        if len(self._ends) > 1:  # what has no rows counts nowhere, whatever its task
            batch["task"] = bisect_right(self._ends, micro_batch.rows[0]) if micro_batch.rows else 0
        if self._teachers is not None:
            batch = attach_teacher_inputs(batch, self._teachers[micro_batch])
        return {**batch, "source_tokens": micro_batch.source_tokens, "target_tokens": micro_batch.target_tokens}

    def _rows(self, micro_batch: MicroBatch) -> list[dict[str, Any]]:
        self._columns = self._columns or [
            (TokenColumn(encoded, "input_ids"), TokenColumn(encoded, "labels"))
            for encoded in (self._encoded, *self._forms)
        ]
        forms = micro_batch.forms if self._forms and micro_batch.forms else [0] * len(micro_batch.rows)
        return [
            {"input_ids": self._columns[form][0][row], "labels": self._columns[form][1][row], "row": row}
            for row, form in zip(micro_batch.rows, forms, strict=True)
        ]


class PlannedSampler(Sampler[MicroBatch]):
    """One process's micro-batches of the whole run, from `start` on."""

    def __init__(self, plan: RunPlan, *, rank: int, world: int, accumulate: int) -> None:
        self._plan = plan
        self._deal = {"rank": rank, "world": world, "accumulate": accumulate}
        self.start = 0

    def __iter__(self) -> Iterator[MicroBatch]:
        return self._plan.micro_batches(self.start, **self._deal)

    def __len__(self) -> int:
        return self._plan.total_steps * self._deal["accumulate"]


class PlannedLoader(DataLoader[dict[str, Tensor]]):
    """A loader that counts the batches it has delivered, so that a resumed run continues with the next one.

    Batches that worker processes have prefetched but nobody has taken do not count.
    """

    def __init__(self, dataset: EncodedBatches, sampler: PlannedSampler, workers: int) -> None:
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_parent,
            pin_memory=torch.cuda.is_available(),
        )
        self._handed_over = 0
        self._running: Generator[dict[str, Tensor], None, None] | None = None

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        self._running = self._batches()
        return self._running

    def _batches(self) -> Generator[dict[str, Tensor], None, None]:
        self.sampler.start = self._handed_over  # type: ignore[attr-defined]
        iterator = super().__iter__()
        try:
            for batch in iterator:
                self._handed_over += 1
                yield batch
        finally:
            if self.num_workers:
                iterator._shutdown_workers()  # type: ignore[attr-defined]

    def close(self) -> None:
        """End the worker processes now; the SIGTERM that Python sends them when it ends takes them `GRACE` seconds."""
        if self._running is not None:
            self._running.close()

    def state_dict(self) -> dict[str, int]:
        return {"handed_over": self._handed_over}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._handed_over = state["handed_over"]


def _leave_signals_to_parent(_: int) -> None:
    """A Ctrl-C or preemption reaches worker processes too, but the run still needs them to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Python ends processes that nobody has closed by SIGTERM and waits for them: so not never, only later.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
