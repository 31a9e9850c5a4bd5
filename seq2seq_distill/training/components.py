"""What a run is put together from: texts, tokenizer, teacher, student, encoded data."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config.schema import RunConfig, StudentConfig
from seq2seq_distill.data.encoding import task_params
from seq2seq_distill.data.teacher_inputs import teacher_run_config
from seq2seq_distill.data.texts import Texts, load_texts
from seq2seq_distill.data.tokenizers import decoder_start_token_id, forced_bos_token_id, load_tokenizer, train_tokenizer
from seq2seq_distill.decoding.generation import configure_generation
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.freezing import freeze_parts
from seq2seq_distill.models.layer_map import check_depth
from seq2seq_distill.models.student import check_same_tokenizer, create_student, fresh_student, load_student
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.modules.datamodule import Seq2SeqData, concat_tasks
from seq2seq_distill.modules.summarization import generation_settings
from seq2seq_distill.training.views import EncodedView, encode_texts, students_tokenizer, teachers_tokenizer
from seq2seq_distill.utils.errors import ModelError, UserError


@dataclass(frozen=True)
class TaskComponents:
    """One of a run's several tasks."""

    name: str
    config: RunConfig
    """The run's, as if the task were alone."""
    teacher: Teacher | None
    views: tuple[EncodedView, EncodedView]
    """How student and teacher read the task's texts."""
    generations: tuple[GenerationConfig, GenerationConfig | None]
    """How student and teacher decode."""

    @contextmanager
    def generating_as_for_task(self, student: PreTrainedModel) -> Iterator[None]:
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
class RunComponents:
    """What a run is put together from; of several tasks, tokenizer and teacher are the first one's, data are of all."""

    tokenizer: PreTrainedTokenizerBase
    """The student's; if it has none of its own, the teacher's."""
    teacher: Teacher | None
    student: PreTrainedModel
    data: Seq2SeqData
    extra_teachers: tuple[Teacher, ...] = ()
    """Teachers besides the first."""
    separate_teacher_view: EncodedView | None = None
    """How the teachers read the texts, where that is not as the student does."""
    tasks: tuple[TaskComponents, ...] = ()
    """Empty if there is one only."""

    @property
    def teachers(self) -> list[Teacher]:
        """All of the run, each once."""
        own = (self.teacher, *self.extra_teachers, *(task.teacher for task in self.tasks))
        return list(dict.fromkeys(teacher for teacher in own if teacher is not None))

    @property
    def student_view(self) -> EncodedView:
        """How the student reads the texts."""
        return EncodedView(self.tokenizer, self.data)

    @property
    def teacher_view(self) -> EncodedView:
        """How the teachers read the texts."""
        return self.separate_teacher_view or self.student_view


@contextmanager
def of_task(name: str | None) -> Iterator[None]:
    """What is wrong inside is told as of this task, if it has a name."""
    try:
        yield
    except UserError as error:
        if name is None:
            raise
        raise type(error)("\n".join(f"`tasks` {name}: {line}" for line in str(error).split("\n"))) from None


def build_components(config: RunConfig) -> RunComponents:
    """Load or make everything that does not depend on processes: texts, tokenizer, teacher, student, encoded data."""
    with of_task(config.tasks[0].name if config.tasks else None):
        parts, usual, untouched = _of_first_task(config, config.each_task()[0])
    return _with_tasks(config, parts, usual, untouched) if config.tasks else parts


def _of_first_task(
    config: RunConfig, first: RunConfig
) -> tuple[RunComponents, PreTrainedTokenizerBase, GenerationConfig]:
    """The parts of a run's first or only task, its teacher's tokenizer, and how the student would decode without it."""
    texts = _texts(first)
    usual, tokenizer, teachers = _tokenizers(first, texts)
    teacher = teacher_of(first, teachers)
    student = _student(first, teacher, usual)
    _freeze(first, student, teacher)
    cut = teacher is not None and not (first.student.path or first.student.config)
    untouched = copy.deepcopy(teacher.generation if teacher and cut else student.generation_config)
    _configure_generation(first, student, tokenizer)
    model = teacher.model if teacher else student
    data, separate_teacher_view = encode_texts(
        first, texts, (tokenizer, teachers), student, teacher.model if teacher else None
    )
    paths = config.ensemble.teachers
    extra_teachers = tuple(_extra_teacher(config, path, usual, model, "ensemble.teachers") for path in paths)
    return RunComponents(tokenizer, teacher, student, data, extra_teachers, separate_teacher_view), usual, untouched


def _with_tasks(
    config: RunConfig, parts: RunComponents, usual: PreTrainedTokenizerBase, untouched: GenerationConfig
) -> RunComponents:
    """The parts with those of several tasks; `parts` and the rest as `_of_first_task` gives them."""
    student, (first, *others) = parts.student, config.each_task()
    teachers = {teacher_path(first): parts.teacher}
    theirs = parts.teacher.model.generation_config if parts.teacher else None
    views, generations = (parts.student_view, parts.teacher_view), (student.generation_config, theirs)
    tasks = [TaskComponents(str(config.tasks[0].name), first, parts.teacher, views, generations)]
    for entry, own in zip(config.tasks[1:], others, strict=True):
        path, name = teacher_path(own), str(entry.name)
        with of_task(name):
            if path not in teachers:
                model = parts.teacher.model if parts.teacher else student
                teachers[path] = _extra_teacher(first, str(path), usual, model, "teacher")
            tasks.append(_task(own, name, student, teachers[path], untouched))
    return replace(parts, data=concat_tasks(config, [task.views[0].data for task in tasks]), tasks=tuple(tasks))


def _task(
    config: RunConfig, name: str, student: PreTrainedModel, teacher: Teacher | None, untouched: GenerationConfig
) -> TaskComponents:
    """A task besides the first."""
    texts = _texts(config)
    _, tokenizer, teachers = _tokenizers(config, texts)
    data, own = encode_texts(config, texts, (tokenizer, teachers), student, teacher.model if teacher else None)
    reading = EncodedView(tokenizer, data)
    theirs = _generation(config, teacher.model, teachers, teacher.generation) if teacher else None
    generations = (_generation(config, student, tokenizer, untouched), theirs)
    return TaskComponents(name, config, teacher, (reading, own or reading), generations)


def _texts(config: RunConfig) -> Texts:
    return load_texts(config, [demo.data_source(name) for name in config.data or ()])


def _tokenizers(
    config: RunConfig, texts: Texts
) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
    """The usual one, the teacher's if there is one; and those by which student and teacher read their sources."""
    path = teacher_path(config)
    usual = _tokenizer(config, path, texts)
    return usual, students_tokenizer(config, usual) if path else usual, teachers_tokenizer(config, path, usual)


def _generation(
    config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, untouched: GenerationConfig
) -> GenerationConfig:
    """How a model, which without a task would decode as `untouched`, decodes for this one; it stays as it is."""
    before, model.generation_config = model.generation_config, copy.deepcopy(untouched)
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


def _extra_teacher(
    config: RunConfig, path: str, tokenizer: PreTrainedTokenizerBase, first: PreTrainedModel, field: str
) -> Teacher:
    """A teacher besides the first, named by `field`.

    Raises:
        ModelError: it has other tokens, or starts decoding from another.
    """
    path = demo.model_source(path)
    its_tokenizer = load_tokenizer(path, config.src_lang, config.tgt_lang, field=field)
    check_same_tokenizer(
        its_tokenizer, tokenizer, subject=f"`{field}` {path}", remedy="choose teachers of one tokenizer"
    )
    teacher = load_teacher(path, dtype=torch.float32, field=field)
    _configure_generation(config, teacher.model, tokenizer)
    sizes = [len(forward.output_head(model).weight) for model in (teacher.model, first)]
    starts = [forward.decoder_start(model) for model in (teacher.model, first)]
    for what, (own, other) in {"output tokens": sizes, "as the id from which decoding starts": starts}.items():
        if own != other:
            raise ModelError(f"`{field}` {path} has {own} {what}, `teacher` {other}: choose teachers of one vocabulary")
    return teacher


def cut_student(wish: StudentConfig, teacher: PreTrainedModel) -> PreTrainedModel:
    """The student that is cut from the teacher's layers."""
    for side, depth in zip(("encoder", "decoder"), architectures.depths(teacher.config), strict=True):
        wanted = getattr(wish, f"{side}_layers")
        if wanted is not None:
            check_depth(depth, wanted, f"`student.{side}_layers`")
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


def _configure_generation(config: RunConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    settings = replace(
        generation_settings(config),
        forced_bos_token_id=forced_bos_token_id(tokenizer, config.tgt_lang, model.generation_config),
    )
    params = task_params(model.config, str(config.task), (config.src_lang, config.tgt_lang))
    configure_generation(model, settings, params, decoder_start_token_id(tokenizer, config.tgt_lang))


def _tokenizer(config: RunConfig, teacher: str | None, texts: Texts) -> PreTrainedTokenizerBase:
    student = config.student
    if teacher:
        return load_tokenizer(teacher, config.src_lang, config.tgt_lang)
    if student.path:
        return load_tokenizer(student.path, config.src_lang, config.tgt_lang, field="student.path")
    if student.vocab_size:
        lines = (text for column in ("source", "target") for text in texts.splits["train"][column])
        return train_tokenizer(lines, student.vocab_size)
    return load_tokenizer(str(student.config), config.src_lang, config.tgt_lang, field="student.config")


def _student(config: RunConfig, teacher: Teacher | None, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    wish = config.student
    if wish.path:
        return load_student(wish.path)
    if wish.config:
        return fresh_student(wish.config, len(tokenizer), tokenizer)
    assert teacher is not None  # RunConfig.check
    return cut_student(wish, teacher.model)


def _freeze(config: RunConfig, student: PreTrainedModel, teacher: Teacher | None) -> None:
    """As asked; by default an encoder that is the teacher's, unchanged, is frozen together with the embeddings."""
    wish = config.student
    whole = False
    if teacher is not None and not (wish.path or wish.config):
        every_layer = range(architectures.depths(teacher.model.config)[0])
        whole = list(student.config.distilled_encoder_layers) == list(every_layer)
    encoder = whole if wish.freeze_encoder is None else wish.freeze_encoder
    embeddings = encoder if wish.freeze_embeds is None else wish.freeze_embeds
    freeze_parts(student, encoder=encoder, embeddings=embeddings)
