"""What each of several tasks asks of the module that learns them all."""

from dataclasses import dataclass

from transformers import GenerationConfig

from seq2seq_distill.config.tasks import RougeTokenizer
from seq2seq_distill.models.teacher import Teacher


@dataclass(frozen=True)
class Task:
    """One task: its batches say its number as `task`, and a run with a single task does not."""

    kind: str
    """summarization or translation: how its outputs are scored."""
    tgt_lang: str | None
    """Target language, for the scores."""
    generation: GenerationConfig
    """How the student decodes."""
    teacher: Teacher | None = None
    """Whom the student learns from."""
    rouge_tokenizer: RougeTokenizer = "default"
    name: str = ""
    """In logs; empty if there are no others."""
