"""Fill the shards of a label folder: the one way, whoever deals them out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datasets import Dataset

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.decoding.decoder import Decoder
from seq2seq_distill.training.labels.language_model import LanguageModelTeacher
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.training.labels.teacher import (
    BackwardModel,
    Candidates,
    LabelTeacher,
    generated,
    open_decoder,
    scored,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labeller:
    """What fills a shard: the models, the texts and the folder."""

    config: LabelConfig
    teacher: LabelTeacher | LanguageModelTeacher
    backward: BackwardModel | None
    folder: LabelFolder
    found: dict[str, Any]
    """The engine and its threads, of label.json."""
    dataset: Dataset

    def has(self, shard: int) -> bool:
        """Whether nothing of a shard is missing."""
        return self.folder.has_raw(shard) and (self.backward is None or self.folder.has_backward(shard))

    def fill(self, shard: int) -> None:
        """Write what is missing of a shard: candidates, and their backward scores."""
        if not self.folder.has_raw(shard):
            self._write_candidates(shard)
        if self.backward is not None and not self.folder.has_backward(shard):
            self._write_backward(shard, self.backward)

    def candidates(self, sources: Sequence[str], shard: int = 0) -> Candidates:
        """What an encoder-decoder writes for some sources; samples depend on the shard."""
        assert isinstance(self.teacher, LabelTeacher)
        return generated(self.config, self.teacher, self._decoder, sources, shard)

    @cached_property
    def _decoder(self) -> Decoder:
        assert isinstance(self.teacher, LabelTeacher)
        return open_decoder(self.config, self.teacher, self.folder.converted, self.found)

    def _write_candidates(self, shard: int) -> None:
        rows = self.folder.rows(shard)
        texts = self.dataset[rows.start : rows.stop]
        if isinstance(self.teacher, LanguageModelTeacher):
            self.teacher.label(self.config, self.folder, texts["source"], shard)
            return
        candidates: Candidates
        if self.config.targets == "reference":
            # Half the data set away: neighbours may be alike.
            others = self.dataset[[(row + len(self.dataset) // 2) % len(self.dataset) for row in rows]]["source"]
            candidates = scored(self.config, self.teacher, texts["source"], texts["target"], others)
        else:
            candidates = self.candidates(texts["source"], shard)
        self.folder.write_raw(shard, texts["source"], candidates)

    def _write_backward(self, shard: int, backward: BackwardModel) -> None:
        rows = self.folder.rows(shard)
        sources = self.dataset[rows.start : rows.stop]["source"]
        candidates = self.folder.read_raw(shard, sources)
        sources = [sources[row - rows.start] for row in candidates["row"].to_pylist()]
        self.folder.write_backward(shard, candidates, backward.scores(candidates["target"].to_pylist(), sources))


def threads_of_worker(config: LabelConfig, found: dict[str, Any]) -> dict[str, Any]:
    """The engine for a worker of Ray, with threads that fit into its cores.

    How many sources CTranslate2 decodes side by side changes no bit of a score. The threads for each may, so they stay
    those with which the folder began, even if workers must share cores for it.
    """
    if config.runner != "ray" or not found["threads"]:
        return found
    _, threads = found["threads"]
    if threads > config.cpus_per_worker:
        logger.warning(
            "`cpus_per_worker` %d: this folder began with %d threads a source, and workers keep to them: raise it",
            *(config.cpus_per_worker, threads),
        )
    return {**found, "threads": [max(1, config.cpus_per_worker // threads), threads]}
