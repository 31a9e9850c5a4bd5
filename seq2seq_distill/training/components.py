"""The components of a run, task by task: texts, tokenizers, teachers, student, encoded data."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig, TrimConfig
from seq2seq_distill.data.encoded_splits import EncodedSplits, concat_tasks
from seq2seq_distill.data.languages import decoder_start_token_id, forced_bos_token_id
from seq2seq_distill.data.teacher_inputs import teacher_run_config
from seq2seq_distill.data.texts import Texts, load_texts
from seq2seq_distill.data.tokenization.prefixes import task_params
from seq2seq_distill.data.tokenization.tokenizer_comparison import check_same_tokenizer
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer, train_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings, configure_generation
from seq2seq_distill.models import forward
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.models.vocabulary_rows import drop_padding_rows
from seq2seq_distill.shrink.student import check_layout
from seq2seq_distill.training.model_card import model_card
from seq2seq_distill.training.output_folder import save_model
from seq2seq_distill.training.student import (
    freeze_student,
    is_cut,
    is_saved,
    make_student,
    narrow_student,
    student_path,
)
from seq2seq_distill.training.teacher_targets import with_teacher_targets
from seq2seq_distill.training.trimming import with_trimmed_teacher
from seq2seq_distill.training.views import EncodedView, encode_texts, students_tokenizer, teachers_tokenizer
from seq2seq_distill.utils.errors import DataError, ModelError, UserError


@dataclass(frozen=True)
class TaskComponents:
    """One task of a run: who teaches it, how student and teacher read its texts, and how they decode."""

    name: str
    """As in `tasks`; empty in a run without `tasks`."""
    config: RunConfig
    """The run's, as if the task were alone."""
    teacher: Teacher | None
    student_view: EncodedView
    teacher_view: EncodedView
    """The student's, unless the teacher reads the sources differently."""
    student_generation: GenerationConfig
    teacher_generation: GenerationConfig | None

    @contextmanager
    def generating_as_for_task(self, student: PreTrainedModel) -> Iterator[None]:
        """Within this context, student and teacher decode as for this task."""
        configs = {student: self.student_generation}
        if self.teacher is not None and self.teacher_generation is not None:
            configs[self.teacher.model] = self.teacher_generation
        before = {model: model.generation_config for model in configs}
        for model, generation in configs.items():
            model.generation_config = generation
        try:
            yield
        finally:
            for model, generation in before.items():
                model.generation_config = generation


@dataclass(frozen=True)
class RunComponents:
    """What a run is put together from."""

    student: PreTrainedModel
    tasks: tuple[TaskComponents, ...]
    """At least one."""
    data: EncodedSplits
    """Of all tasks."""
    extra_teachers: tuple[Teacher, ...] = ()
    """Teachers of an ensemble besides the task's own."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The student's; of several tasks, with the languages of the first."""
        return self.tasks[0].student_view.tokenizer

    @property
    def teacher(self) -> Teacher | None:
        """The teacher of the first task: the one that the student is cut from."""
        return self.tasks[0].teacher

    @property
    def teachers(self) -> list[Teacher]:
        """All teachers of the run, each once."""
        teachers = (self.teacher, *self.extra_teachers, *(task.teacher for task in self.tasks))
        return list(dict.fromkeys(teacher for teacher in teachers if teacher is not None))

    def without_teachers(self) -> "RunComponents":
        """The same run, of which the teachers' outputs are cached."""
        return replace(self, tasks=tuple(replace(task, teacher=None) for task in self.tasks))


@dataclass(frozen=True)
class WholeTeacher:
    """The teacher of a run as it was before its vocabulary was trimmed."""

    teacher: Teacher
    view: EncodedView
    """How it reads the texts."""


@dataclass(frozen=True)
class _TaskInputs:
    """The texts of a task, and the tokenizers that read them."""

    config: RunConfig
    texts: Texts
    base_tokenizer: PreTrainedTokenizerBase
    """The teacher's if there is one, in the languages of the run."""
    student_tokenizer: PreTrainedTokenizerBase
    teacher_tokenizer: PreTrainedTokenizerBase


@contextmanager
def of_task(name: str) -> Iterator[None]:
    """Let errors within this context say which task they are about, if the task has a name."""
    try:
        yield
    except UserError as error:
        if not name:
            raise
        raise type(error)("\n".join(f"`tasks` {name}: {line}" for line in str(error).split("\n"))) from None


def build_components(config: RunConfig, student_init: Path | None = None) -> RunComponents:
    """Load or make everything that does not depend on processes: texts, tokenizers, teachers, student, encoded data.

    The student is made for the first task: cut from its teacher, or loaded. With `targets` teacher or both, the label
    set is made first, and with `trim` the trimmed teacher: the tasks' configs name these.

    Args:
        config: the run's.
        student_init: folder in which process 0 saves a student that is narrower than its teacher, and from which it is
            read if it is there; by default it is not saved.
    """
    given, config = config, with_trimmed_teacher(with_teacher_targets(config))
    names = [str(entry.name) for entry in config.tasks] or [""]
    first, *further = config.each_task()
    with of_task(names[0]):
        inputs = _read_inputs(first)
        teacher = teacher_of(first, inputs.teacher_tokenizer)
        if teacher and first.student.widths:
            check_layout(first.student, teacher.model.config)
            views = _views(inputs, teacher.model, teacher)  # the student will read what its teacher can read
            student = narrow_student(first, teacher, views[0].data, student_init)
        else:
            student = make_student(first, teacher, inputs.base_tokenizer)
            views = _views(inputs, student, teacher)
        if teacher and inputs.student_tokenizer is inputs.base_tokenizer:
            _align_rows({"the student": student, "`teacher`": teacher.model}, inputs.base_tokenizer)
        freeze_student(first, student, teacher)
        generation = copy.deepcopy(teacher.generation if teacher and is_cut(first) else student.generation_config)
        tasks = [_task_components(names[0], inputs, views, student, generation, teacher)]
        student.generation_config = tasks[0].student_generation
        if student_init is not None and first.student.widths and not is_saved(student, student_init):
            save_model(student_init, student, inputs.student_tokenizer, model_card(given, student.config))
        base = teacher.model if teacher else student
        extra_teachers = tuple(
            _extra_teacher(config, path, inputs.base_tokenizer, base, "ensemble.teachers")
            for path in config.ensemble.teachers
        )
    teachers = {teacher_path(first): teacher}
    for name, task in zip(names[1:], further, strict=True):
        with of_task(name):
            path = teacher_path(task)
            if path not in teachers:
                teachers[path] = _extra_teacher(first, str(path), inputs.base_tokenizer, base, "teacher")
            inputs = _read_inputs(task)
            views = _views(inputs, student, teachers[path])
            tasks.append(_task_components(name, inputs, views, student, generation, teachers[path]))
    datas = [task.student_view.data for task in tasks]
    data = concat_tasks(config, datas) if config.tasks else datas[0]
    if config.loss.alpha_chunk and "train" not in data.chunk_targets:
        raise DataError(
            f"`loss.alpha_chunk` {config.loss.alpha_chunk} needs log-probabilities of labels, which no training data "
            "has: add a label set with the columns token_logprobs and token_ends, or set it to 0"
        )
    return RunComponents(student, tuple(tasks), data, extra_teachers)


def _read_inputs(config: RunConfig) -> _TaskInputs:
    texts, path = load_texts(config, [demo.data_source(name) for name in config.data or ()]), teacher_path(config)
    base = _tokenizer(config, path, texts)
    student_tokenizer = students_tokenizer(config, base) if path else base
    return _TaskInputs(config, texts, base, student_tokenizer, teachers_tokenizer(config, path, base))


def _views(inputs: _TaskInputs, student: PreTrainedModel, teacher: Teacher | None) -> tuple[EncodedView, EncodedView]:
    """The texts of a task as the student reads them, and as the teacher does."""
    tokenizers = (inputs.student_tokenizer, inputs.teacher_tokenizer)
    return encode_texts(inputs.config, inputs.texts, tokenizers, student, teacher.model if teacher else None)


def _task_components(
    name: str,
    inputs: _TaskInputs,
    views: tuple[EncodedView, EncodedView],
    student: PreTrainedModel,
    generation: GenerationConfig,
    teacher: Teacher | None,
) -> TaskComponents:
    """The components of a task; `generation` is how the student would decode if the run said nothing."""
    config = inputs.config
    student_generation = _generation(config, student, inputs.student_tokenizer, generation)
    teacher_generation = None
    if teacher is not None:
        teacher_generation = _generation(
            teacher_run_config(config), teacher.model, inputs.teacher_tokenizer, teacher.generation
        )
    return TaskComponents(name, config, teacher, *views, student_generation, teacher_generation)


def _generation(
    config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, default: GenerationConfig
) -> GenerationConfig:
    """How a model decodes for a task whose run says nothing but `default`; the model's own config stays as it is."""
    before, model.generation_config = model.generation_config, copy.deepcopy(default)
    try:
        _configure_generation(config, model, tokenizer)
        return model.generation_config
    finally:
        model.generation_config = before


def teacher_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Teacher | None:
    """The run's teacher, ready to decode, if it has one."""
    path = teacher_path(config)
    if path is None:
        return None
    teacher = load_teacher(path, dtype=torch.float32)
    _configure_generation(teacher_run_config(config), teacher.model, tokenizer)
    return teacher


def load_whole_teacher(config: RunConfig) -> WholeTeacher | None:
    """The teacher of a run with its whole vocabulary, to be tested beside the trimmed one; None if none was trimmed."""
    if not config.trim.is_on:
        return None
    teacher, views = teacher_and_views(replace(with_teacher_targets(config), trim=TrimConfig()))
    return WholeTeacher(teacher, views[1])


def teacher_and_views(config: RunConfig) -> tuple[Teacher, tuple[EncodedView, EncodedView]]:
    """The teacher of a run that does not trim it, and how a student cut from it and the teacher read the texts.

    There is no student, and of the training split nothing but a row is encoded.
    """
    config = replace(config, encode=replace(config.encode, n_train=1))
    inputs = _read_inputs(config)
    teacher = teacher_of(config, inputs.teacher_tokenizer)
    assert teacher is not None  # refused by the checks of RunConfig
    tokenizers = (inputs.base_tokenizer, inputs.teacher_tokenizer)
    return teacher, encode_texts(config, inputs.texts, tokenizers, teacher.model, teacher.model)


def _extra_teacher(
    config: RunConfig, path: str, tokenizer: PreTrainedTokenizerBase, first: PreTrainedModel, field: str
) -> Teacher:
    """A teacher besides the first one, named by `field`.

    Raises:
        ModelError: its tokens differ, or the token from which it starts decoding.
    """
    path = demo.model_source(path, field)
    its_tokenizer = load_tokenizer(path, config.src_lang, config.tgt_lang, field=field)
    check_same_tokenizer(
        its_tokenizer, tokenizer, subject=f"`{field}` {path}", remedy="choose teachers of one tokenizer"
    )
    teacher = load_teacher(path, dtype=torch.float32, field=field)
    _configure_generation(config, teacher.model, tokenizer)
    drop_padding_rows(teacher.model, len(forward.output_head(first).weight), len(tokenizer), f"`{field}` {path}")
    sizes = [len(forward.output_head(model).weight) for model in (teacher.model, first)]
    starts = [forward.decoder_start(model) for model in (teacher.model, first)]
    for what, (extra, expected) in {"output tokens": sizes, "as the id from which decoding starts": starts}.items():
        if extra != expected:
            raise ModelError(
                f"`{field}` {path} has {extra} {what}, `teacher` {expected}: choose teachers of one vocabulary"
            )
    return teacher


def _align_rows(models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> None:
    """Let models of one tokenizer have as many rows of embeddings."""
    rows = min(len(forward.output_head(model).weight) for model in models.values())
    for name, model in models.items():
        drop_padding_rows(model, rows, len(tokenizer), name)


def teacher_path(config: RunConfig) -> str | None:
    """Folder or hub id of the run's teacher; that of a built-in one is in the package."""
    return None if config.teacher is None else demo.model_source(config.teacher)


def _configure_generation(config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    settings = replace(
        GenerationSettings.of_run(config),
        forced_bos_token_id=forced_bos_token_id(tokenizer, config.tgt_lang, model.generation_config),
    )
    params = task_params(model.config, str(config.task), (config.src_lang, config.tgt_lang))
    configure_generation(model, settings, params, decoder_start_token_id(tokenizer, config.tgt_lang))


def _tokenizer(config: RunConfig, teacher: str | None, texts: Texts) -> PreTrainedTokenizerBase:
    student = config.student
    if teacher:
        return load_tokenizer(teacher, config.src_lang, config.tgt_lang)
    if path := student_path(config):
        return load_tokenizer(path, config.src_lang, config.tgt_lang, field="student.path")
    if student.vocab_size:
        lines = (text for column in ("source", "target") for text in texts.splits["train"][column])
        return train_tokenizer(lines, student.vocab_size)
    return load_tokenizer(str(student.config), config.src_lang, config.tgt_lang, field="student.config")
