"""What a verb works on: a model, what its run says of it, and the sources as the model reads them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.data.encode import default_prefix
from seq2seq_distill.data.tokenizers import check_json, forced_bos_token_id, load_tokenizer
from seq2seq_distill.errors import ConfigError
from seq2seq_distill.generation import GenerationSettings
from seq2seq_distill.models import families
from seq2seq_distill.models.student import load_student
from seq2seq_distill.run.outdir import OutputFolder
from seq2seq_distill.tool_config import ExportConfig, LabelConfig

Config = TypeVar("Config", ExportConfig, LabelConfig)


def with_run(config: Config, remedy: str) -> Config:
    """The config; of a model that a run or an export made, with its task, data and languages where it says nothing.

    Raises:
        ConfigError: there is no data; the line ends with `remedy`.
    """
    run = export_record(config.model)
    run = run or OutputFolder(Path(config.model).expanduser().resolve().parent).read_run()
    said: dict[str, Any] = {name: getattr(config, name) or run.get(name) for name in ("task", "src_lang", "tgt_lang")}
    said["data"] = config.data or run.get("data") or []
    config = replace(config, **said)
    if not config.data:
        raise ConfigError(f"--data is missing: {remedy}")
    return config


def export_record(model: str) -> dict[str, Any]:
    """What `distill export` says of the model in a folder that it made; empty for any other folder or id."""
    path = Path(model).expanduser() / "export.json"
    check_json(path, f"--model {model}")
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def load_model(config: ExportConfig | LabelConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in float32, and its tokenizer."""
    path = demo.model_source(config.model)
    model = load_student(path, torch.float32, flag="--model")
    return model, load_tokenizer(path, config.src_lang, config.tgt_lang, flag="--model")


def prefix_of(config: ExportConfig | LabelConfig, model: PreTrainedModel) -> str:
    """Text put before every source."""
    return default_prefix(model.config, str(config.task), config.prefix, (config.src_lang, config.tgt_lang))


def longest_source(config: ExportConfig | LabelConfig, model: PreTrainedModel) -> int:
    """Most tokens of a source: as asked for, and no more than the model has positions."""
    return min(filter(None, (config.max_source_length, families.max_positions(model.config)[0])))


def decoding_settings(
    config: ExportConfig | LabelConfig, own: GenerationConfig, tokenizer: PreTrainedTokenizerBase
) -> GenerationSettings:
    """How to decode, by the config and the target language; `own` is the model's generation config."""
    return GenerationSettings(
        beams=config.beams,
        max_length=config.max_target_length,
        forced_bos_token_id=forced_bos_token_id(tokenizer, config.tgt_lang, own),
    )
