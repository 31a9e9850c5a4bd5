"""What a task's outputs are scored by: the one table of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from seq2seq_distill.utils.errors import ConfigError

RougeTokenizer = Literal["default", "unicode"]
"""Tokenizer of ROUGE: "default" keeps a-z and 0-9 and stems; "unicode" keeps the letters of every script."""


@dataclass(frozen=True)
class TaskSpec:
    """The scores of a task, by the names that they have in logs and results.json."""

    metrics: tuple[str, ...]
    """All scores over a corpus, from 0 to 100; larger is better."""
    monitor: str
    """Chooses the best student, where `eval.monitor` is not given."""
    main: str
    """The score of charts."""
    per_example: str
    """The score of an output by itself."""

    @property
    def monitors(self) -> tuple[str, ...]:
        """Values that can choose the best student."""
        return (*self.metrics, "loss")


TASKS: Final[Mapping[str, TaskSpec]] = MappingProxyType(
    {
        "summarization": TaskSpec(
            metrics=("rouge1", "rouge2", "rougeL", "rougeLsum"), monitor="rouge2", main="rougeL", per_example="rougeL"
        ),
        "translation": TaskSpec(metrics=("bleu", "chrf"), monitor="bleu", main="bleu", per_example="chrf"),
    }
)
METRICS: Final = tuple(metric for task in TASKS.values() for metric in task.metrics)
"""The scores of all tasks."""
TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rouge1": "ROUGE-1",
        "rouge2": "ROUGE-2",
        "rougeL": "ROUGE-L",
        "rougeLsum": "ROUGE-Lsum",
        "bleu": "BLEU",
        "chrf": "chrF2",
    }
)
"""Scores as tables call them."""


def monitor_mode(name: str) -> str:
    """Whether a larger or a smaller value is better: "max" or "min". A leading "val_" is ignored.

    Raises:
        ConfigError: the name is neither that of a score nor that of a loss.
    """
    value = name.removeprefix("val_")
    if value in METRICS:
        return "max"
    if "loss" in value.split("_"):
        return "min"
    raise ConfigError(f"`eval.monitor` {name} is not known: choose one of {', '.join((*METRICS, 'loss'))}")
