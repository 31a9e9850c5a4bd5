"""What a student learns from: the labels alone, or a teacher too. From a forward pass to sums and counts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from seq2seq_distill.config import FeatureLossConfig, LossConfig, OptimConfig, ResolvedLossConfig
from seq2seq_distill.losses.adaptive import adaptive_temperature
from seq2seq_distill.losses.blend import Losses, StepTokens
from seq2seq_distill.losses.chunk_likelihood import CHUNK_LOSS
from seq2seq_distill.losses.divergences import DIVERGENCES
from seq2seq_distill.losses.hidden import hidden_mse
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.models.hooks import Feature
from seq2seq_distill.modules.extensions import Extensions, custom_loss_terms
from seq2seq_distill.modules.feature_matching import (
    SIDES,
    LayerPairs,
    Match,
    build_projections,
    check_shapes,
    hidden_pairs,
    match_terms,
    resolve,
    use_eager_attention,
    warn_if_frozen,
)
from seq2seq_distill.modules.forward_pass import Batch, ForwardPass
from seq2seq_distill.modules.head_terms import head_terms
from seq2seq_distill.modules.schedules import at_step, changing, warmup_of_weights, weight_factor
from seq2seq_distill.modules.step_options import StepOptions
from seq2seq_distill.modules.teacher_runner import TeacherOutputs, TeacherRunner
from seq2seq_distill.utils.constants import IGNORE_INDEX


class Objective(Protocol):
    """Losses of a student, and what they need."""

    @property
    def features(self) -> frozenset[Feature]:
        """Inner states to capture in the student's forward pass."""

    @property
    def source_terms(self) -> frozenset[str]:
        """Terms that are means over source tokens; all others are means over target tokens."""

    @property
    def teacher_terms(self) -> frozenset[str]:
        """Terms that are means over the target tokens of those rows whose targets the teacher knows."""

    def step_options(self, step: int, total_steps: int, *, training: bool, sampled: bool = False) -> StepOptions:
        """The options of an optimiser step, of which `step` others came before."""

    def losses(self, batch: Batch, student: ForwardPass, options: StepOptions, tokens: StepTokens) -> Losses:
        """Sums and counts of all terms of a batch, and the output head's part of the loss, divided by `tokens`."""


class CrossEntropyObjective:
    """Cross-entropy with the labels, likelihoods of their chunks, and custom losses."""

    features: frozenset[Feature] = frozenset()
    teacher_terms: frozenset[str] = frozenset()

    def __init__(self, loss: LossConfig, extensions: Extensions) -> None:
        self.loss = loss
        self.extensions = extensions
        self.source_terms = extensions.source_terms

    def step_options(self, step: int, total_steps: int, *, training: bool, sampled: bool = False) -> StepOptions:
        weights = {"mlm_loss": 1.0, CHUNK_LOSS: self.loss.alpha_chunk, **self.extensions.weights}
        return StepOptions(weights, training=training, sampled=sampled)

    def losses(self, batch: Batch, student: ForwardPass, options: StepOptions, tokens: StepTokens) -> Losses:
        head = head_terms(self.loss, batch, student, None, options, tokens)
        return Losses(head, _custom_terms(self.extensions, batch, student, None, options))


class DistillationObjective:
    """The teacher's distributions, hidden states and feature losses, cross-entropy with the labels, likelihoods of
    their chunks, and custom losses.

    Args:
        student: the model to train.
        teachers: what is known of its teachers.
        loss, optim, matches: the run's; `optim` has the warm-up of weights unless `loss` has one.
        seed: of the projections.
        extensions: custom losses.

    Raises:
        ConfigError: hidden states are to be compared, but their widths differ; or an entry of `matches` does not fit
            the models.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teachers: TeacherRunner,
        loss: ResolvedLossConfig,
        optim: OptimConfig,
        matches: Sequence[FeatureLossConfig],
        seed: int,
        extensions: Extensions,
    ) -> None:
        self.loss, self.optim, self.extensions, self.teachers = loss, optim, extensions, teachers
        if loss.alpha_hid or matches:
            check_shapes(teachers.models)
        teacher = teachers.models[0] if teachers.models else None
        self.pairs: Mapping[str, LayerPairs] = dict.fromkeys(SIDES, ())
        """Layers whose hidden states are compared, by side."""
        if teacher is not None and loss.alpha_hid:
            self.pairs = hidden_pairs(student, teacher, loss, shares_encoder=teachers.shares_encoder)
        self.matches: tuple[Match, ...] = ()
        self.projections = nn.ModuleDict()
        """Map the student's inner states to the teacher's width."""
        self._attention_before: str | None = None
        if teacher is not None and matches:
            self.matches = resolve(matches, student, teacher)
            self.projections = build_projections(self.matches, student, teacher, seed)
            self._attention_before = use_eager_attention(self.matches, student, teachers.models)
            warn_if_frozen(self.matches, student)
        self.features, self.teacher_features = self._features()
        encoder_matches = {match.name for match in self.matches if match.config.side == "encoder"}
        self.source_terms = extensions.source_terms | {"hid_loss_enc"} | encoder_matches
        decoder_matches = {match.name for match in self.matches} - encoder_matches
        self.teacher_terms = frozenset({"ce_loss", "teacher_entropy", "hid_loss_dec", *DIVERGENCES, *decoder_matches})

    def step_options(self, step: int, total_steps: int, *, training: bool, sampled: bool = False) -> StepOptions:
        """Sampled targets are no labels to learn, and terms of the sources are left to other steps."""
        loss = at_step(self.loss, self.optim, step, total_steps) if training else self.loss
        match_weights = self._match_weights(step, total_steps, training)
        weights = {
            **self.extensions.weights,
            "ce_loss": loss.alpha_ce,
            "mlm_loss": loss.alpha_mlm,
            CHUNK_LOSS: loss.alpha_chunk,
            "hid_loss_enc": loss.alpha_hid,
            "hid_loss_dec": loss.alpha_hid,
            **match_weights,
        }
        if sampled:
            weights |= dict.fromkeys(weights.keys() & {"mlm_loss", *self.source_terms}, 0.0)
        scheduled = {name: getattr(loss, name) for name in changing(loss.schedule)}
        moving = [match.name for match in self.matches if match.config.schedule != "constant"]
        scheduled |= {f"{name}_weight": match_weights[name] for name in moving}
        return StepOptions(weights, loss.temperature, training, sampled, scheduled)

    def _match_weights(self, step: int, total_steps: int, training: bool) -> dict[str, float]:
        warmup = warmup_of_weights(self.loss, self.optim, total_steps)
        return {
            match.name: match.config.weight
            * (weight_factor(match.config.schedule, step, total_steps, warmup) if training else 1.0)
            for match in self.matches
        }

    def losses(self, batch: Batch, student: ForwardPass, options: StepOptions, tokens: StepTokens) -> Losses:
        def compare(outputs: TeacherOutputs) -> Losses:
            return self._compare(batch, student, outputs, options, tokens)

        return self.teachers.run(batch, student, self.teacher_features, compare)

    def _compare(
        self,
        batch: Batch,
        student: ForwardPass,
        outputs: TeacherOutputs,
        options: StepOptions,
        tokens: StepTokens,
    ) -> Losses:
        labelled, teacher = batch["labels"] != IGNORE_INDEX, outputs.forward_pass
        temperature = self._temperature(student, teacher, labelled, options)
        head = head_terms(self.loss, batch, student, outputs.distributions, options, tokens, temperature)
        if teacher is None:
            return Losses(head, _custom_terms(self.extensions, batch, student, None, options))
        # A row of -1 is padding of the plan; its one attended position must not count.
        masks = {"encoder": batch["attention_mask"] * (batch["row"] >= 0)[:, None], "decoder": labelled}
        if "distill_mask" in batch:
            masks["decoder"] = labelled & batch["distill_mask"][:, None]
        terms = {
            f"hid_loss_{side[:3]}": hidden_mse(
                _executed_pairs(side, self.pairs[side], student.features, teacher.features),
                masks[side],
                self.loss.normalize_hidden,
            )
            for side in SIDES
        }
        terms |= match_terms(self.matches, student.features, teacher.features, masks, self.projections)
        terms |= _custom_terms(self.extensions, batch, student, teacher, options)
        if isinstance(temperature, Tensor):
            terms["temperature"] = Term(temperature.sum(), labelled.sum())
        return Losses(head, terms)

    def _temperature(
        self, student: ForwardPass, teacher: ForwardPass | None, labelled: Tensor, options: StepOptions
    ) -> Tensor | float:
        """Of the step; in training with an adaptive schedule one for each position, [N]."""
        schedule = self.loss.schedule
        if teacher is None or not options.training or schedule.temperature not in ("flsw", "cwsm"):
            return options.temperature
        return adaptive_temperature(
            schedule.temperature,
            (student.head, student.hidden),
            (teacher.head, teacher.hidden),
            labelled,
            self.loss.temperature,
            strength=schedule.strength,
            exponent=schedule.exponent,
            bounds=schedule.temperature_range,
        )

    def restore_attention(self) -> None:
        """Let the teachers compute attention as they did before weights were compared."""
        if self._attention_before is not None:
            for model in self.teachers.models:
                model.set_attn_implementation(self._attention_before)

    def _features(self) -> tuple[frozenset[Feature], frozenset[Feature]]:
        """The inner states to compare, the student's and the teacher's."""
        pairs = [(side, pair) for side in SIDES for pair in self.pairs[side]]
        student = {Feature(side, "hidden", layer) for side, (layer, _) in pairs}
        teacher = {Feature(side, "hidden", layer) for side, (_, layer) in pairs}
        student = student.union(*(match.students for match in self.matches))
        teacher = teacher.union(*(match.teachers for match in self.matches))
        if self.teachers.shares_encoder:  # its one pass gives the teacher's too
            student |= {feature for feature in teacher if feature.side == "encoder"}
        return frozenset(student), frozenset(teacher)


def _custom_terms(
    extensions: Extensions, batch: Batch, student: ForwardPass, teacher: ForwardPass | None, options: StepOptions
) -> dict[str, Term]:
    return custom_loss_terms(extensions.terms, student, teacher, batch, checked=not options.training)


def _executed_pairs(
    side: str, pairs: LayerPairs, student: Mapping[Feature, Tensor], teacher: Mapping[Feature, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """The layer outputs of the pairs whose layers LayerDrop has not left out."""
    features = [(Feature(side, "hidden", layer), Feature(side, "hidden", target)) for layer, target in pairs]
    return [(student[layer], teacher[target]) for layer, target in features if layer in student]
