"""Options of what teachers read, how several are combined, and what a cache of their outputs holds."""

from dataclasses import dataclass
from typing import Literal

from seq2seq_distill.config.bounds import Range, at_least, between, for_each, option

MAX_WEIGHT = 1000
"""Of a teacher or a data source."""


@dataclass(frozen=True)
class EnsembleConfig:
    """Additional teachers with the same tokenizer as --teacher; docs/losses.md says how they are combined.

    Examples:
        >>> from seq2seq_distill import EnsembleConfig
        >>> EnsembleConfig(teachers=["teachers/b", "teachers/c"], weights=[2.0, 1.0, 1.0]).combine
        'probabilities'
    """

    teachers: list[str] = option([])
    """Additional teachers besides --teacher: Hugging Face folders or hub ids."""
    weights: list[float] | None = option(None, for_each(Range(0, MAX_WEIGHT, excludes_low=True)))
    """Weights of --teacher and of each additional teacher, in that order (default: equal weights)."""
    combine: Literal["probabilities", "logits", "best"] = "probabilities"
    """How teacher outputs are combined: averaged probabilities, averaged logits, or, per token, the teacher that
    assigns the label the highest probability."""


@dataclass(frozen=True)
class TeacherSourceConfig:
    """How the teacher's input differs from the student's; docs/data.md says what that changes.

    Examples:
        >>> from seq2seq_distill import RunConfig, TeacherSourceConfig
        >>> source = TeacherSourceConfig(prefix="translate English to German: ")
        >>> RunConfig(task="translation", teacher_source=source).teacher_source.max_length is None
        True
    """

    prefix: str | None = option(None, free_text=True)
    """Text put before every source that the teacher reads (default: --encode.prefix)."""
    max_length: int | None = option(None, at_least(2))
    """Maximum length of the teacher's source in tokens (default: --encode.max_source_length)."""
    src_lang: str | None = None
    """Source language, as the teacher's tokenizer names it (default: --src_lang)."""


@dataclass(frozen=True)
class CacheConfig:
    """What --teacher_cache stores of the teacher's distribution at each target position.

    Examples:
        >>> from seq2seq_distill import CacheConfig, RunConfig
        >>> RunConfig(task="translation", teacher_cache="cache", cache=CacheConfig(top_k=20)).cache.precision
        '8bit'
    """

    top_k: int = option(50, at_least(1))
    """Number of most probable tokens to cache per position; the remaining probability mass is stored as one value."""
    draws: int | None = option(None, between(1, 255))  # counts are stored in a byte each
    """Number of tokens per position to sample from the teacher's distribution and cache in place of the top k; the
    gradient is then unbiased."""
    precision: Literal["8bit", "float32"] = "8bit"
    """Numerical format of the cached top-k probabilities."""
