"""Trim a model for texts, and save it; a run trims its teacher before anything else."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig, TrimConfig
from seq2seq_distill.data.teacher_inputs import teacher_run_config
from seq2seq_distill.data.texts import Texts, load_texts
from seq2seq_distill.data.tokenization.prefixes import default_prefix
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.metrics.cost import count_parameters, model_bytes
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.shrink.trimming import SIDES, ParallelTexts, log_report, trim_vocabulary
from seq2seq_distill.training.device import device_of_run
from seq2seq_distill.training.output_folder import OutputFolder, save_model
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.errors import ModelError
from seq2seq_distill.utils.files import write_json
from seq2seq_distill.utils.locks import wait_until

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

REPORT = "trimming.json"
"""The last file of a trimmed model's folder: what it was made of, and what was lost."""


def save_trimmed(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: ParallelTexts,
    held_out: ParallelTexts | None,
    trim: TrimConfig,
    *,
    prefixes: Collection[str],
    made_of: dict[str, Any],
) -> dict[str, Any]:
    """Save the model with a smaller vocabulary, in Hugging Face format, and the report, which is returned.

    Raises:
        UserError: the vocabulary cannot be cut, or not so far.
    """
    trimmed = trim_vocabulary(
        model,
        tokenizer,
        texts,
        coverage=trim.coverage,
        size=trim.size,
        separate=trim.separate,
        languages=trim.languages,
        prefixes=prefixes,
        held_out=held_out,
    )
    models = {"before": model, "after": trimmed.model}
    report = {
        **trimmed.report,
        "parameters": {name: count_parameters(each) for name, each in models.items()},
        "bytes": {name: model_bytes(each) for name, each in models.items()},
    }
    log_report(report)
    save_model(folder, trimmed.model, trimmed.tokenizer)
    write_json(folder / REPORT, {"made_of": made_of, **report})
    return report


def with_trimmed_teacher(config: RunConfig) -> RunConfig:
    """The config with the trimmed teacher in place of the whole one, if `trim` says so, and without `trim`.

    Process 0 makes it, in `trimmed/` of the output folder, unless it is there already; the others wait.

    Raises:
        UserError: the teacher cannot be loaded, or its vocabulary cannot be cut.
    """
    if not config.trim.is_on:
        return config
    folder = OutputFolder(config.folder)
    texts = load_texts(config, [demo.data_source(name) for name in config.data or ()])
    wanted = {
        "teacher": config.teacher,
        **asdict(config.trim),
        **{name: getattr(config, name) for name in ("src_lang", "tgt_lang")},
        "prefixes": [config.encode.prefix, config.teacher_source.prefix],
        "texts": texts.fingerprint,
    }
    if is_rank_zero():
        if not _is_made(folder, wanted):
            trim_teacher(config, folder.trimmed, parallel(texts, "train"), parallel(texts, "val"), wanted)
            logger.info("the trimmed teacher is in %s", folder.trimmed)
    else:
        wait_until(lambda: _is_made(folder, wanted))
    return replace(config, teacher=str(folder.trimmed), trim=TrimConfig())


def parallel(texts: Texts, split: str) -> ParallelTexts:
    """The texts of a split."""
    return ParallelTexts(**{side: texts.splits[split][side] for side in SIDES})


def _is_made(folder: OutputFolder, wanted: dict[str, Any]) -> bool:
    """Whether the trimmed teacher is there.

    A run that has checkpoints goes on with the teacher that it has: if its data has changed, it is refused elsewhere.
    """
    file = folder.trimmed / REPORT
    if not file.is_file():
        return False
    try:
        made_of = json.loads(file.read_text("utf-8"))["made_of"]
    except (ValueError, KeyError, TypeError):
        return False
    return made_of == wanted or (
        {**made_of, "texts": wanted["texts"]} == wanted and any(folder.checkpoints.glob("*.ckpt"))
    )


def trim_teacher(
    config: RunConfig,
    folder: Path,
    texts: ParallelTexts,
    held_out: ParallelTexts | None = None,
    made_of: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Save a run's teacher, its vocabulary trimmed as `config.trim` says, in a folder; returns the report.

    Args:
        config: the run's.
        folder: where the model is saved.
        texts, held_out: as in `trim_vocabulary`.
        made_of: goes into the report, for later runs to compare.

    Raises:
        UserError: the teacher cannot be loaded, or its vocabulary cannot be cut.
    """
    path = demo.model_source(str(config.teacher))
    model = load_pretrained(path, "auto", field="teacher")
    model.to(device_of_run(config.trainer))  # type: ignore[arg-type]
    tokenizer = load_tokenizer(path, config.src_lang, config.tgt_lang)
    trim = config.trim
    if trim.languages is not None and config.teacher_source.src_lang is not None:
        trim = replace(trim, languages=[*trim.languages, config.teacher_source.src_lang])
    languages = (config.src_lang, config.tgt_lang)
    prefixes = [
        default_prefix(model.config, str(config.task), reader.encode.prefix, languages, tokenizer)
        for reader in (config, teacher_run_config(config))
    ]
    try:
        return save_trimmed(
            folder,
            model,
            tokenizer,
            texts,
            held_out,
            trim,
            prefixes=list(dict.fromkeys(prefixes)),
            made_of=made_of or {},
        )
    except ModelError as error:
        raise ModelError(f"`teacher` {config.teacher}: {error}") from None
