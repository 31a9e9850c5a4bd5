"""The options of `distill trim`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seq2seq_distill.config.bounds import option
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.config.trimming import TrimConfig, trim_conflicts


@dataclass(frozen=True)
class TrimOnlyConfig:
    """Reduce the vocabulary of a model to the pieces that given texts need, and save it in Hugging Face format."""

    model: str = option("", required=True)
    """Model to trim: a Hugging Face folder or hub id."""
    data: list[str] = option([])
    """Data sources, in the form of a run's --data: the training split determines which pieces are kept, the validation
    split shows what is lost (default: the data of the model's run)."""
    output_dir: str = option("", required=True)
    """Folder in which the trimmed model is saved."""
    task: Literal["summarization", "translation"] | None = None
    """Task that selects the prefix of sources (default: the run's)."""
    src_lang: str | None = None
    """Source language (default: the run's)."""
    tgt_lang: str | None = None
    """Target language (default: the run's)."""
    prefix: str | None = option(None, free_text=True)
    """Text put before every source (default: the run's, or the prefix in the model's config for the task, if any, as in
    T5)."""
    source_column: str | None = None
    """Column with the source texts (default: recognised by its name)."""
    target_column: str | None = None
    """Column with the target texts (default: recognised by its name)."""
    trim: TrimConfig = field(default_factory=TrimConfig)

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return Path(self.output_dir).expanduser()

    def conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        if not self.trim.is_on and not self.trim.separate and not self.trim.languages:
            yield Problem(
                ("trim.coverage", "trim.size"),
                "`trim.coverage` and `trim.size` are missing: give one, such as `trim.coverage` 0.9999",
            )
        yield from trim_conflicts(self.trim)
