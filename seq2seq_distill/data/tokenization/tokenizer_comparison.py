"""Whether two tokenizers give a text the same ids: compared on probe texts, special tokens and vocabularies."""

from itertools import zip_longest
from typing import Final

from transformers import PreTrainedTokenizerBase

from seq2seq_distill.utils.errors import ModelError

PROBES: Final = (
    "The quick brown fox, 3.14 times; jumped over the lazy dog's back!",
    "Übergrößenträger zahlten 1.000 € für Straße, naïve façade & señor.",
    "Быстрая лиса 北京的冬天很冷。 مرحبا بالعالم ไทย",
    "snake_case camelCase <n> </s> <pad> [SEP] \t tabs\nand lines",
)


def check_same_tokenizer(
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
    *,
    subject: str = "`student.path`",
    remedy: str = "choose models that share a tokenizer",
) -> None:
    """Check that two tokenizers give every text the same ids.

    Raises:
        ModelError: they do not; the line opens with `subject`, names the first difference, and ends with `remedy`.
    """
    difference = _first_difference(student, teacher)
    if difference:
        raise ModelError(f"{subject}: its tokenizer differs from the teacher's: {difference}: {remedy}")


def only_sources_differ(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers agree on targets but not on sources, such as Marian's with separate vocabularies."""
    return (
        _first_difference(student, teacher) is not None
        and _first_difference(student, teacher, targets_only=True) is None
    )


def _first_difference(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, *, targets_only: bool = False
) -> str | None:
    for text in PROBES:
        for side in ("text_target",) if targets_only else ("text", "text_target"):
            student_ids, teacher_ids = (tokenizer(**{side: text})["input_ids"] for tokenizer in (student, teacher))
            for position, (student_id, teacher_id) in enumerate(zip_longest(student_ids, teacher_ids)):
                if student_id != teacher_id:
                    student_token, teacher_token = _token(student, student_id), _token(teacher, teacher_id)
                    return f"in {text!r} token {position} is {student_token}, the teacher's {teacher_token}"
    for role in ("pad", "eos", "bos", "unk"):
        student_id, teacher_id = (getattr(tokenizer, f"{role}_token_id") for tokenizer in (student, teacher))
        if student_id != teacher_id:
            return f"{role} is {student_id}, the teacher's {teacher_id}"
    for target in (True,) if targets_only else (False, True):
        student_vocabulary, teacher_vocabulary = _vocabulary(student, target), _vocabulary(teacher, target)
        tokens = student_vocabulary.keys() | teacher_vocabulary.keys()
        differing = [token for token in tokens if student_vocabulary.get(token) != teacher_vocabulary.get(token)]
        if differing:
            token = min(differing)
            student_id, teacher_id = student_vocabulary.get(token), teacher_vocabulary.get(token)
            return f"the id of {token!r} is {student_id}, the teacher's {teacher_id}"
    return None


def _vocabulary(tokenizer: PreTrainedTokenizerBase, target: bool) -> dict[str, int]:
    """Ids by token; Marian's may have other ids for targets."""
    target_vocabulary: dict[str, int] | None = getattr(tokenizer, "target_encoder", None)
    return target_vocabulary if target and target_vocabulary is not None else tokenizer.get_vocab()


def _token(tokenizer: PreTrainedTokenizerBase, token_id: int | None) -> str:
    return "missing" if token_id is None else f"{token_id} {tokenizer.convert_ids_to_tokens(token_id)!r}"
