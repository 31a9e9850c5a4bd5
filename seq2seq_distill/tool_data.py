"""What verbs read beside their options: the run that a model is from, rows of data, and models ready to decode."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.data.encode import default_prefix, task_params
from seq2seq_distill.data.sources import has_split, load_split
from seq2seq_distill.data.tokenizers import decoder_start_token_id, forced_bos_token_id, load_tokenizer
from seq2seq_distill.errors import ConfigError, DataError
from seq2seq_distill.generation import GenerationSettings, settle
from seq2seq_distill.models import families
from seq2seq_distill.models.student import load_student
from seq2seq_distill.run.outdir import OutputFolder


@dataclass(frozen=True)
class Loaded:
    """A model ready to decode."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: GenerationConfig
    """How it decodes."""
    prefix: str
    """Put before every source."""
    max_source_length: int
    """Longest source that it takes, in tokens."""


def run_of(model: str) -> dict[str, Any]:
    """What the run.yaml says of the run whose folder a model, or a file, lies in; empty if there is none."""
    path = Path(model).expanduser()
    return OutputFolder(path.resolve().parent).read_run() if path.exists() else {}


def load_rows(
    sources: Sequence[str], split: str, columns: tuple[str | None, str | None], languages: tuple[str | None, str | None]
) -> Dataset:
    """The columns source and target of a split, of all sources that have it, in order.

    Raises:
        DataError: a source cannot be read, none has the split, or it has no rows.
    """
    places = [str(demo.resolve_data(name)) if demo.is_demo(name) else name for name in sources]
    parts = [
        load_split(
            place,
            split,
            source_column=columns[0],
            target_column=columns[1],
            src_lang=languages[0],
            tgt_lang=languages[1],
        )
        for place in [place for place in places if has_split(place, split)] or places
    ]
    rows = concatenate_datasets(parts)
    if not len(rows):
        raise DataError(f"--data {' '.join(sources)}: the {split} split has no examples: give another source")
    return rows


def load_model(
    name: str,
    flag: str,
    task: str,
    languages: tuple[str | None, str | None],
    settings: GenerationSettings,
    *,
    prefix: str | None = None,
    max_source_length: int = 1024,
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """A Hugging Face folder, hub id or demo teacher, set to decode as `settings` say and else as it does by itself.

    A run has written into its model how it decodes; of any other what its config says of the task comes first.

    Raises:
        ModelError, ConfigError: in one line that opens with `flag`, or with the flag of a language.
    """
    path = str(demo.resolve_teacher(name)) if demo.is_demo(name) else name
    model = load_student(path, dtype, flag=flag)
    tokenizer = load_tokenizer(path, *languages, flag=flag)
    forced = forced_bos_token_id(tokenizer, languages[1], model.generation_config)
    params = {} if run_of(name) else task_params(model.config, task, languages)
    settle(
        model,
        replace(settings, forced_bos_token_id=forced),
        params,
        decoder_start_token_id(tokenizer, languages[1]),
    )
    longest = min(filter(None, (max_source_length, families.max_positions(model.config)[0])))
    return Loaded(
        model, tokenizer, model.generation_config, default_prefix(model.config, task, prefix, languages), longest
    )


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prefix: str, max_length: int
) -> list[list[int]]:
    """Token ids of each source, special tokens included; one that is too long loses its end."""
    encoded = tokenizer([prefix + text for text in texts], truncation=True, max_length=max_length)
    return [list(ids) for ids in encoded["input_ids"]]


def device_of(name: str) -> torch.device:
    """The device of `--device`: auto is a GPU where there is one, this process's own among several."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch sees no GPU here: choose cpu, or auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
