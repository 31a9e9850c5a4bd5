"""The texts of a run: all splits of all its sources, joined."""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import fingerprint, first_rows, has_split, load_split
from seq2seq_distill.utils.constants import SPLITS


@dataclass(frozen=True)
class Texts:
    """Source and target texts of the splits, in the order in which they were read."""

    splits: dict[str, datasets.Dataset]
    """train, val and test, each with the columns "source" and "target"."""
    sizes: tuple[int, ...]
    """Number of training rows of each source, in order."""

    @property
    def fingerprint(self) -> str:
        """Hash over all texts, wherever they are stored."""
        return "-".join(fingerprint(self.splits[split])[:16] for split in SPLITS)


def load_texts(config: RunConfig, sources: Sequence[str]) -> Texts:
    """Read and check all splits of all sources.

    Every source must have a training split, except those of weight 0, whose training split is not read. Validation
    and test splits are taken from the sources that have them; at least one must.

    Raises:
        DataError: a source or split is missing or wrong; the line names the first such place.
    """
    weights = config.data_weights or [1.0] * len(sources)
    used = {split: [source for source in sources if has_split(source, split)] for split in ("val", "test")}
    used["train"] = [source for source, weight in zip(sources, weights, strict=True) if weight]
    columns = Columns(config.encode.source_column, config.encode.target_column, config.src_lang, config.tgt_lang)
    parts = {
        # Where no source has the split, the error about the first source says what is missing.
        split: [load_split(source, split, columns) for source in used[split] or sources]
        for split in SPLITS
    }
    limits = {"train": config.encode.n_train, "val": config.eval.n_val, "test": config.eval.n_test}
    splits = {split: first_rows(datasets.concatenate_datasets(parts[split]), limits[split]) for split in SPLITS}
    training_parts = iter(parts["train"])
    counts = [len(next(training_parts)) if weight else 0 for weight in weights]
    ends = np.minimum(np.cumsum([0, *counts]), len(splits["train"]))
    return Texts(splits, tuple(np.diff(ends).tolist()))
