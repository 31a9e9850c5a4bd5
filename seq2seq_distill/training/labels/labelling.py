"""A label set from its first shard to its report: what `distill label` and a run that labels do alike."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.data.texts import KEYED
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_fingerprint
from seq2seq_distill.training.labels.filling import Labeller
from seq2seq_distill.training.labels.label_rows import LabelRows
from seq2seq_distill.training.labels.language_model import LanguageModelTeacher
from seq2seq_distill.training.labels.merging import merge
from seq2seq_distill.training.labels.shards import LabelFolder, recorded_setting
from seq2seq_distill.training.labels.teacher import BackwardModel, LabelTeacher, choose_decoder
from seq2seq_distill.training.runners.fill import fill_shards
from seq2seq_distill.training.runners.work import Fill, Work
from seq2seq_distill.utils.distributed import rank_and_world_size
from seq2seq_distill.utils.locks import wait_until
from seq2seq_distill.utils.progress import Progress

logger = logging.getLogger(__name__)

FIXED = (
    *("split", "targets", "engine", "quantization", "n_best", "sample", "temperature", "top_k", "top_p", "seed"),
    *("max_tokens", "shard_rows"),
)
"""Options that the raw candidates depend on, besides what the model, the data and the tokenizer say."""
MANY_CUT = 0.01
"""Share of cut texts above which they are warned of."""
FLAGS = {
    "model": "`model`, of the fingerprint",
    "tokenizer": "`model`, a tokenizer of the fingerprint",
    "data": "`data`, `n` or columns, of the fingerprint",
    "longest": "`max_source_length`",
    "generation": "`tgt_lang`, or the `model`'s own generation settings,",
}


@dataclass(frozen=True)
class Labelling:
    """A label set that is being written: what is asked for, the rows, and what fills its shards."""

    config: LabelConfig
    teacher: LabelTeacher | LanguageModelTeacher
    rows: LabelRows
    labeller: Labeller
    wanted: dict[str, Any]
    """What the raw candidates depend on."""

    @property
    def folder(self) -> LabelFolder:
        """Of the label set."""
        return self.labeller.folder

    def fill(self, make: Callable[[], Fill[int]]) -> None:
        """Fill this process's share of the shards that are missing; `make` does so in a worker of Ray."""
        rank, world = rank_and_world_size()
        missing = [shard for shard in self.folder.shards[rank::world] if not self.labeller.has(shard)]
        work = Work(missing, self.labeller.fill, make, self._name, "`output_dir`", self.folder.path.absolute())
        with Progress("labelling", sum(map(self._size, missing))) as progress:
            fill_shards(work, self.config, lambda shard: progress.advance(self._size(shard)))

    def merge(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Wait for the shards of the other processes, then write the data set; returns the report with `more` in it."""
        wait_until(lambda: all(map(self.labeller.has, self.folder.shards)), "labelling")
        config = self.config
        written = "reference" if config.targets == "reference" else str(self.labeller.found["engine"])
        return merge(config, self.folder, self.rows, f"{config.model} ({written})", more)

    def _size(self, shard: int) -> int:
        return len(self.folder.rows(shard))

    def _name(self, shard: int) -> str:
        rows = self.folder.rows(shard)
        return f"rows {rows.start} to {rows.stop - 1}"


def open_labelling(config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, rows: LabelRows) -> Labelling:
    """Make the folder of a label set, or go on with the one that is there; what runs the model is chosen once.

    Raises:
        UserError: the folder is of something else, or cannot be written; or the engine cannot run the model.
    """
    backward = BackwardModel(config) if config.backward_model else None
    folder = label_folder(config, config.folder, rows, backward)
    wanted = _wanted(config, teacher, rows)
    flags = FLAGS if config.server is None else {**FLAGS, "model": "`model`"}  # its name, not a fingerprint
    found = folder.load_or_create_manifest(wanted, flags, partial(_engine, config, teacher, folder, rows.labelled))
    return Labelling(config, teacher, rows, Labeller(config, teacher, backward, folder, found, rows.labelled), wanted)


def label_folder(config: LabelConfig, path: Path, rows: LabelRows, backward: BackwardModel | None) -> LabelFolder:
    """The folder at a path, whatever the config says."""
    fingerprint = backward.fingerprint if backward else ""
    return LabelFolder(path, config.split, len(rows.labelled), config.shard_rows, fingerprint)


def log_cut(
    config: LabelConfig, teacher: LabelTeacher, report: dict[str, Any], names: Mapping[str, str] | None = None
) -> None:
    """Students learn from pairs that were cut to leave text out; `names` are those of options, where they differ."""
    cut, chosen = report["cut"], max(1, report["chosen"])
    line = "cut: %d of %d sources, which are longer than %s tokens, and %d targets, stopped at %d tokens"
    numbers = (
        cut["sources"],
        chosen,
        teacher.loaded.max_length,
        cut["targets"],
        teacher.loaded.generation.max_length - 1,
    )
    if max(cut.values()) > MANY_CUT * chosen and not config.drop_cut:
        source, target, drop = (
            (names or {}).get(name, name) for name in ("max_source_length", "max_target_length", "drop_cut")
        )
        logger.warning(f"{line}: raise `{source}` or `{target}`, or drop them with `{drop}`", *numbers)
    else:
        logger.info(line, *numbers)


def _engine(
    config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, folder: LabelFolder, dataset: Dataset
) -> dict[str, Any]:
    """What runs the model, chosen when the folder is new."""
    if isinstance(teacher, LabelTeacher):
        return choose_decoder(config, teacher, folder.converted, dataset[:64]["source"])
    return {"engine": "transformers" if teacher.model else "server", "threads": None, "why": "a language model"}


def _wanted(config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, rows: LabelRows) -> dict[str, Any]:
    """What the raw candidates depend on, as plain values."""
    before = recorded_setting(config.folder, "data")  # of version 0.1, it is a hash over the texts
    data = rows.key if before is None or str(before).startswith(KEYED) else fingerprint(rows.dataset)
    return _wanted_of_model(config, teacher, data) | rows.settings | _newer_settings(config)


def _newer_settings(config: LabelConfig) -> dict[str, Any]:
    """Options that folders of before there were do not name, where they are not as they were then."""
    return {name: getattr(config, name) or None for name in ("logprobs", "split_sentences")}


def _wanted_of_model(config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, data: str) -> dict[str, Any]:
    if isinstance(teacher, LanguageModelTeacher):
        return teacher.wanted(config, data)
    loaded = teacher.loaded
    generation = loaded.generation.to_diff_dict()
    for name in ("transformers_version", "use_cache"):  # the latter is the same for all
        generation.pop(name, None)
    wanted = {name: getattr(config, name) for name in FIXED} | {
        "beams": generation.pop("num_beams", 1),
        "length_penalty": generation.pop("length_penalty", 1.0),
        "max_target_length": generation.pop("max_length") - 1,
        "prefix": loaded.prefix,
        "longest": loaded.max_length,
        "src_lang": config.src_lang,
        "tgt_lang": config.tgt_lang,
        "generate": config.generate or None,  # as in a folder from before there was this option
        "generation": generation,
        "model": teacher.fingerprint,
        "tokenizer": tokenizer_fingerprint(loaded.tokenizer),
        "data": data,
    }
    return dict(json.loads(json.dumps(wanted)))
