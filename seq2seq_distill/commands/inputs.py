"""What verbs read beside their options: the run that a model is from, rows of data, models ready to decode."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from datasets import Dataset, concatenate_datasets
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.encoding import default_prefix, task_params
from seq2seq_distill.data.sources import has_split, is_file, load_split
from seq2seq_distill.data.tokenizers import check_json, decoder_start_token_id, forced_bos_token_id, load_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings, configure_generation
from seq2seq_distill.decoding.likelihood import token_ids
from seq2seq_distill.models import architectures
from seq2seq_distill.models.student import load_student
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.errors import ConfigError, DataError

Config = TypeVar("Config", ExportConfig, LabelConfig)
Pair = tuple[str | None, str | None]
"""Of source and target: languages, or names of columns."""


LONGEST = 1024
"""Tokens of a source where nothing else is said."""


class ReadingOptions(Protocol):
    """A verb's options of how a model reads."""

    @property
    def task(self) -> str | None: ...
    @property
    def src_lang(self) -> str | None: ...
    @property
    def tgt_lang(self) -> str | None: ...
    @property
    def prefix(self) -> str | None: ...
    @property
    def max_source_length(self) -> int | None: ...


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to decode."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prefix: str
    """Put before every source."""
    longest: int
    """Most tokens of a source."""

    @property
    def generation(self) -> GenerationConfig:
        """How it decodes."""
        return self.model.generation_config

    def source_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Sources as the model reads them."""
        return token_ids(self.tokenizer, [self.prefix + text for text in texts], self.longest)


def read_run_record(model: str) -> dict[str, Any]:
    """What run.yaml says of the run whose folder a model, or a file, lies in; empty if there is none."""
    path = Path(model).expanduser()
    return OutputFolder(path.resolve().parent).read_run() if path.exists() else {}


def task_of_run(run: dict[str, Any], data: Sequence[str] | None) -> dict[str, Any]:
    """What run.yaml says; of a run with several tasks, as if the one that learned from this data were alone.

    Raises:
        ConfigError: there are several, and no data to choose by.
    """
    if not run.get("tasks"):
        return run
    if not data:
        raise ConfigError("`data` is missing: the model learned several tasks: name the data of one")
    entry: dict[str, Any] = next((entry for entry in run["tasks"] if entry["data"] == list(data)), {})
    own = {name: value for name, value in entry.items() if value is not None}
    encode = {**run["encode"], **({"prefix": own["prefix"]} if "prefix" in own else {})}
    return {**run, **own, "encode": encode}


def export_record(model: str, field: str = "model") -> dict[str, Any]:
    """What `distill export` says of the model in a folder that it made; empty for any other folder or id."""
    path = Path(model).expanduser() / "export.json"
    check_json(path, f"`{field}` {model}")
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def with_run_defaults(config: Config, remedy: str) -> Config:
    """The config; of a model that a run or an export made, with its task, data and languages where it says nothing.

    Raises:
        ConfigError: there is no data; the line ends with `remedy`.
    """
    run = export_record(config.model) or task_of_run(read_run_record(config.model), config.data)
    said: dict[str, Any] = {name: getattr(config, name) or run.get(name) for name in ("task", "src_lang", "tgt_lang")}
    config = replace(config, **said, data=config.data or run.get("data") or [])
    if not config.data:
        raise ConfigError(f"`data` is missing: {remedy}")
    return config


def load_rows(sources: Sequence[str], split: str, columns: tuple[str | None, str | None], languages: Pair) -> Dataset:
    """The columns source and target of a split, of all sources that have it, in order.

    Files without a folder or hub data set among them have no splits: their rows are the data, whatever the split.

    Raises:
        DataError: a source cannot be read, none has the split, or it has no rows.
    """
    places = [demo.data_source(name) for name in sources]
    split = "train" if all(map(is_file, places)) else split
    having = [place for place in places if has_split(place, split)]
    rows = concatenate_datasets(
        [
            load_split(
                place,
                split,
                source_column=columns[0],
                target_column=columns[1],
                src_lang=languages[0],
                tgt_lang=languages[1],
            )
            for place in having or places[:1]  # where none has it, the first one's error says what is missing
        ]
    )
    if not len(rows):
        raise DataError(f"`data` {' '.join(sources)}: the {split} split has no examples: give another source")
    return rows


def load_model(
    name: str, field: str, options: ReadingOptions, settings: GenerationSettings, dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """A Hugging Face folder, hub id or demo teacher, set to decode as `settings` say and else as it does by itself.

    A run has written into its model how it decodes; of any other what its config says of the task comes first.

    Raises:
        ModelError, ConfigError: in one line that opens with `field`, or with the flag of a language.
    """
    path, task, languages = demo.model_source(name), str(options.task), (options.src_lang, options.tgt_lang)
    model = load_student(path, dtype, field=field)
    tokenizer = load_tokenizer(path, *languages, field=field)
    forced = forced_bos_token_id(tokenizer, languages[1], model.generation_config)
    configure_generation(
        model,
        replace(settings, forced_bos_token_id=forced),
        {} if read_run_record(name) else task_params(model.config, task, languages),
        decoder_start_token_id(tokenizer, languages[1]),
    )
    prefix = default_prefix(model.config, task, options.prefix, languages)
    return LoadedModel(model, tokenizer, prefix, longest_source(options.max_source_length or LONGEST, model))


def longest_source(asked: int, model: PreTrainedModel) -> int:
    """Most tokens of a source: as asked for, and no more than the model has positions."""
    return min(filter(None, (asked, architectures.max_positions(model.config)[0])))
