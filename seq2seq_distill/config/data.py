"""Options of the data: from text to batches, and one task among several."""

from dataclasses import dataclass
from typing import Literal

from seq2seq_distill.config.bounds import at_least, between, matching, option

TASK_NAME = r"[A-Za-z0-9_-]{1,64}"


@dataclass(frozen=True)
class EncodeConfig:
    """Tokenization: from text to token ids.

    Examples:
        >>> from seq2seq_distill import EncodeConfig
        >>> EncodeConfig(max_source_length=512, prefix="summarize: ").max_target_length
        56
    """

    max_source_length: int = option(1024, at_least(2))
    """Maximum source length in tokens, never more than the model has positions; longer sources are truncated."""
    max_target_length: int = option(56, at_least(2))
    """Maximum length of a training target in tokens; longer targets are truncated."""
    prefix: str | None = option(None, free_text=True)
    """Text put before every source (default: the prefix in the teacher's config for the task, if any, as in T5)."""
    source_column: str | None = None
    """Column with the source texts in JSONL, CSV, Parquet or hub data (default: recognised by its name)."""
    target_column: str | None = None
    """Column with the target texts in JSONL, CSV, Parquet or hub data (default: recognised by its name)."""
    n_train: int | None = option(None, at_least(1))
    """Train on only the first N examples (default: all)."""
    verify: bool = False
    """Reread data files even if their size, modification time and inode are unchanged since they were cached."""
    workers: int | None = option(None, between(1, 1024))
    """Number of processes that tokenize (default: one for each core, divided among the processes of a machine)."""


@dataclass(frozen=True)
class BatchConfig:
    """Batching. Sizes count one optimiser step, over all processes and accumulated micro-batches.

    Examples:
        >>> from seq2seq_distill import BatchConfig
        >>> BatchConfig(max_tokens=8192).group_by_length
        True
    """

    size: int = option(32, at_least(1))
    """Number of examples per optimiser step, over all processes and accumulated micro-batches."""
    max_tokens: int | None = option(None, at_least(1))
    """Maximum number of source and target tokens per optimiser step, padding included; replaces --batch.size."""
    group_by_length: bool = True
    """Group examples of similar length to reduce padding; false shuffles only."""
    workers: int = option(0, between(0, 1024))
    """Number of data-loader processes per training process; 0 loads in the training process itself."""


@dataclass(frozen=True)
class TaskConfig:
    """One task of several; a key that is left out has the value of the whole run. docs/data.md has an example.

    Examples:
        >>> from seq2seq_distill import RunConfig, TaskConfig
        >>> news = TaskConfig(name="news", data=["news"], teacher="facebook/bart-large-xsum", task="summarization")
        >>> mails = TaskConfig(name="mails", data=["mails"], teacher="facebook/bart-large-cnn", task="summarization")
        >>> RunConfig(tasks=[news, mails]).sources
        ['news', 'mails']
    """

    name: str | None = option(None, matching(TASK_NAME, "use letters, digits, - and _, at most 64 of them"))
    """Name of the task in logs and results: letters, digits, - and _."""
    data: list[str] = option([])
    """Data sources of the task, in the form that --data takes."""
    teacher: str | None = None
    """Teacher of the task, with the same tokenizer as all other teachers (default: --teacher)."""
    task: Literal["summarization", "translation"] | None = None
    """Task that the student learns from this data (default: --task)."""
    prefix: str | None = option(None, free_text=True)
    """Text put before every source of the task (default: --encode.prefix)."""
    src_lang: str | None = None
    """Source language of the task (default: --src_lang)."""
    tgt_lang: str | None = None
    """Target language of the task (default: --tgt_lang)."""
