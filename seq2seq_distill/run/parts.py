"""What a run is put together from: texts, tokenizer, teacher, student, encoded data."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig, StudentConfig
from seq2seq_distill.data.datamodule import Seq2SeqData, Texts, joined, load_texts
from seq2seq_distill.data.encode import Collator, default_prefix, task_params
from seq2seq_distill.data.tokenizers import decoder_start_token_id, forced_bos_token_id, load_tokenizer, train_tokenizer
from seq2seq_distill.errors import ModelError
from seq2seq_distill.generation import settle
from seq2seq_distill.models import families
from seq2seq_distill.models.layer_map import check_depth
from seq2seq_distill.models.student import create_student, fresh_student, load_student, same_tokenizer
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.modules.summarization import freeze_parts, generation_settings

OTHER_TOKENS = (
    "distributions over other tokens teach it nothing; let the teacher write the targets (`distill label`), and train "
    "on them with --method sft and without --teacher"
)


@dataclass(frozen=True)
class TaskParts:
    """One of a run's several tasks."""

    name: str
    config: RunConfig
    """The run's, as if the task were alone."""
    tokenizer: PreTrainedTokenizerBase
    """Its languages are the task's."""
    teacher: Teacher | None
    data: Seq2SeqData
    generations: tuple[GenerationConfig, GenerationConfig | None]
    """How student and teacher decode."""

    @contextmanager
    def settled(self, student: PreTrainedModel) -> Iterator[None]:
        """Inside, student and teacher decode as for this task."""
        models = [student, *([self.teacher.model] if self.teacher else [])]
        before = [model.generation_config for model in models]
        for model, own in zip(models, self.generations, strict=False):
            model.generation_config = own or model.generation_config
        try:
            yield
        finally:
            for model, own in zip(models, before, strict=True):
                model.generation_config = own


@dataclass(frozen=True)
class Parts:
    """What a run is put together from; of several tasks, tokenizer and teacher are the first one's, data are of all."""

    tokenizer: PreTrainedTokenizerBase
    teacher: Teacher | None
    student: PreTrainedModel
    data: Seq2SeqData
    further: tuple[Teacher, ...] = ()
    """Teachers besides the first."""
    tasks: tuple[TaskParts, ...] = ()
    """Empty if there is one only."""

    @property
    def teachers(self) -> list[Teacher]:
        """All of the run, each once."""
        own = (self.teacher, *self.further, *(task.teacher for task in self.tasks))
        return list(dict.fromkeys(teacher for teacher in own if teacher is not None))


def build_parts(config: RunConfig) -> Parts:
    """Load or make everything that does not depend on processes: texts, tokenizer, teacher, student, encoded data."""
    first, *others = config.each_task()
    texts = load_texts(first, [demo.data_source(name) for name in first.data or ()])
    tokenizer = _tokenizer(first, teacher_path(first), texts)
    teacher = teacher_of(first, tokenizer)
    student = _student(first, teacher, tokenizer)
    _freeze(first, student, teacher)
    cut = teacher is not None and not (first.student.path or first.student.config)
    untouched = copy.deepcopy(teacher.generation if teacher and cut else student.generation_config)
    _settle(first, student, tokenizer)
    model = teacher.model if teacher else student
    data = _data(first, texts, tokenizer, model, student)
    further = tuple(
        _further_teacher(config, path, tokenizer, model, "--ensemble.teachers") for path in config.ensemble.teachers
    )
    parts = Parts(tokenizer, teacher, student, data, further)
    return _with_tasks(config, parts, others, untouched) if config.tasks else parts


def _with_tasks(config: RunConfig, parts: Parts, others: Sequence[RunConfig], untouched: GenerationConfig) -> Parts:
    """The parts with those of several tasks, of which `parts` has the first.

    `untouched` is how the student would decode if there were no task.
    """
    student, first = parts.student, config.each_task()[0]
    teachers = {teacher_path(first): parts.teacher}
    theirs = parts.teacher.model.generation_config if parts.teacher else None
    generations = (student.generation_config, theirs)
    tasks = [TaskParts(str(config.tasks[0].name), first, parts.tokenizer, parts.teacher, parts.data, generations)]
    for entry, own in zip(config.tasks[1:], others, strict=True):
        path = teacher_path(own)
        if path not in teachers:
            model = parts.teacher.model if parts.teacher else student
            teachers[path] = _further_teacher(
                first, str(path), parts.tokenizer, model, f"--tasks {entry.name}, teacher"
            )
        tasks.append(_task(own, str(entry.name), parts, teachers[path], untouched))
    data = joined(config, [task.data for task in tasks])
    return replace(parts, data=data, tasks=tuple(tasks))


def _task(
    config: RunConfig, name: str, parts: Parts, teacher: Teacher | None, untouched: GenerationConfig
) -> TaskParts:
    """A task besides the first."""
    student = parts.student
    texts = load_texts(config, [demo.data_source(source) for source in config.data or ()])
    tokenizer = _tokenizer(config, teacher_path(config), texts)
    model = teacher.model if teacher else student
    theirs = _generation(config, teacher.model, tokenizer, teacher.generation) if teacher else None
    generations = (_generation(config, student, tokenizer, untouched), theirs)
    return TaskParts(name, config, tokenizer, teacher, _data(config, texts, tokenizer, model, student), generations)


def _generation(
    config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, untouched: GenerationConfig
) -> GenerationConfig:
    """How a model, which without a task would decode as `untouched`, decodes for this one; it stays as it is."""
    before, model.generation_config = model.generation_config, copy.deepcopy(untouched)
    try:
        _settle(config, model, tokenizer)
        return model.generation_config
    finally:
        model.generation_config = before


def _data(
    config: RunConfig,
    texts: Texts,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    student: PreTrainedModel,
) -> Seq2SeqData:
    """The encoded data of a task; `model` is the teacher, if there is one."""
    positions = [families.max_positions(m.config) for m in (model, student)]
    return Seq2SeqData(
        config,
        texts,
        tokenizer,
        Collator(pad_id(tokenizer, model), families.extra_inputs(student.config)),
        prefix=default_prefix(model.config, str(config.task), config.encode.prefix, (config.src_lang, config.tgt_lang)),
        max_positions=(_smallest(p[0] for p in positions), _smallest(p[1] for p in positions)),
    )


def teacher_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Teacher | None:
    """The run's teacher, ready to decode, if it has one."""
    path = teacher_path(config)
    if path is None:
        return None
    teacher = load_teacher(path, dtype=torch.float32)
    _settle(config, teacher.model, tokenizer)
    return teacher


def _further_teacher(
    config: RunConfig, path: str, tokenizer: PreTrainedTokenizerBase, first: PreTrainedModel, flag: str
) -> Teacher:
    """A teacher besides the first, named by `flag`.

    Raises:
        ModelError: it has other tokens, or starts decoding from another.
    """
    path = demo.model_source(path)
    its_tokenizer = load_tokenizer(path, config.src_lang, config.tgt_lang, flag=flag)
    same_tokenizer(its_tokenizer, tokenizer, flag=f"{flag} {path}", remedy="choose teachers of one tokenizer")
    teacher = load_teacher(path, dtype=torch.float32, flag=flag)
    _settle(config, teacher.model, tokenizer)
    sizes = [len(families.head_parts(model).weight) for model in (teacher.model, first)]
    starts = [families.decoder_start(model) for model in (teacher.model, first)]
    for what, (own, other) in {"output tokens": sizes, "as the id from which decoding starts": starts}.items():
        if own != other:
            raise ModelError(f"{flag} {path} has {own} {what}, --teacher {other}: choose teachers of one vocabulary")
    return teacher


def cut_student(wish: StudentConfig, teacher: PreTrainedModel) -> PreTrainedModel:
    """The student that is cut from the teacher's layers."""
    for side, depth in zip(("encoder", "decoder"), families.depths(teacher.config), strict=True):
        wanted = getattr(wish, f"{side}_layers")
        if wanted is not None:
            check_depth(depth, wanted, f"--student.{side}_layers")
    named = ("dropout", "attention_dropout", "encoder_layerdrop", "decoder_layerdrop")
    overrides = {name: getattr(wish, name) for name in named if getattr(wish, name) is not None}
    return create_student(
        teacher,
        wish.encoder_layers,
        wish.decoder_layers,
        encoder_layer_ids=wish.encoder_layer_ids,
        decoder_layer_ids=wish.decoder_layer_ids,
        choice=wish.choice,
        overrides={**overrides, **wish.overrides},
    )


def teacher_path(config: RunConfig) -> str | None:
    """Folder or hub id of the run's teacher; that of a built-in one is in the package."""
    return None if config.teacher is None else demo.model_source(config.teacher)


def _settle(config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    settings = replace(
        generation_settings(config),
        forced_bos_token_id=forced_bos_token_id(tokenizer, config.tgt_lang, model.generation_config),
    )
    params = task_params(model.config, str(config.task), (config.src_lang, config.tgt_lang))
    settle(model, settings, params, decoder_start_token_id(tokenizer, config.tgt_lang))


def _tokenizer(config: RunConfig, teacher: str | None, texts: Texts) -> PreTrainedTokenizerBase:
    student = config.student
    if teacher:
        return load_tokenizer(teacher, config.src_lang, config.tgt_lang)
    if student.path:
        return load_tokenizer(student.path, config.src_lang, config.tgt_lang, flag="--student.path")
    if student.vocab_size:
        lines = (text for column in ("source", "target") for text in texts.splits["train"][column])
        return train_tokenizer(lines, student.vocab_size)
    return load_tokenizer(str(student.config), config.src_lang, config.tgt_lang, flag="--student.config")


def _student(config: RunConfig, teacher: Teacher | None, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    wish = config.student
    if wish.path:
        student = load_student(wish.path)
        if teacher is not None:
            own = load_tokenizer(wish.path, config.src_lang, config.tgt_lang, flag="--student.path")
            same_tokenizer(own, tokenizer, remedy=OTHER_TOKENS)
        return student
    if wish.config:
        return fresh_student(wish.config, len(tokenizer), tokenizer)
    assert teacher is not None  # RunConfig.check
    return cut_student(wish, teacher.model)


def _freeze(config: RunConfig, student: PreTrainedModel, teacher: Teacher | None) -> None:
    """As asked; by default an encoder that is the teacher's, unchanged, is frozen together with the embeddings."""
    wish = config.student
    whole = False
    if teacher is not None and not (wish.path or wish.config):
        every_layer = range(families.depths(teacher.model.config)[0])
        whole = list(student.config.distilled_encoder_layers) == list(every_layer)
    encoder = whole if wish.freeze_encoder is None else wish.freeze_encoder
    embeddings = encoder if wish.freeze_embeds is None else wish.freeze_embeds
    freeze_parts(student, encoder=encoder, embeddings=embeddings)


def pad_id(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """What fills sources up. Raises ModelError: neither tokenizer nor model has a pad token."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else model.config.pad_token_id
    if pad is None:
        raise ModelError("the tokenizer has no pad token: set pad_token_id in the model's config")
    return int(pad)


def _smallest(limits: Any) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None
