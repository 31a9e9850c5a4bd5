"""Models ready to decode, with their tokenizer, prefix and limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.encoding import default_prefix, task_params
from seq2seq_distill.data.tokenizers import check_json, decoder_start_token_id, forced_bos_token_id, load_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings, configure_generation
from seq2seq_distill.decoding.likelihood import token_ids
from seq2seq_distill.models import architectures
from seq2seq_distill.models.loading import load_pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        """Token ids of source texts."""
        return token_ids(self.tokenizer, [self.prefix + text for text in texts], self.longest)


def export_record(model: str, field: str = "model") -> dict[str, Any]:
    """The export.json of a folder that `distill export` wrote; empty for any other folder or hub id."""
    path = Path(model).expanduser() / "export.json"
    check_json(path, f"`{field}` {model}")
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def load_model(
    name: str, field: str, options: DecodingOptions, settings: GenerationSettings, dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """Load a Hugging Face folder, hub id or demo teacher; what `settings` leave open is as the model has it.

    A run has written into its model how it decodes; for any other model, what its config says of the task comes first.

    Raises:
        ModelError, ConfigError: in one line that opens with `field`, or with the option of a language.
    """
    path, task, languages = demo.model_source(name), str(options.task), (options.src_lang, options.tgt_lang)
    model = load_pretrained(path, dtype, field=field)
    tokenizer = load_tokenizer(path, *languages, field=field)
    forced = forced_bos_token_id(tokenizer, languages[1], model.generation_config)
    configure_generation(
        model,
        replace(settings, forced_bos_token_id=forced),
        {} if read_run_record(name) else task_params(model.config, task, languages),
        decoder_start_token_id(tokenizer, languages[1]),
    )
    prefix = default_prefix(model.config, task, options.prefix, languages)
    return LoadedModel(model, tokenizer, prefix, longest_source(options.source_limit, model))


def longest_source(limit: int, model: PreTrainedModel) -> int:
    """Most tokens of a source: the limit, or the model's positions if these are fewer."""
    return min(filter(None, (limit, architectures.max_positions(model.config)[0])))
