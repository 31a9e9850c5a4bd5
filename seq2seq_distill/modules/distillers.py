"""The student in training beside its teacher."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import GenerationConfig, PreTrainedModel

from seq2seq_distill.config import LossConfig
from seq2seq_distill.data.teacher_cache import unpack
from seq2seq_distill.data.teacher_inputs import teacher_batch
from seq2seq_distill.losses.adaptive import adaptive_temperature
from seq2seq_distill.losses.blend import Losses, blend
from seq2seq_distill.losses.chunks import Ensemble, Head
from seq2seq_distill.losses.hidden import hidden_mse
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.losses.sparse import SparseTeacher
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.models.sharding import is_sharded, precision_policy
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.feature_matching import (
    SIDES,
    LayerPairs,
    Match,
    build_projections,
    check_shapes,
    copied_layers,
    layer_pairs,
    match_terms,
    resolve,
    use_eager_attention,
    warn_if_frozen,
)
from seq2seq_distill.modules.forward_pass import Batch, ForwardPass
from seq2seq_distill.modules.on_policy import sampled_labels, samples_in, sampling_config
from seq2seq_distill.modules.schedules import at_step, changing, warmup_of_weights, weight_factor
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.deprecation import renamed_arguments
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)


class SummarizationDistiller(SummarizationModule):
    """As `SummarizationModule`, with the teacher's distributions and hidden states to learn from.

    The teacher is no submodule: it is in no checkpoint, no optimiser and no process group, and always in eval mode.

    Args:
        student, tokenizer, config, total_steps: as in `SummarizationModule`.
        teacher: the frozen teacher; None if the batches bring its cached outputs. Of several tasks, the first one's.
        further: teachers of the same vocabulary, which are one together with it, as `config.ensemble` says.
        own_sources: whether the batches bring sources of the teachers' own, which `teacher_batch` finds.

    Raises:
        ConfigError: hidden states are to be compared, but their widths differ; or an entry of --matches does not fit
            the models.
    """

    @renamed_arguments(further="extra_teachers", own_sources="separate_teacher_inputs")
    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Teacher | None,
        *args: Any,
        extra_teachers: Sequence[Teacher] = (),
        separate_teacher_inputs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(student, *args, **kwargs)
        self.teacher = teacher
        self.extra_teachers = tuple(extra_teachers)
        others = (task.teacher for task in self.tasks if task.teacher is not None)
        self.teachers: tuple[Teacher, ...] = tuple(dict.fromkeys([*filter(None, [teacher]), *others]))
        """Those that are asked, each for its task; `extra_teachers` are asked together with the only one."""
        self.shares_encoder = (
            bool(self.teachers)
            and not separate_teacher_inputs
            and all(encoder_is_shared(student, each.model) for each in self.teachers)
        )
        """Whether the student's frozen encoder equals the teacher's and reads the same, so that one encoder pass serves
        both."""
        if self.shares_encoder:
            for each in self.teachers:
                each.share_encoder(student.get_encoder())
        if self.loss.alpha_hid or self.config.matches:
            check_shapes([each.model for each in self.teachers])
        self._encoder_pairs, self._decoder_pairs = (
            self._pairs(teacher.model) if teacher is not None and self.loss.alpha_hid else ((), ())
        )
        self.matches: tuple[Match, ...] = ()
        self._attention_before: str | None = None
        if teacher is not None and self.config.matches:
            self.matches = resolve(self.config, student, teacher.model)
            self.projections = build_projections(self.matches, student, teacher.model, self.config.seed)
            models = [each.model for each in self.teachers]
            self._attention_before = use_eager_attention(self.matches, student, models)
            warn_if_frozen(self.matches, student)
        self._compared, self._compared_with = self._features()
        longest = self.loss.on_policy_max_length or self.config.encode.max_target_length
        samplers = self.tasks if self.loss.on_policy else ()
        self._sampling = [sampling_config(student, self.loss, longest, own.generation) for own in samplers]
        """By task; empty if no targets are sampled."""
        self._sampled: Tensor | None = None
        """Sampled tokens of the optimiser step so far, on this process; None in a step with labels of the data."""
        self.other_loops_step: int | None = None
        """Optimiser steps before this one, where another loop than Lightning's runs the module and counts them."""

    @property
    def completed_steps(self) -> int:
        """Optimiser steps before this one, for the schedules."""
        return self.global_step if self.other_loops_step is None else self.other_loops_step

    @property
    def scheduled_loss(self) -> LossConfig:
        """The losses' options: in training those of this step, in validations as configured, so that these compare."""
        if not self.training:
            return self.loss
        return at_step(self.loss, self.config.optim, self.completed_steps, self.total_steps)

    @property
    def weights(self) -> dict[str, float]:
        """Where targets are sampled, they are no labels to learn, and terms of the sources are left to other steps."""
        loss = self.scheduled_loss
        weights = {
            **self.extensions.weights,
            "ce_loss": loss.alpha_ce,
            "mlm_loss": loss.alpha_mlm,
            "hid_loss_enc": loss.alpha_hid,
            "hid_loss_dec": loss.alpha_hid,
            **self._weights_of_matches(),
        }
        left_out = set() if self._sampled is None else {"mlm_loss", *self.source_terms}
        return {name: 0.0 if name in left_out else weight for name, weight in weights.items()}

    def _weights_of_matches(self) -> dict[str, float]:
        """Of this step in training, as configured in validations."""
        steps, warmup = self.total_steps, warmup_of_weights(self.loss, self.config.optim, self.total_steps)
        return {
            match.name: match.config.weight
            * (weight_factor(match.config.schedule, self.completed_steps, steps, warmup) if self.training else 1.0)
            for match in self.matches
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.scheduled_loss
        self.log_dict({name: getattr(loss, name) for name in changing(loss.schedule)})
        moving = {match.name for match in self.matches if match.config.schedule != "constant"}
        self.log_dict({f"{name}_weight": w for name, w in self._weights_of_matches().items() if name in moving})
        if samples_in(self.global_step, self.config.seed, loss.on_policy):
            return self._on_policy_step(self.extensions.processed(batch), self._sampling[batch.get("task", 0)])
        return super().training_step(batch, batch_idx)

    def _on_policy_step(self, batch: Batch, sampling: GenerationConfig) -> Tensor:
        """The sum over sampled tokens: how many the whole step has is known at its end, when gradients are divided."""
        batch = {**batch, "labels": sampled_labels(self.student, batch, sampling)}
        self._sampled = torch.zeros((), device=self.device) if self._sampled is None else self._sampled
        parts = self._parts_of_step
        losses = self._step(batch, parts)
        terms = losses.terms
        self._sampled += terms["ce_loss"].count
        self.log_dict(blend(terms, self.weights).named("on_policy_"))
        return blend(terms, self.weights, dict.fromkeys(terms, 1), scale=parts, head=losses.head.loss).loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self._sampled is None:
            return
        total = torch.as_tensor(self.all_gather(self._sampled)).sum().clamp(min=1)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(total)
        self._sampled = None

    @property
    def source_terms(self) -> frozenset[str]:
        matches = {match.name for match in self.matches if match.config.side == "encoder"}
        return super().source_terms | {"hid_loss_enc"} | matches

    def train(self, mode: bool = True) -> "SummarizationDistiller":
        """As before, but attention weights that are compared are not dropped out: no match could be exact then."""
        super().train(mode)
        for feature in self._compared:
            if feature.kind != "hidden":
                architectures.attention(self.student, *feature).eval()
        return self

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
        for teacher in self.teachers:
            teacher.drop_shards()
            if self._attention_before is not None:  # what follows is timed
                teacher.model.set_attn_implementation(self._attention_before)

    def on_validation_start(self) -> None:
        self._move_teacher()

    def _move_teacher(self) -> None:
        if not self.config.trainer.shard_teacher:
            for teacher in self.teachers:
                teacher.to(self.device, encoder=not self.shares_encoder)
        for teacher in self.extra_teachers:
            teacher.to(self.device)

    def _losses(self, batch: Batch, student: ForwardPass, head_scale: Tensor | float) -> Losses:
        teacher = self.tasks[batch["task"]].teacher if "task" in batch else self.teacher
        if teacher is None:
            cached = SparseTeacher(*unpack(batch))
            head = self._head_loss(student, cached, head_scale, self.scheduled_loss.temperature)
            return Losses(head, self._custom_loss_terms(batch, student, None))
        # With a sharded teacher its head is whole only inside.
        return teacher.run_gathered(lambda: self._compare(batch, student, teacher, head_scale))

    def _compare(self, batch: Batch, student: ForwardPass, teacher: Teacher, head_scale: Tensor | float) -> Losses:
        labelled = batch["labels"] != IGNORE_INDEX
        theirs = self._teacher_pass(batch, student, teacher)
        other = (theirs.head, theirs.hidden)
        temperature = self._temperature_of(student, other, labelled)
        together = self._ensemble_outputs(other, batch, student) if self.extra_teachers else other
        head = self._head_loss(student, together, head_scale, temperature)
        # A row of -1 is padding of the plan; its one attended position must not count.
        masks = {"encoder": batch["attention_mask"] * (batch["row"] >= 0)[:, None], "decoder": labelled}
        others = {
            f"hid_loss_{side[:3]}": hidden_mse(
                _executed_pairs(side, pairs, student.features, theirs.features), masks[side], self.loss.normalize_hidden
            )
            for side, pairs in zip(SIDES, (self._encoder_pairs, self._decoder_pairs), strict=True)
        }
        others |= match_terms(self.matches, student.features, theirs.features, masks, self.projections)
        others |= self._custom_loss_terms(batch, student, theirs)
        if isinstance(temperature, Tensor):
            others["temperature"] = Term(temperature.sum(), labelled.sum())
        return Losses(head, others)

    def _ensemble_outputs(self, first: tuple[Head, Tensor], batch: Batch, student: ForwardPass) -> Ensemble:
        """All teachers as one."""
        labelled, options = batch["labels"] != IGNORE_INDEX, self.config.ensemble
        members, theirs = [first], teacher_batch(batch)
        for teacher in self.extra_teachers:
            hidden = teacher.decode(theirs, teacher.encode(theirs), student.decoder_input_ids)
            members.append((forward.output_head(teacher.model), hidden[labelled]))
        return Ensemble(members, options.weights or [1.0] * len(members), options.combine)

    def _temperature_of(self, student: ForwardPass, teacher: tuple[Head, Tensor], labelled: Tensor) -> Tensor | float:
        """In training with an adaptive schedule one for each position, [N]."""
        schedule = self.loss.schedule
        if not self.training or schedule.temperature not in ("flsw", "cwsm"):
            return self.scheduled_loss.temperature
        return adaptive_temperature(
            schedule.temperature,
            (student.head, student.hidden),
            teacher,
            labelled,
            self.loss.temperature,
            strength=schedule.strength,
            exponent=schedule.exponent,
            bounds=schedule.temperature_range,
        )

    @torch.no_grad()
    def _teacher_pass(self, batch: Batch, student: ForwardPass, teacher: Teacher) -> ForwardPass:
        shared = {f: student.features[f] for f in self._compared_with if self.shares_encoder and f.side == "encoder"}
        others, theirs = self._compared_with - shared.keys(), teacher_batch(batch)
        with capture_features(teacher.running, others, theirs["attention_mask"].shape[1]) as features:
            state = student.encoder_state if self.shares_encoder else teacher.encode(theirs)
            hidden = teacher.decode(theirs, state, student.decoder_input_ids)
        return ForwardPass(
            head=forward.output_head(teacher.running),
            encoder_state=state,
            decoder_input_ids=student.decoder_input_ids,
            hidden=hidden[batch["labels"] != IGNORE_INDEX],
            labels=student.labels,
            features=features | shared,
        )

    def _features(self) -> tuple[frozenset[Feature], frozenset[Feature]]:
        """The inner states to compare, the student's and the teacher's."""
        sides = tuple(zip(SIDES, (self._encoder_pairs, self._decoder_pairs), strict=True))
        own = {Feature(side, "hidden", layer) for side, pairs in sides for layer, _ in pairs}
        other = {Feature(side, "hidden", layer) for side, pairs in sides for _, layer in pairs}
        own, other = own.union(*(m.students for m in self.matches)), other.union(*(m.teachers for m in self.matches))
        if self.shares_encoder:  # its one pass gives the teacher's too
            own |= {feature for feature in other if feature.side == "encoder"}
        return frozenset(own), frozenset(other)

    def _pairs(self, teacher: PreTrainedModel) -> tuple[LayerPairs, LayerPairs]:
        own, teachers = self.student.config, teacher.config
        for side, ours, theirs in zip(SIDES, architectures.widths(own), architectures.widths(teachers), strict=True):
            if ours != theirs:
                raise ConfigError(
                    f"`loss.alpha_hid` {self.loss.alpha_hid} compares hidden states, but the student's {side} is "
                    f"{ours} wide and the teacher's {theirs}: set `loss.alpha_hid` 0, and use `matches` with a "
                    "projection"
                )
        # With a shared encoder there is nothing to compare.
        encoder = () if self.shares_encoder else self._pairs_of("encoder", teacher)
        return encoder, self._pairs_of("decoder", teacher)

    def _pairs_of(self, side: str, teacher: PreTrainedModel) -> LayerPairs:
        depth, teacher_depth = (len(architectures.layers(model, side)) for model in (self.student, teacher))
        copied = copied_layers(side, self.student, teacher_depth)
        how = "spread" if self.loss.supervise_forward or copied is None else "copied"
        return layer_pairs(side, how, (depth, teacher_depth), copied, f"`loss.alpha_hid` {self.loss.alpha_hid}")


class TranslationDistiller(SummarizationDistiller):
    """As `SummarizationDistiller`, for translation."""

    task: ClassVar[str] = "translation"


def encoder_is_shared(student: PreTrainedModel, teacher: PreTrainedModel) -> bool:
    """Whether the student's encoder is frozen and has the very weights of the teacher's."""
    own, teachers = student.get_encoder().state_dict(), teacher.get_encoder().state_dict()
    return (
        not any(parameter.requires_grad for parameter in student.get_encoder().parameters())
        and architectures.architecture_of(student) == architectures.architecture_of(teacher)
        and own.keys() == teachers.keys()
        and all(
            value.shape == teachers[name].shape and torch.equal(value, teachers[name]) for name, value in own.items()
        )
    )


def _executed_pairs(
    side: str, pairs: LayerPairs, student: Mapping[Feature, Tensor], teacher: Mapping[Feature, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The layer outputs of the pairs whose layers LayerDrop has not left out."""
    features = [(Feature(side, "hidden", own), Feature(side, "hidden", other)) for own, other in pairs]
    return [(student[own], teacher[other]) for own, other in features if own in student]
