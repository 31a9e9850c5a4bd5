"""The student in training beside its teacher."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seq2seq_distill.config import LossConfig
from seq2seq_distill.data.teacher_cache import unpack
from seq2seq_distill.errors import ConfigError
from seq2seq_distill.losses.adaptive import adaptive_temperature
from seq2seq_distill.losses.blend import Losses
from seq2seq_distill.losses.chunks import Head
from seq2seq_distill.losses.hidden import hidden_mse
from seq2seq_distill.losses.logits import IGNORED, Term
from seq2seq_distill.losses.sparse import SparseTeacher
from seq2seq_distill.models import families
from seq2seq_distill.models.hooks import LayerOutputs
from seq2seq_distill.models.layer_map import supervise_forward, supervised_pairs
from seq2seq_distill.models.sharding import is_sharded, precision_policy
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.schedules import at_step, changing
from seq2seq_distill.modules.summarization import Batch, StudentPass, SummarizationModule

logger = logging.getLogger(__name__)

SIDES = ("encoder", "decoder")
Pairs = tuple[tuple[int, int], ...]
"""(student layer, teacher layer), counted from 0."""


class SummarizationDistiller(SummarizationModule):
    """As `SummarizationModule`, with the teacher's distributions and hidden states to learn from.

    The teacher is no submodule: it is in no checkpoint, no optimiser and no process group, and always in eval mode.

    Args:
        student, tokenizer, config, total_steps: as in `SummarizationModule`.
        teacher: the frozen teacher; None if the batches bring its cached outputs.

    Raises:
        ConfigError: hidden states are to be compared, but their widths differ.
    """

    def __init__(self, student: PreTrainedModel, teacher: Teacher | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(student, *args, **kwargs)
        self.teacher = teacher
        self.shares_encoder = teacher is not None and encoder_is_shared(student, teacher.model)
        """Whether the student's frozen encoder equals the teacher's, so that one encoder pass serves both."""
        if teacher is not None and self.shares_encoder:
            teacher.take_encoder(student.get_encoder())
        self._encoder_pairs, self._decoder_pairs = (
            self._pairs(teacher.model) if teacher is not None and self.loss.alpha_hid else ((), ())
        )
        self._supervised = (
            frozenset(own for own, _ in self._encoder_pairs),
            frozenset(own for own, _ in self._decoder_pairs),
        )

    @property
    def current(self) -> LossConfig:
        """The losses' options: in training those of this step, in validations as configured, so that these compare."""
        if not self.training:
            return self.loss
        return at_step(self.loss, self.config.optim, self.global_step, self.total_steps)

    @property
    def weights(self) -> dict[str, float]:
        loss = self.current
        return {
            "ce_loss": loss.alpha_ce,
            "mlm_loss": loss.alpha_mlm,
            "hid_loss_enc": loss.alpha_hid,
            "hid_loss_dec": loss.alpha_hid,
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.current
        self.log_dict({name: getattr(loss, name) for name in changing(loss.schedule)})
        return super().training_step(batch, batch_idx)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._move_teacher()

    def configure_model(self) -> None:
        super().configure_model()
        if is_sharded(self) and self.config.trainer.shard_teacher and self.teacher is not None:
            assert self.device_mesh is not None
            self.teacher.shard(self.device_mesh["data_parallel"], precision_policy(str(self.trainer.precision)))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._move_teacher()

    def on_fit_end(self) -> None:
        if self.teacher is not None:
            self.teacher.drop_shards()

    def on_validation_start(self) -> None:
        self._move_teacher()

    def _move_teacher(self) -> None:
        if self.teacher is not None and not self.config.trainer.shard_teacher:
            self.teacher.to(self.device, encoder=not self.shares_encoder)

    def _losses(self, batch: Batch, student: StudentPass, head_scale: Tensor | float) -> Losses:
        teacher = self.teacher
        if teacher is None:
            cached = SparseTeacher(*unpack(batch))
            return Losses(self._head_loss(student, cached, head_scale, self.current.temperature), {})
        # With a sharded teacher its head is whole only inside.
        return teacher.within(lambda: self._compare(batch, student, teacher, head_scale))

    def _compare(self, batch: Batch, student: StudentPass, teacher: Teacher, head_scale: Tensor | float) -> Losses:
        labelled = batch["labels"] != IGNORED
        hidden, encoder, decoder = self._teacher_pass(batch, student, teacher)
        other = (families.head_parts(teacher.running), hidden[labelled])
        temperature = self._temperature_of(student, other, labelled)
        head = self._head_loss(student, other, head_scale, temperature)
        normalize = self.loss.normalize_hidden
        # A row of -1 is padding of the plan; its one attended position must not count.
        sources = batch["attention_mask"] * (batch["row"] >= 0)[:, None]
        others = {
            "hid_loss_enc": hidden_mse(
                _matched(self._encoder_pairs, student.encoder_layers, encoder), sources, normalize
            ),
            "hid_loss_dec": hidden_mse(
                _matched(self._decoder_pairs, student.decoder_layers, decoder), labelled, normalize
            ),
        }
        if isinstance(temperature, Tensor):
            others["temperature"] = Term(temperature.sum(), labelled.sum())
        return Losses(head, others)

    def _temperature_of(self, student: StudentPass, teacher: tuple[Head, Tensor], labelled: Tensor) -> Tensor | float:
        """In training with an adaptive schedule one for each position, [N]."""
        schedule = self.loss.schedule
        if not self.training or schedule.temperature not in ("flsw", "cwsm"):
            return self.current.temperature
        return adaptive_temperature(
            schedule.temperature,
            (families.head_parts(self.student), student.hidden),
            teacher,
            labelled,
            self.loss.temperature,
            strength=schedule.strength,
            exponent=schedule.exponent,
            bounds=schedule.temperature_range,
        )

    @torch.no_grad()
    def _teacher_pass(
        self, batch: Batch, student: StudentPass, teacher: Teacher
    ) -> tuple[Tensor, LayerOutputs, LayerOutputs]:
        """The last hidden state [B, T, H], and the outputs of the layers to compare."""
        encoder_indices, decoder_indices = (
            {t for _, t in pairs} for pairs in (self._encoder_pairs, self._decoder_pairs)
        )
        model, source_width = teacher.running, batch["attention_mask"].shape[1]
        with (
            LayerOutputs(families.encoder_layers(model), encoder_indices, source_width) as encoder,
            LayerOutputs(families.decoder_layers(model), decoder_indices) as decoder,
        ):
            state = student.encoder_state if self.shares_encoder else teacher.encode(batch)
            return teacher.decode(batch, state, student.decoder_input_ids), encoder, decoder

    def _pairs(self, teacher: PreTrainedModel) -> tuple[Pairs, Pairs]:
        own, teachers = self.student.config, teacher.config
        for side, ours, theirs in zip(SIDES, families.widths(own), families.widths(teachers), strict=True):
            if ours != theirs:
                raise ConfigError(
                    f"--loss.alpha_hid {self.loss.alpha_hid} compares hidden states, but the student's {side} is "
                    f"{ours} wide and the teacher's {theirs}: set --loss.alpha_hid 0"
                )
        encoder_depth, decoder_depth = families.depths(teachers)
        own_encoder_depth, own_decoder_depth = families.depths(own)
        # With a shared encoder there is nothing to compare.
        encoder = () if self.shares_encoder else self._pairs_of("encoder", own_encoder_depth, encoder_depth)
        return encoder, self._pairs_of("decoder", own_decoder_depth, decoder_depth)

    def _pairs_of(self, side: str, depth: int, teacher_depth: int) -> Pairs:
        copied: Sequence[int] | None = getattr(self.student.config, f"distilled_{side}_layers", None)
        # Layers that this teacher does not have were copied from another model.
        if self.loss.supervise_forward or copied is None or max(copied) >= teacher_depth:
            flag = f"--loss.alpha_hid {self.loss.alpha_hid} with a student whose {side} depth"
            return tuple(enumerate(supervise_forward(teacher_depth, depth, flag)))
        return supervised_pairs(copied, teacher_depth)


class TranslationDistiller(SummarizationDistiller):
    """As `SummarizationDistiller`, for translation."""

    task: ClassVar[str] = "translation"


def encoder_is_shared(student: PreTrainedModel, teacher: PreTrainedModel) -> bool:
    """Whether the student's encoder is frozen and has the very weights of the teacher's."""
    own, teachers = student.get_encoder().state_dict(), teacher.get_encoder().state_dict()
    return (
        not any(parameter.requires_grad for parameter in student.get_encoder().parameters())
        and families.family_of(student) == families.family_of(teacher)
        and own.keys() == teachers.keys()
        and all(
            value.shape == teachers[name].shape and torch.equal(value, teachers[name]) for name, value in own.items()
        )
    )


def _matched(pairs: Pairs, student: Any, teacher: Any) -> list[tuple[Tensor, Tensor]]:
    return [(student[own], teacher[other]) for own, other in pairs if own in student and other in teacher]
