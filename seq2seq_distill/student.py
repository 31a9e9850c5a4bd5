"""`distill student`: cut a student from its teacher and save it, without training."""

import logging
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import StudentOnlyConfig
from seq2seq_distill.errors import ModelError
from seq2seq_distill.models.teacher import load_teacher
from seq2seq_distill.run.outdir import check_free, save_model
from seq2seq_distill.run.parts import cut_student

logger = logging.getLogger(__name__)


def make_student(config: StudentOnlyConfig) -> None:
    """Save the student with the teacher's tokenizer, in Hugging Face format.

    Raises:
        UserError: the teacher cannot be loaded, has no such layers, or the folder cannot be written.
    """
    check_free(config.folder)
    path = str(demo.resolve_teacher(config.teacher)) if demo.is_demo(config.teacher) else config.teacher
    student = cut_student(config.student, load_teacher(path).model)
    save_model(config.folder, student, tokenizer_of(path, "--teacher"))
    logger.info("saved a student of %s parameters to %s", f"{student.num_parameters():,}", config.folder)


def tokenizer_of(path: str | Path, flag: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model, as it was saved. Raises ModelError, in one line that opens with `flag`."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except Exception as error:  # no files, no network, a class that cannot be built: the library raises any type
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{flag} {path}: no tokenizer can be loaded from there ({reason}): save one there") from None
    # Without a file, some classes make a tokenizer of special tokens alone.
    if set(tokenizer.get_vocab()) <= {*tokenizer.all_special_tokens, "▁"}:
        raise ModelError(f"{flag} {path}: there is no tokenizer beside the model: save one there")
    return tokenizer
