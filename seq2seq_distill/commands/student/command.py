"""`distill student`: cut a student from its teacher and save it, without training."""

import logging

from seq2seq_distill import demo
from seq2seq_distill.commands.student.options import StudentOnlyConfig
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_of
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.shrink.student import cut_student
from seq2seq_distill.training.output_folder import check_free, save_model

logger = logging.getLogger(__name__)


def make_student(config: StudentOnlyConfig) -> None:
    """Save the student with the teacher's tokenizer, in Hugging Face format.

    Raises:
        UserError: the teacher cannot be loaded, has no such layers, or the folder cannot be written.
    """
    target = check_free(config.folder)
    path = demo.model_source(config.teacher)
    student = cut_student(config.student, load_pretrained(path, field="teacher"))
    save_model(target, student, tokenizer_of(path, "teacher"))
    logger.info("saved a student of %s parameters to %s", f"{student.num_parameters():,}", config.folder)
