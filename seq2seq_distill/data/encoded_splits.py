"""The encoded splits of a run, and the plan of its batches."""

import copy
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.batching import BatchPlan, MicroBatch, weights_by_size
from seq2seq_distill.data.chunks.chunk_targets import CHUNK_SPLITS, encode_chunks, without_chunks
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.encoding import UnknownTokens, encode_split, truncation_shares, unknown_tokens
from seq2seq_distill.data.length_batches import batches_by_length, lengths
from seq2seq_distill.data.loaders import EncodedBatches
from seq2seq_distill.data.noise.forms import Forms
from seq2seq_distill.data.noise.variants import Variant
from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.data.teacher_cache import CachedSplit
from seq2seq_distill.data.texts import Texts, join_keys
from seq2seq_distill.data.token_columns import concat_encoded
from seq2seq_distill.utils.files import cache_root


class EncodedSplits:
    """The encoded splits of a run, and the plan of its batches.

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
        self.config = config
        self._texts = texts
        self._collate = collate
        self.cached: dict[str, CachedSplit] = {}
        """Of splits whose batches bring the teacher's outputs with them."""
        self.teachers: EncodedSplits | None = None
        """The same rows as the teacher reads them, where batches are to bring its sources besides these."""

        def encode(split: str, variant: Variant | None = None) -> Dataset:
            encode, longest = config.encode, config.eval.max_target_length
            return encode_split(
                texts.splits[split],
                tokenizer,
                prefix=prefix,
                max_source_length=_smallest(encode.max_source_length, max_positions[0]),
                max_target_length=_smallest(
                    encode.max_target_length if split == "train" else longest, max_positions[1]
                ),
                cache_dir=cache_dir,
                languages=languages,
                key=texts.keys[split],
                workers=encode.workers,
                variant=variant,
            )

        languages = (config.src_lang, config.tgt_lang)
        self.encoded = {split: encode(split) for split in texts.splits}
        """Token ids of each split, in file order."""
        numbers = range(1, config.noise.variants + 1) if config.noise.is_on else ()
        self.forms = [encode("train", Variant(config.noise, config.seed, number, languages)) for number in numbers]
        """Noisy forms of the training rows, one of which takes the place of each row in an epoch."""
        self.ends = {split: (len(encoded),) for split, encoded in self.encoded.items()}
        """Of each split, the row behind the last one of each task."""
        self.chunk_targets: dict[str, Dataset] = {}
        """Chunks of targets with their likelihoods, row by row, of splits that have any; if the run asks for them."""
        if config.loss.alpha_chunk:
            self.chunk_targets = self._encode_chunks(tokenizer, cache_dir)
        self.plan = self._plan()
        """All optimiser steps of the run."""

    @property
    def fingerprint(self) -> str:
        """Stands for all texts."""
        return self._texts.fingerprint

    def has_texts_of(self, fingerprint: str) -> bool:
        """Whether a fingerprint, which may be of an older version, is that of these texts."""
        return self._texts.are_those_of(fingerprint)

    def references(self, split: str) -> list[str]:
        """The target texts of a split, as they were read: never cut (truncated references would inflate scores)."""
        return list(self._texts.splits[split]["target"])

    def teacher_targets(self, split: str) -> list[str] | None:
        """What the teachers of label sets wrote for the rows of a split; None where a row is of other data."""
        return self._texts.teacher_targets(split)

    def task_of(self, split: str, row: int) -> int:
        """Number of the task that a row belongs to."""
        return bisect_right(self.ends[split], row)

    def truncation(self) -> dict[str, float]:
        """Share of training sources and targets that were cut."""
        return dict(zip(("source", "target"), truncation_shares(self.encoded["train"]), strict=True))

    def unknown(self) -> dict[str, UnknownTokens]:
        """What the tokenizer does not know of training sources and targets."""
        encoded = self.encoded["train"]
        return {"source": unknown_tokens(encoded, "source"), "target": unknown_tokens(encoded, "target")}

    def collated(self, split: str, rows: Sequence[int]) -> dict[str, Tensor]:
        """These rows of a split as one batch."""
        return self.batches(split)[MicroBatch(tuple(rows), 0, 0)]

    def training_batch(self, step: int) -> dict[str, Tensor]:
        """The rows of an optimiser step of the run, undivided, as one batch."""
        return self.batches("train")[self.plan.micro_batch(step)]

    def clean(self) -> "EncodedSplits":
        """The same data without its noisy forms, as the teacher reads it."""
        data = copy.copy(self)
        data.forms = []
        return data

    def evaluation_batches(self, split: str, *, rank: int = 0, world: int = 1) -> list[MicroBatch]:
        """Batches of one task each, in length order, the longest first, as many on every process."""
        source_lengths, ends = lengths(self.encoded[split], "input_ids").tolist(), self.ends[split]
        rows: list[tuple[int, ...]] = []
        for start, end in zip((0, *ends), ends, strict=False):
            batches = batches_by_length(source_lengths[start:end], size=self.config.eval.batch_size)
            rows += [tuple(start + index for index in batch) for batch in batches]
        rows += [()] * (-len(rows) % world)
        return [MicroBatch(batch, 0, 0) for batch in rows[rank::world]]

    def batches(self, split: str) -> EncodedBatches:
        """The rows of a split, to be collated into batches."""
        cached, teachers = self.cached.get(split), None
        if self.teachers is not None and cached is None:
            teachers = self.teachers.batches(split)
        chunks, forms = self.chunk_targets.get(split), self.forms if split == "train" else ()
        return EncodedBatches(self.encoded[split], self._collate, cached, teachers, self.ends[split], chunks, forms)

    def _encode_chunks(self, tokenizer: PreTrainedTokenizerBase, cache_dir: Path | None) -> dict[str, Dataset]:
        texts = self._texts
        chunks = {
            split: encode_chunks(
                texts.splits[split],
                self.encoded[split],
                tokenizer,
                texts.sources[split],
                split,
                key=texts.keys[split],
                cache_dir=cache_dir,
            )
            for split in CHUNK_SPLITS
            if texts.sources.get(split)
        }
        return {split: dataset for split, dataset in chunks.items() if dataset is not None}

    def _plan(self) -> RunPlan:
        config, train, sizes = self.config, self.encoded["train"], self._texts.sizes
        chunks = self.chunk_targets.get("train")
        batches = BatchPlan(
            lengths(train, "input_ids"),
            lengths(train, "labels"),
            size=config.batch.size,
            max_tokens=config.batch.max_tokens,
            group_by_length=config.batch.group_by_length,
            seed=config.seed,
            sizes=sizes,
            weights=weights_by_size(sizes, config.task_exponent) if config.tasks else config.data_weights,
            homogeneous_batches=bool(config.tasks),
            chunk_counts=None if chunks is None else lengths(chunks, "chunk_logprobs"),
            forms=_forms(self.forms) if self.forms else None,
        )
        return RunPlan(
            batches,
            max_steps=config.trainer.max_steps,
            max_epochs=config.trainer.max_epochs,
            limit=config.trainer.limit_train_batches,
            val_interval=config.trainer.val_check_interval,
            counts_folder=cache_root() / "plans",
        )


def concat_tasks(config: RunConfig, tasks: Sequence[EncodedSplits]) -> EncodedSplits:
    """The data of several tasks as those of one run, whose batches have rows of one task each.

    Args:
        config: the run's, with its `tasks`.
        tasks: the data of each, encoded for one student; they stay as they are.
    """
    data = copy.copy(tasks[0])
    data.config = config
    data._collate = max((task._collate for task in tasks), key=lambda collate: len(collate.extras))
    sizes = tuple(len(task.encoded["train"]) for task in tasks)
    whole = datasets.concatenate_datasets
    data._texts = Texts(
        {split: whole([task._texts.splits[split] for task in tasks]) for split in data.encoded},
        sizes,
        {split: join_keys([task._texts.keys[split] for task in tasks]) for split in data.encoded},
    )
    data.ends = {
        split: tuple(np.cumsum([len(task.encoded[split]) for task in tasks]).tolist()) for split in data.encoded
    }
    data.encoded = {split: concat_encoded([task.encoded[split] for task in tasks]) for split in data.encoded}
    data.forms = [concat_encoded(forms) for forms in zip(*(task.forms for task in tasks), strict=True)]
    chunked = {split for task in tasks for split in task.chunk_targets}
    data.chunk_targets = {
        split: whole([task.chunk_targets.get(split) or without_chunks(len(task.encoded[split])) for task in tasks])
        for split in chunked
    }
    data.plan = data._plan()
    if any(task.teachers for task in tasks):
        data.teachers = concat_tasks(config, [task.teachers or task.clean() for task in tasks])
    return data


def _forms(encoded: Sequence[Dataset]) -> Forms:
    """What a plan needs to know of noisy forms."""
    source, target = (np.stack([lengths(form, side) for form in encoded]) for side in ("input_ids", "labels"))
    return Forms(source, target, np.stack([form.data.column("distilled").to_numpy() for form in encoded]))


def _smallest(length: int, limit: int | None) -> int:
    return length if limit is None else min(length, limit)
