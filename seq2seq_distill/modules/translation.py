"""The student in training, judged by BLEU and chrF."""

from typing import ClassVar

from seq2seq_distill.modules.summarization import SummarizationModule


class TranslationModule(SummarizationModule):
    """As `SummarizationModule`, for translation."""

    task: ClassVar[str] = "translation"
