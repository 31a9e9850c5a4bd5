"""The rows that commands read, and the options that they take from the run or export behind a model."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from datasets import Dataset

from seq2seq_distill import demo
from seq2seq_distill.config.run_record import Options, task_of_run, with_recorded_options
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import ANY_COLUMNS, has_split
from seq2seq_distill.data.texts import map_rows
from seq2seq_distill.utils.errors import ConfigError


class DataOptions(Options, Protocol):
    """The options of a command about data and a model that decodes it."""

    @property
    def data(self) -> list[str]: ...


Config = TypeVar("Config", bound=DataOptions)


def with_run_defaults(config: Config, record: dict[str, Any], remedy: str) -> Config:
    """The config with what `with_recorded_options` fills in, of the task with its data.

    Args:
        config: the options of a command.
        record: run.yaml or export.json of the run or export that the model is of; empty for any other model.
        remedy: the end of the message where there is no data.

    Raises:
        ConfigError: there is no data.
    """
    config = with_recorded_options(config, task_of_run(record, config.data))
    if not config.data:
        raise ConfigError(f"`data` is missing: {remedy}")
    return config


def load_shots(sources: Sequence[str], count: int, columns: Columns) -> list[tuple[str, str]]:
    """Pairs for the prompts of a language model, evenly spaced over the val split or, where none is there, train.

    Raises:
        ConfigError: there are fewer.
        DataError: a source cannot be read, or has no targets.
    """
    has_val = any(has_split(demo.data_source(name), "val") for name in sources)
    pairs = load_rows(sources, "val" if has_val else "train", columns)
    if len(pairs) < count:
        raise ConfigError(f"`shots` {count - 1} needs {count} pairs, and there are {len(pairs)}: lower it")
    chosen = pairs[[(2 * i + 1) * len(pairs) // (2 * count) for i in range(count)]]
    return list(zip(chosen["source"], chosen["target"], strict=True))


def load_rows(sources: Sequence[str], split: str, columns: Columns = ANY_COLUMNS) -> Dataset:
    """The rows of `map_rows`."""
    return map_rows(sources, split, columns)[0]
