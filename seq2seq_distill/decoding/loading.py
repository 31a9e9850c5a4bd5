"""Models ready to decode, with their tokenizer, prefix and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.languages import (
    TARGET_TOKEN,
    decoder_start_token_id,
    forced_bos_token_id,
    is_same_language,
    target_prefix,
    target_tokens,
)
from seq2seq_distill.data.tokenization.prefixes import default_prefix, task_params
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import check_json, load_tokenizer
from seq2seq_distill.decoding.conversion import check_exported_options
from seq2seq_distill.decoding.generation import GenerationSettings, configure_generation, with_settings
from seq2seq_distill.models import architectures
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.utils.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LoadedModel:
    """A model with all that it takes to decode with it."""

    model: PreTrainedModel | None
    """None for an exported model, which is in the form of its engine."""
    tokenizer: PreTrainedTokenizerBase
    prefix: str
    """Put before every source."""
    max_length: int | None
    """Most tokens of a source; longer ones are truncated."""
    generation: GenerationConfig
    """How it decodes."""

    @property
    def torch_model(self) -> PreTrainedModel:
        """The model of transformers, which an exported model has not."""
        assert self.model is not None
        return self.model

    @cached_property
    def encoder(self) -> TextEncoder:
        """Encodes source texts."""
        return TextEncoder(self.tokenizer, "text", self.max_length, self.prefix)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of source texts."""
        return self.encoder.encode(texts).ids


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
    path, task, languages = demo.model_source(name, field), str(options.task), (options.src_lang, options.tgt_lang)
    model = load_pretrained(path, dtype, field=field)
    tokenizer = load_tokenizer(path, *languages, field=field)
    forced = forced_bos_token_id(tokenizer, languages[1], model.generation_config)
    configure_generation(
        model,
        replace(settings, forced_bos_token_id=forced),
        {} if read_run_record(name) else task_params(model.config, task, languages),
        decoder_start_token_id(tokenizer, languages[1]),
    )
    prefix = default_prefix(model.config, task, options.prefix, languages, tokenizer)
    return LoadedModel(model, tokenizer, prefix, longest_source(options.source_limit, model), model.generation_config)


def longest_source(limit: int, model: PreTrainedModel) -> int:
    """Most tokens of a source: the limit, or the model's positions if these are fewer."""
    return min(filter(None, (limit, architectures.max_positions(model.config)[0])))


def load_exported(
    folder: Path,
    field: str = "model",
    options: DecodingOptions | None = None,
    settings: GenerationSettings | None = None,
    *,
    within_export: bool = True,
) -> LoadedModel:
    """Tokenizer, prefix, limits and generation settings of a folder that `distill export` wrote.

    Args:
        folder: the folder.
        field: the option that names it.
        options: what a command says of sources; by default, and where it leaves something open, as exported.
        settings: how to decode; by default, and where they leave something open, as exported.
        within_export: whether lengths stay within those that the model was exported with, or else within its positions.

    Raises:
        ModelError, ConfigError: in one line that opens with `field`, or with the option of a language.
    """
    record = export_record(str(folder), field)
    if not record:
        raise ModelError(f"`{field}` {folder}: an exported model without export.json: export it again")
    options = options or DecodingOptions()
    if record.get("shortlist"):
        _check_languages(f"`{field}` {folder}", options, record)
    # The settings beside ONNX files are for programs that search greedily alone.
    generation = GenerationConfig.from_pretrained(folder, **record.get("search", {}))
    tokenizer = load_tokenizer(folder, options.src_lang, options.tgt_lang, field=field)
    source_limit, target_limit = record.get("max_positions") or (None, None)
    if within_export:
        source_limit, target_limit = record.get("max_source_length"), generation.max_length - 1
    configured = generation
    start = decoder_start_token_id(tokenizer, options.tgt_lang)
    if start not in (None, generation.decoder_start_token_id):
        raise ConfigError(
            f"`tgt_lang` {options.tgt_lang}: `{field}` {folder} was exported for {record.get('tgt_lang')}, with which "
            "its decoder starts: export it again for this language, or give the original model"
        )
    if settings is not None:
        forced = forced_bos_token_id(tokenizer, options.tgt_lang, generation)
        configured = with_settings(generation, replace(settings, forced_bos_token_id=forced), target_limit)
        engine = "onnxruntime" if record.get("format") == "onnx" else "CTranslate2"
        check_exported_options(f"`{field}` {folder}", options.generate, generation, engine)
    return LoadedModel(
        model=None,
        tokenizer=tokenizer,
        prefix=_exported_prefix(record, options, tokenizer),
        max_length=min(filter(None, (options.source_limit, source_limit))),
        generation=configured,
    )


def _check_languages(given: str, options: DecodingOptions, record: Mapping[str, Any]) -> None:
    """Raise ConfigError for languages other than those whose candidates a shortlist holds."""
    for name in ("src_lang", "tgt_lang"):
        wanted, exported = getattr(options, name), record.get(name)
        if wanted and exported and not is_same_language(wanted, exported):
            raise ConfigError(
                f"`{name}` {wanted}: {given} has a shortlist for {exported}: export it again for this language, or "
                "without a shortlist"
            )


def _exported_prefix(record: Mapping[str, Any], options: DecodingOptions, tokenizer: PreTrainedTokenizerBase) -> str:
    """The prefix of the options, or that of the export, with the target language of the options."""
    if options.prefix is not None:
        return options.prefix
    prefix = str(record.get("prefix") or "")
    if options.tgt_lang is None or not TARGET_TOKEN.match(prefix):
        return prefix
    tokens = target_tokens(tokenizer, "marian" if prefix.startswith(">>") else "t5")
    return target_prefix(tokens, options.tgt_lang)
