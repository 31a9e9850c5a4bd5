"""What a run is put together from: texts, tokenizer, teacher, student, encoded data."""

from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig, StudentConfig
from seq2seq_distill.data.datamodule import Seq2SeqData, Texts, load_texts
from seq2seq_distill.data.encode import task_params
from seq2seq_distill.data.teacher_sources import as_teacher_reads
from seq2seq_distill.data.tokenizers import decoder_start_token_id, forced_bos_token_id, load_tokenizer, train_tokenizer
from seq2seq_distill.errors import ModelError
from seq2seq_distill.generation import settle
from seq2seq_distill.models import families
from seq2seq_distill.models.layer_map import check_depth
from seq2seq_distill.models.student import create_student, fresh_student, load_student, same_tokenizer
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.modules.summarization import freeze_parts, generation_settings
from seq2seq_distill.run.reading import Reading, read_texts, students_tokenizer, teachers_tokenizer


@dataclass(frozen=True)
class Parts:
    """What a run is put together from."""

    tokenizer: PreTrainedTokenizerBase
    """The student's; if it has none of its own, the teacher's."""
    teacher: Teacher | None
    student: PreTrainedModel
    data: Seq2SeqData
    fingerprint: str
    further: tuple[Teacher, ...] = ()
    """Teachers besides the first."""
    own_reading: Reading | None = None
    """How the teachers read the texts, where that is not as the student does."""

    @property
    def students_reading(self) -> Reading:
        """How the student reads the texts."""
        return Reading(self.tokenizer, self.data)

    @property
    def teachers_reading(self) -> Reading:
        """How the teachers read the texts."""
        return self.own_reading or self.students_reading


def build_parts(config: RunConfig) -> Parts:
    """Load or make everything that does not depend on processes: texts, tokenizer, teacher, student, encoded data."""
    sources = [demo.data_source(name) for name in config.data or ()]
    texts = load_texts(config, sources)
    usual = _tokenizer(config, teacher_path(config), texts)
    teachers = teachers_tokenizer(config, teacher_path(config), usual)
    teacher = teacher_of(config, teachers)
    student = _student(config, teacher, usual)
    tokenizer = usual if teacher is None else students_tokenizer(config, usual)
    _freeze(config, student, teacher)
    _settle(config, student, tokenizer)
    model = teacher.model if teacher else student
    data, own_reading = read_texts(config, texts, (tokenizer, teachers), student, teacher.model if teacher else None)
    further = tuple(_further_teacher(config, path, usual, model) for path in config.ensemble.teachers)
    return Parts(tokenizer, teacher, student, data, texts.fingerprint, further, own_reading)


def teacher_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Teacher | None:
    """The run's teacher, ready to decode, if it has one."""
    path = teacher_path(config)
    if path is None:
        return None
    teacher = load_teacher(path, dtype=torch.float32)
    _settle(as_teacher_reads(config), teacher.model, tokenizer)
    return teacher


def _further_teacher(
    config: RunConfig, path: str, tokenizer: PreTrainedTokenizerBase, first: PreTrainedModel
) -> Teacher:
    """A teacher besides the first. Raises ModelError where it has other tokens, or starts decoding from another."""
    flag = "--ensemble.teachers"
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
        every_layer = range(families.depths(teacher.model.config)[0])
        whole = list(student.config.distilled_encoder_layers) == list(every_layer)
    encoder = whole if wish.freeze_encoder is None else wish.freeze_encoder
    embeddings = encoder if wish.freeze_embeds is None else wish.freeze_embeds
    freeze_parts(student, encoder=encoder, embeddings=embeddings)
