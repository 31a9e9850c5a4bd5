"""`distill trim`: a model with a smaller vocabulary."""

import logging
from dataclasses import asdict
from typing import Any

from seq2seq_distill import demo
from seq2seq_distill.commands.inputs import load_rows, with_run_defaults
from seq2seq_distill.commands.trim.options import TrimOnlyConfig
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import has_split
from seq2seq_distill.data.tokenization.prefixes import default_prefix
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.shrink.trimming import ParallelTexts
from seq2seq_distill.training.output_folder import check_free
from seq2seq_distill.training.trimming import save_trimmed
from seq2seq_distill.utils.distributed import local_device
from seq2seq_distill.utils.errors import ModelError

logger = logging.getLogger(__name__)


def trim(config: TrimOnlyConfig) -> dict[str, Any]:
    """Save the trimmed model with its tokenizer and trimming.json, whose content is returned.

    Raises:
        UserError: the model or the data cannot be read, the vocabulary cannot be cut, or the folder cannot be written.
    """
    config = with_run_defaults(config, read_run_record(config.model), "name the texts that the model is to write")
    target, path = check_free(config.folder), demo.model_source(config.model, "model")
    texts, held_out = _texts(config, "train"), None
    if any(has_split(demo.data_source(name), "val") for name in config.data):
        held_out = _texts(config, "val")
    languages = config.src_lang, config.tgt_lang
    model = load_pretrained(path, "auto", field="model")
    model.to(local_device())  # type: ignore[arg-type]
    tokenizer = load_tokenizer(path, *languages, field="model")
    prefix = default_prefix(model.config, str(config.task), config.prefix, languages, tokenizer)
    try:
        report = save_trimmed(
            target, model, tokenizer, texts, held_out, config.trim, prefixes=[prefix], made_of=asdict(config)
        )
    except ModelError as error:
        raise ModelError(f"`model` {config.model}: {error}") from None
    logger.info("saved a model of %s parameters to %s", f"{report['parameters']['after']:,}", config.folder)
    return report


def _texts(config: TrimOnlyConfig, split: str) -> ParallelTexts:
    columns = Columns(config.source_column, config.target_column, config.src_lang, config.tgt_lang, group="")
    rows = load_rows(config.data, split, columns)
    return ParallelTexts(rows["source"], rows["target"])
