"""How the models of a run read its texts: the student and, where that is otherwise, the teacher."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, fields

import pyarrow as pa
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.config.loss_conflicts import position_conflicts
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.data.languages import language_codes, plain_code
from seq2seq_distill.data.teacher_inputs import teacher_run_config
from seq2seq_distill.data.texts import Texts
from seq2seq_distill.data.token_columns import list_column
from seq2seq_distill.data.tokenization.prefixes import default_prefix
from seq2seq_distill.data.tokenization.tokenizer_comparison import check_same_tokenizer, only_sources_differ
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer, pad_id
from seq2seq_distill.models import architectures
from seq2seq_distill.training.student import student_path
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.errors import ModelError, raise_config_error

logger = logging.getLogger(__name__)

OTHER_TOKENS = (
    "distributions over other tokens teach it nothing; let the teacher write the targets (`distill label`), and train "
    "on them with `method` sft and without `teacher`"
)


@dataclass(frozen=True)
class EncodedView:
    """How a model reads the texts of a run."""

    tokenizer: PreTrainedTokenizerBase
    data: EncodedSplits


@dataclass(frozen=True)
class _ViewSettings:
    """What decides the tokens of a model's sources."""

    tokenizer: PreTrainedTokenizerBase
    prefix: str
    length: int | None


def students_tokenizer(config: RunConfig, teachers: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer of a student that learns from a teacher: the teacher's, unless its own reads sources otherwise.

    Raises ModelError: its own has other target tokens.
    """
    path = student_path(config)
    if path is None:
        return teachers
    tokenizer = load_tokenizer(path, config.src_lang, config.tgt_lang, field="student.path")
    if only_sources_differ(tokenizer, teachers):
        return tokenizer
    check_same_tokenizer(tokenizer, teachers, remedy=OTHER_TOKENS)
    return teachers


def teachers_tokenizer(config: RunConfig, path: str | None, usual: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """`usual`, loaded from `path`, or the same with the language of `--teacher_source.src_lang`.

    Raises ConfigError: it does not know that language.
    """
    language = config.teacher_source.src_lang
    if path is None or language is None or not language_codes(usual) or plain_code(language) == usual.src_lang:
        return usual
    return load_tokenizer(path, language, config.tgt_lang, src_field="teacher_source.src_lang")


def encode_texts(
    config: RunConfig,
    texts: Texts,
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
) -> tuple[EncodedView, EncodedView]:
    """The student's and the teacher's view of a task's texts: one and the same, unless the teacher reads differently.

    Batches of the student's view then bring the teacher's sources too, where the teacher teaches. With noise it reads
    the clean ones.

    Args:
        config: the run's.
        texts: the run's.
        tokenizers: the student's and the teacher's.
        student: the student.
        teacher: the teacher, if there is one.

    Raises:
        ConfigError: sources differ, and states of source positions are to be compared.
        ModelError: targets differ.
    """
    theirs, first = teacher_run_config(config), teacher or student  # the first one's config says the prefix
    positions = [architectures.max_positions(model.config) for model in (student, first)]
    sources, target = [limit[0] for limit in positions], _smallest(limit[1] for limit in positions)
    if config.teacher_source.max_length is None:  # as the student's, so that both can read it
        sources = [_smallest(sources)] * 2
    views = [
        _ViewSettings(tokenizer, _prefix(own, first, tokenizer), _smallest((own.encode.max_source_length, limit)))
        for own, tokenizer, limit in zip((config, theirs), tokenizers, sources, strict=True)
    ]

    def encoded(config: RunConfig, view: _ViewSettings, *readers: PreTrainedModel | None) -> EncodedSplits:
        extras = {name for model in readers if model is not None for name in architectures.extra_inputs(model.config)}
        collate = Collator(pad_id(view.tokenizer, first.config), tuple(extras))
        limits = (view.length, target)
        return EncodedSplits(config, texts, view.tokenizer, collate, prefix=view.prefix, max_positions=limits)

    data = encoded(config, views[0], student, teacher if views[0] == views[1] else None)
    student_view = EncodedView(tokenizers[0], data)
    if teacher is None or (views[0] == views[1] and not config.noise.is_on):
        return student_view, student_view
    if views[0] == views[1]:
        data.teachers = data.clean() if config.method == "kd" else None
        return student_view, EncodedView(tokenizers[1], data.clean())
    raise_config_error([problem.message for problem in position_conflicts(config)])
    if is_rank_zero():
        _log_differences(*views)
    teacher_view = EncodedView(tokenizers[1], encoded(theirs, views[1], teacher))
    _check_targets(config, data, teacher_view.data)
    data.teachers = teacher_view.data if config.method == "kd" else None
    return student_view, teacher_view


def _prefix(config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    languages = (config.src_lang, config.tgt_lang)
    return default_prefix(model.config, str(config.task), config.encode.prefix, languages, tokenizer)


def _log_differences(student: _ViewSettings, teacher: _ViewSettings) -> None:
    differing = [
        field.name for field in fields(_ViewSettings) if getattr(student, field.name) != getattr(teacher, field.name)
    ]
    logger.info(
        "student and teacher read different sources, each by its own %s; targets are the same", " and ".join(differing)
    )


def _check_targets(config: RunConfig, data: EncodedSplits, teachers: EncodedSplits) -> None:
    """Probe texts tell most tokenizers apart, the data tells what is left."""
    for split, encoded in data.encoded.items():
        rows, others = (
            list_column(each, "labels").cast(pa.list_(pa.int32())) for each in (encoded, teachers.encoded[split])
        )
        if not rows.equals(others):
            raise ModelError(
                f"`student.path` {config.student.path}: its tokenizer gives the targets of the {split} split other "
                f"tokens than the teacher's: {OTHER_TOKENS}"
            )


def _smallest(limits: Iterable[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None
