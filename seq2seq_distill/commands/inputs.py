"""The rows that commands read, and the options that they take from the run or export behind a model."""

from collections.abc import Sequence
from dataclasses import Field, replace
from typing import Any, ClassVar, Protocol, TypeVar

from datasets import Dataset, concatenate_datasets

from seq2seq_distill import demo
from seq2seq_distill.config.run_record import read_run_record, task_of_run
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import ANY_COLUMNS, has_split, is_file, load_split
from seq2seq_distill.decoding.loading import export_record
from seq2seq_distill.utils.errors import ConfigError, DataError


class ModelOptions(Protocol):
    """The options of a command about one model and its data."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def model(self) -> str: ...
    @property
    def data(self) -> list[str]: ...


Config = TypeVar("Config", bound=ModelOptions)


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


def load_rows(sources: Sequence[str], split: str, columns: Columns = ANY_COLUMNS) -> Dataset:
    """The columns source and target of a split, of all sources that have it, in order.

    Files without a folder or hub data set among them have no splits: their rows are the data, whatever the split.

    Raises:
        DataError: a source cannot be read, none has the split, or it has no rows.
    """
    places = [demo.data_source(name) for name in sources]
    split = "train" if all(map(is_file, places)) else split
    having = [place for place in places if has_split(place, split)]
    # Where no source has the split, the error about the first source says what is missing.
    rows = concatenate_datasets([load_split(place, split, columns) for place in having or places[:1]])
    if not len(rows):
        raise DataError(f"`data` {' '.join(sources)}: the {split} split has no examples: give another source")
    return rows
