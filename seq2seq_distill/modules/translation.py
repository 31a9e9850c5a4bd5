"""The student in training, judged by BLEU and chrF."""

from typing import ClassVar

from seq2seq_distill.modules.summarization import SummarizationModule


class TranslationModule(SummarizationModule):
    """As `SummarizationModule`, for translation.

    Examples:
        >>> from seq2seq_distill import RunConfig, TranslationModule, create_student, load_teacher, load_tokenizer
        >>> from seq2seq_distill.demo import model_source
        >>> path = model_source("demo:translation")
        >>> teacher, tokenizer = load_teacher(path), load_tokenizer(path)
        >>> student = create_student(teacher.model, decoder_layers=1)
        >>> config = RunConfig(task="translation")
        >>> module = TranslationModule(student, tokenizer, config, total_steps=1000)
        >>> module.student.config.decoder_layers
        1
    """

    task: ClassVar[str] = "translation"
