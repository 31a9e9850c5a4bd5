"""Encoded splits and their loaders, dealt out to processes by the plan."""

import copy
import signal
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.batching import BatchPlan, MicroBatch, RunPlan, lengths, weights_by_size
from seq2seq_distill.data.encode import Collator, encode_split, truncation_shares
from seq2seq_distill.data.sources import fingerprint, has_split, load_split
from seq2seq_distill.data.teacher_cache import CachedSplit
from seq2seq_distill.data.teacher_sources import beside

GRACE = 10
"""Seconds that a worker process lives on after a SIGTERM."""


@dataclass(frozen=True)
class Texts:
    """Source and target texts of the splits, in the order they were read."""

    splits: dict[str, datasets.Dataset]
    """train, val and test, each with the columns source and target."""
    sizes: tuple[int, ...]
    """Training rows of each joined source, in order."""

    @property
    def fingerprint(self) -> str:
        """Hash over all texts, wherever they are stored."""
        return "-".join(fingerprint(self.splits[split])[:16] for split in ("train", "val", "test"))


def load_texts(config: RunConfig, sources: Sequence[str]) -> Texts:
    """Read and check all splits of all sources; `DataError` names the first place that is wrong.

    Every source must have a training split, but for those of weight 0, whose training split is not read; validation
    and test come from those that have them, at least one.
    """
    weights = config.data_weights or [1.0] * len(sources)
    used = {split: [source for source in sources if has_split(source, split)] for split in ("val", "test")}
    used["train"] = [source for source, weight in zip(sources, weights, strict=True) if weight]
    parts = {
        split: [
            load_split(
                source,
                split,
                source_column=config.encode.source_column,
                target_column=config.encode.target_column,
                src_lang=config.src_lang,
                tgt_lang=config.tgt_lang,
            )
            for source in used.get(split) or sources  # where none has it, the first one's error says what is missing
        ]
        for split in ("train", "val", "test")
    }
    limits = {"train": config.encode.n_train, "val": config.eval.n_val, "test": config.eval.n_test}
    splits = {split: _first(datasets.concatenate_datasets(parts[split]), limits[split]) for split in parts}
    lengths_of = iter(parts["train"])
    counts = [len(next(lengths_of)) if weight else 0 for weight in weights]
    ends = np.minimum(np.cumsum([0, *counts]), len(splits["train"]))
    return Texts(splits, tuple(np.diff(ends).tolist()))


class Seq2SeqData(LightningDataModule):
    """The encoded splits of a run, and their loaders.

    Args:
        config: the run's config.
        texts: what to encode.
        tokenizer: the model's, languages set.
        collate: pads encoded rows into a batch.
        prefix: put before every source.
        max_positions: longest source and target that the models take, `None` for any.
        cache_dir: where encoded splits are kept; by default the user's cache.
    """

    def __init__(
        self,
        config: RunConfig,
        texts: Texts,
        tokenizer: PreTrainedTokenizerBase,
        collate: Collator,
        *,
        prefix: str = "",
        max_positions: tuple[int | None, int | None] = (None, None),
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._texts = texts
        self._collate = collate
        self._loader: PlannedLoader | None = None
        self.cached: dict[str, CachedSplit] = {}
        """Of splits whose batches bring the teacher's outputs with them."""
        self.teachers: Seq2SeqData | None = None
        """The same rows as the teacher reads them, where its sources are to be in the batches beside these."""
        self.encoded = {
            split: encode_split(
                dataset,
                tokenizer,
                prefix=prefix,
                max_source_length=_smallest(config.encode.max_source_length, max_positions[0]),
                max_target_length=_smallest(
                    config.encode.max_target_length if split == "train" else config.eval.max_target_length,
                    max_positions[1],
                ),
                cache_dir=cache_dir,
                languages=(config.src_lang, config.tgt_lang),
            )
            for split, dataset in texts.splits.items()
        }
        """Token ids of each split, in file order."""
        self.ends = {split: (len(encoded),) for split, encoded in self.encoded.items()}
        """Of each split, the row behind the last one of each task."""
        self.plan = self._plan()
        """All optimiser steps of the run."""

    @property
    def fingerprint(self) -> str:
        """Hash over all texts."""
        return self._texts.fingerprint

    def references(self, split: str) -> list[str]:
        """The target texts of a split, as they were read: never cut (truncated references would inflate scores)."""
        return list(self._texts.splits[split]["target"])

    def task_of(self, split: str, row: int) -> int:
        """Number of the task that a row belongs to."""
        return bisect_right(self.ends[split], row)

    def truncation(self) -> dict[str, float]:
        """Share of training sources and targets that were cut."""
        return dict(zip(("source", "target"), truncation_shares(self.encoded["train"]), strict=True))

    def collated(self, split: str, rows: Sequence[int]) -> dict[str, Tensor]:
        """These rows of a split as one batch."""
        return self._batches(split)[MicroBatch(tuple(rows), 0, 0)]

    def training_batch(self, step: int) -> dict[str, Tensor]:
        """The rows of an optimiser step of the run, undivided, as one batch."""
        rows = self.plan.rows(step)
        return self._batches("train")[MicroBatch(tuple(rows.tolist()), *self.plan.batches.tokens(rows))]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        self._loader = PlannedLoader(
            self._batches("train"),
            PlannedSampler(
                self.plan,
                rank=self.trainer.global_rank,
                world=self.trainer.world_size,
                accumulate=self._config.trainer.accumulate_grad_batches,
            ),
            workers=self._config.batch.workers,
        )
        return self._loader

    def teardown(self, stage: str) -> None:
        if self._loader is not None:
            self._loader.close()

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader[dict[str, Tensor]]:
        """Batches of one task each, in length order, the longest first, as many on every process."""
        assert self.trainer is not None
        encoded, size, world = self.encoded[split], self._config.eval.batch_size, self.trainer.world_size
        order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable").tolist()
        by_task = [[row for row in order if self.task_of(split, row) == task] for task in range(len(self.ends[split]))]
        rows = [tuple(own[start : start + size]) for own in by_task for start in range(0, len(own), size)]
        rows += [()] * (-len(rows) % world)
        batches = [MicroBatch(own, 0, 0) for own in rows[self.trainer.global_rank :: world]]
        return DataLoader(self._batches(split), batch_size=None, sampler=batches)

    def _batches(self, split: str) -> "EncodedBatches":
        cached, teachers = self.cached.get(split), None
        if self.teachers is not None and cached is None:
            teachers = self.teachers._batches(split)
        return EncodedBatches(self.encoded[split], self._collate, cached, teachers, self.ends[split])

    def _plan(self) -> RunPlan:
        config, train, sizes = self._config, self.encoded["train"], self._texts.sizes
        batches = BatchPlan(
            lengths(train["input_ids"]),
            lengths(train["labels"]),
            size=config.batch.size,
            max_tokens=config.batch.max_tokens,
            group_by_length=config.batch.group_by_length,
            seed=config.seed,
            sizes=sizes,
            weights=weights_by_size(sizes, config.task_exponent) if config.tasks else config.data_weights,
            apart=bool(config.tasks),
        )
        return RunPlan(
            batches,
            max_steps=config.trainer.max_steps,
            max_epochs=config.trainer.max_epochs,
            limit=config.trainer.limit_train_batches,
            val_interval=config.trainer.val_check_interval,
        )


def joined(config: RunConfig, tasks: Sequence[Seq2SeqData]) -> Seq2SeqData:
    """The data of several tasks as those of one run, whose batches have rows of one task each.

    Args:
        config: the run's, with its `tasks`.
        tasks: the data of each, encoded for one student; they stay as they are.
    """
    data = copy.copy(tasks[0])
    data._config = config
    sizes = tuple(len(task.encoded["train"]) for task in tasks)
    data._texts = Texts({split: _joined(task._texts.splits[split] for task in tasks) for split in data.encoded}, sizes)
    data.ends = {
        split: tuple(np.cumsum([len(task.encoded[split]) for task in tasks]).tolist()) for split in data.encoded
    }
    data.encoded = {split: _joined(task.encoded[split] for task in tasks) for split in data.encoded}
    data.plan = data._plan()
    if any(task.teachers for task in tasks):
        data.teachers = joined(config, [task.teachers or task for task in tasks])
    return data


def _joined(parts: Iterable[datasets.Dataset]) -> datasets.Dataset:
    return datasets.concatenate_datasets(list(parts))


class EncodedBatches(Dataset[dict[str, Tensor]]):
    """Encoded rows, indexed by `MicroBatch`: the item is the collated batch with the step's token counts.

    With cached teacher outputs, they are in it as `teacher_cache.FIELDS`, token by token of all rows; with `teachers`,
    the same rows as the teacher reads them, their sources as `teacher_sources.NAMES`. Of several tasks, whose last rows
    `ends` tells, it says the batch's as `task`.
    """

    def __init__(
        self,
        encoded: datasets.Dataset,
        collate: Collator,
        cached: CachedSplit | None = None,
        teachers: "EncodedBatches | None" = None,
        ends: Sequence[int] = (),
    ) -> None:
        self._encoded = encoded
        self._collate = collate
        self._cached = cached
        self._teachers = teachers
        self._ends = ends

    def __getitem__(self, micro_batch: MicroBatch) -> dict[str, Any]:
        columns = self._encoded[list(micro_batch.rows)] if micro_batch.rows else {"input_ids": [], "labels": []}
        rows = zip(columns["input_ids"], columns["labels"], micro_batch.rows, strict=True)
        batch: dict[str, Any] = self._collate([{"input_ids": i, "labels": t, "row": row} for i, t, row in rows])
        if self._cached is not None:
            batch |= self._cached.read(micro_batch.rows)
        if len(self._ends) > 1:  # what has no rows counts nowhere, whatever its task
            batch["task"] = bisect_right(self._ends, micro_batch.rows[0]) if micro_batch.rows else 0
        if self._teachers is not None:
            batch = beside(batch, self._teachers[micro_batch])
        return {**batch, "source_tokens": micro_batch.source_tokens, "target_tokens": micro_batch.target_tokens}


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
    """A loader that knows how many batches it has handed over, so that a resumed run goes on at the next.

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


def _first(dataset: datasets.Dataset, n: int | None) -> datasets.Dataset:
    return dataset if n is None else dataset.select(range(min(n, len(dataset))))


def _smallest(length: int, limit: int | None) -> int:
    return length if limit is None else min(length, limit)
