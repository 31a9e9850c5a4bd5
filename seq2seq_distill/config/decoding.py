"""Options of decoding with a model: the same, with the same defaults, for every command that decodes."""

from dataclasses import dataclass
from typing import Any, Literal

from seq2seq_distill.config.bounds import at_least, between, option

MAX_SOURCE_LENGTH, MAX_TARGET_LENGTH = 1024, 142
"""Tokens, where neither the command nor a run says anything else."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a model searches."""

    beams: int | None = option(None, between(1, 1000))
    """Number of beams (default: the run's, or from the model's generation config)."""


@dataclass(frozen=True, kw_only=True)
class DecodingOptions(SearchOptions):
    """What a model reads, and how it decodes. What is left out is taken from the run or export that the model is of."""

    task: Literal["summarization", "translation"] | None = None
    """Task that selects the prefix, the decoding settings and the metrics (default: the run's)."""
    src_lang: str | None = None
    """Source language (default: the run's)."""
    tgt_lang: str | None = None
    """Target language (default: the run's)."""
    prefix: str | None = option(None, free_text=True)
    """Text put before every source (default: the run's, or the prefix in the model's config for the task, if any, as in
    T5)."""
    length_penalty: float | None = option(None, between(-100, 100))
    """Length penalty of beam search (default: the run's, or from the model's generation config)."""
    generate: dict[str, Any] = option({})
    """Other options of transformers' generate, such as {"no_repeat_ngram_size": 3} (default: the run's)."""
    max_source_length: int | None = option(None, at_least(2))
    """Maximum source length in tokens, never more than the model has positions; longer sources are truncated (default:
    the run's, or 1024)."""
    max_target_length: int | None = option(None, at_least(1))
    """Maximum number of tokens to generate (default: the run's, or 142)."""

    @property
    def source_limit(self) -> int:
        """Most tokens of a source."""
        return self.max_source_length or MAX_SOURCE_LENGTH

    @property
    def target_limit(self) -> int:
        """Most tokens to generate."""
        return self.max_target_length or MAX_TARGET_LENGTH
