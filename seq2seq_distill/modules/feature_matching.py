"""The entries of --matches: which layers are compared, by what, through which projections."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from transformers import PreTrainedModel

from seq2seq_distill.config import FeatureLossConfig, LossConfig
from seq2seq_distill.losses.attention import attention_ce, attention_mse
from seq2seq_distill.losses.hidden import (
    cosine_distance,
    fsp_gram,
    hidden_mse,
    nst_mmd,
    patient_distance,
    patient_distance_first,
)
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.models import architectures
from seq2seq_distill.models.hooks import Feature
from seq2seq_distill.models.layer_map import supervise_forward, supervised_pairs
from seq2seq_distill.utils.errors import ConfigError, ModelError, format_value, raise_config_error

logger = logging.getLogger(__name__)

SIDES = ("encoder", "decoder")
LayerPairs = tuple[tuple[int, int], ...]
"""(student layer, teacher layer), counted from 0."""

_HIDDEN: Final[Mapping[str, Callable[..., Term]]] = MappingProxyType(
    {
        "mse": lambda student, teacher, mask: hidden_mse([(student, teacher)], mask),
        "cosine": cosine_distance,
        "pkd": patient_distance,
        "pkd_first": patient_distance_first,
        "mmd": nst_mmd,
        "gram": fsp_gram,
    }
)
_ATTENTION: Final[Mapping[str, Callable[..., Term]]] = MappingProxyType({"mse": attention_mse, "ce": attention_ce})
_ACTIVATIONS: Final[Mapping[str, tuple[type[nn.Module], ...]]] = MappingProxyType(
    {"linear": (), "relu": (nn.ReLU,), "tanh": (nn.Tanh,)}
)


@dataclass(frozen=True)
class Match:
    """An entry of --matches with its layers found; a loss of its own, the mean over its pairs."""

    name: str
    """In logs: `match_0_decoder_hidden_mse`."""
    config: FeatureLossConfig
    pairs: tuple[tuple[tuple[Feature, ...], tuple[Feature, ...]], ...]
    """What is compared, student's and teacher's: of one layer each, of two for gram."""

    @property
    def students(self) -> set[Feature]:
        """What is needed of the student."""
        return {feature for features, _ in self.pairs for feature in features}

    @property
    def teachers(self) -> set[Feature]:
        """What is needed of the teacher."""
        return {feature for _, other in self.pairs for feature in other}


def resolve(
    entries: Sequence[FeatureLossConfig], student: PreTrainedModel, teacher: PreTrainedModel
) -> tuple[Match, ...]:
    """The matches of a run for these two models.

    Raises:
        ConfigError: a line for each layer that is not there, width that does not fit, or attention without weights.
    """
    matches, problems = [], []
    for number, entry in enumerate(entries):
        depth, teacher_depth = (len(architectures.layers(model, entry.side)) for model in (student, teacher))
        try:
            match = match_of(number, entry, (depth, teacher_depth), copied_layers(entry.side, student, teacher_depth))
        except ModelError as error:
            problems.append(str(error))
            continue
        problems += _problems(f"`matches` entry {number}", match, student, teacher)
        matches.append(match)
    raise_config_error(problems)
    return tuple(matches)


def match_of(number: int, entry: FeatureLossConfig, depths: tuple[int, int], copied: list[int] | None) -> Match:
    """An entry of --matches for a student and a teacher of these depths.

    Args:
        number: of the entry, from 0.
        entry: what it says.
        depths: layers of the entry's side, student's and teacher's.
        copied: the teacher layer that each student layer was copied from, if they were.

    Raises:
        ModelError: a layer that is not there.
    """
    place = f"`matches` entry {number}"
    if entry.layers is None:
        student = _layers(f"{place}, student", entry.student, "student", entry.side, depths[0])
        pairs = [(student, _layers(f"{place}, teacher", entry.teacher, "teacher", entry.side, depths[1]))]
    else:
        by_layer = layer_pairs(entry.side, entry.layers, depths, copied, f"{place}, layers {entry.layers}")
        pairs = [([layer], [teacher_layer]) for layer, teacher_layer in by_layer]
    name = f"match_{number}_{entry.side}_{entry.feature}_{entry.loss}"
    features = tuple((_features(entry, layers), _features(entry, teacher_layers)) for layers, teacher_layers in pairs)
    return Match(name, entry, features)


def layer_pairs(side: str, how: str, depths: tuple[int, int], copied: list[int] | None, subject: str) -> LayerPairs:
    """Pairs of layers by a rule: `copied`, `spread` or `last`; `depths` and `copied` as in `match_of`.

    `copied`: each student layer with the teacher layer it was copied from, the last with the last. `spread`: each with
    the end of the block of teacher layers that it stands for. Raises ModelError, which opens with `subject`.
    """
    depth, teacher_depth = depths
    if how == "last":
        return ((depth - 1, teacher_depth - 1),)
    if how == "spread":
        return tuple(enumerate(supervise_forward(teacher_depth, depth, f"{subject} with a student whose {side} depth")))
    if copied is None:
        raise ModelError(f"{subject}: the student's {side} was not cut from this teacher: choose spread or last")
    return supervised_pairs(copied, teacher_depth)


def hidden_pairs(
    student: PreTrainedModel, teacher: PreTrainedModel, loss: LossConfig, *, shares_encoder: bool
) -> dict[str, LayerPairs]:
    """The layers whose hidden states `loss.alpha_hid` compares, by side; none of an encoder that is shared.

    Raises:
        ConfigError: the widths differ.
        ModelError: the depths do not fit.
    """
    widths = zip(SIDES, architectures.widths(student.config), architectures.widths(teacher.config), strict=True)
    for side, width, teacher_width in widths:
        if width != teacher_width:
            raise ConfigError(
                f"`loss.alpha_hid` {loss.alpha_hid} compares hidden states, but the student's {side} is {width} wide "
                f"and the teacher's {teacher_width}: set `loss.alpha_hid` 0, and use `matches` with a projection"
            )

    def pairs(side: str) -> LayerPairs:
        depth, teacher_depth = (len(architectures.layers(model, side)) for model in (student, teacher))
        copied = copied_layers(side, student, teacher_depth)
        how = "spread" if loss.supervise_forward or copied is None else "copied"
        return layer_pairs(side, how, (depth, teacher_depth), copied, f"`loss.alpha_hid` {loss.alpha_hid}")

    return {"encoder": () if shares_encoder else pairs("encoder"), "decoder": pairs("decoder")}


def copied_layers(side: str, student: PreTrainedModel, teacher_depth: int) -> list[int] | None:
    """The teacher layers that the student's were copied from; None if they were not, or from another, deeper model."""
    copied: list[int] | None = getattr(student.config, f"distilled_{side}_layers", None)
    return None if copied is None or max(copied) >= teacher_depth else copied


def build_projections(
    matches: Iterable[Match], student: PreTrainedModel, teacher: PreTrainedModel, seed: int
) -> nn.ModuleDict:
    """By name of the match one map [..., H_s] -> [..., H_t] for each of its pairs, drawn from the seed alone."""
    projections = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for match in matches:
            if match.config.projection is not None:
                student_width, teacher_width = (_width(model, match.config.side) for model in (student, teacher))
                activations = _ACTIVATIONS[match.config.projection]
                projections[match.name] = nn.ModuleList(
                    nn.Sequential(nn.Linear(student_width, teacher_width), *(kind() for kind in activations))
                    for _ in match.pairs
                )
    return projections


def match_terms(
    matches: Iterable[Match],
    student: Mapping[Feature, Tensor],
    teacher: Mapping[Feature, Tensor],
    masks: Mapping[str, Tensor],
    maps: nn.ModuleDict,
) -> dict[str, Term]:
    """Sum and count of every match.

    A layer that LayerDrop left out of this pass adds neither; a match with several pairs is the mean over the others.

    Args:
        matches: from `resolve`.
        student: features of the student's pass.
        teacher: of the teacher's.
        masks: by side, [B, T] and [B, S], true or 1 where a position counts.
        maps: from `build_projections`.
    """
    return {match.name: _term(match, student, teacher, masks, maps) for match in matches}


def _term(
    match: Match,
    student: Mapping[Feature, Tensor],
    teacher: Mapping[Feature, Tensor],
    masks: Mapping[str, Tensor],
    maps: nn.ModuleDict,
) -> Term:
    terms = []
    for number, (own, other) in enumerate(match.pairs):
        if not all(feature in student for feature in own):
            continue
        ours, theirs = [student[feature] for feature in own], [teacher[feature] for feature in other]
        if match.name in maps:
            project = maps[match.name][number]  # type: ignore[index]
            ours = [project(states) for states in ours]
        terms.append(_compare(match.config, ours, theirs, masks))
    if not terms:
        nothing = masks[match.config.side].new_zeros((), dtype=torch.int64)
        return Term(nothing.float(), nothing)
    return Term(torch.stack([term.sum for term in terms]).mean(), terms[0].count)


def _compare(
    match: FeatureLossConfig, student: list[Tensor], teacher: list[Tensor], masks: Mapping[str, Tensor]
) -> Term:
    mask = masks[match.side]
    if match.feature != "hidden":
        keys = masks["encoder"] if match.feature == "cross_attention" else mask
        return _ATTENTION[match.loss](student[0], teacher[0], mask, keys)
    if match.loss == "gram":
        return fsp_gram((student[0], student[1]), (teacher[0], teacher[1]), mask)
    return _HIDDEN[match.loss](student[0], teacher[0], mask)


def _layers(place: str, given: int | list[int] | None, whose: str, side: str, depth: int) -> list[int]:
    indices = given if isinstance(given, list) else [given]
    for index in indices:
        if index is None or not -depth <= index < depth:
            raise ModelError(
                f"{place} {format_value(given)}: the {whose}'s {side} has {depth} layers, choose {-depth} to "
                f"{depth - 1}"
            )
    return [index % depth for index in indices if index is not None]


def _features(entry: FeatureLossConfig, layers: list[int]) -> tuple[Feature, ...]:
    return tuple(Feature(entry.side, entry.feature, layer) for layer in layers)


def _problems(place: str, match: Match, student: PreTrainedModel, teacher: PreTrainedModel) -> Iterator[str]:
    entry = match.config
    if entry.feature != "hidden":
        for model, features in ((student, match.students), (teacher, match.teachers)):
            try:
                for feature in features:
                    architectures.attention(model, *feature)
            except ModelError as error:
                yield f"{place}, feature {entry.feature}: {error}: choose feature hidden"
                return
    elif entry.projection is None and entry.loss != "mmd":
        own, other = (_width(model, entry.side) for model in (student, teacher))
        if own != other:
            yield (
                f"{place}, loss {entry.loss} compares states of one width, but the student's {entry.side} is {own} "
                f"wide and the teacher's {other}: add projection linear, or choose loss mmd"
            )


def _width(model: PreTrainedModel, side: str) -> int:
    return architectures.widths(model.config)[SIDES.index(side)]


def check_shapes(teachers: Sequence[PreTrainedModel]) -> None:
    """Raise ConfigError if inner states of the teachers of several tasks cannot be compared by the same pairs."""
    shapes = [(architectures.depths(model.config), architectures.widths(model.config)) for model in teachers]
    if any(shape != shapes[0] for shape in shapes):
        raise ConfigError(
            "`tasks`: inner states are compared, but the teachers differ in layers or width: set `loss.alpha_hid` 0 "
            "and leave `matches` out, or choose teachers of one shape"
        )


def use_eager_attention(
    matches: Sequence[Match], student: PreTrainedModel, teachers: Sequence[PreTrainedModel]
) -> str | None:
    """Let all models compute attention so that its weights are there, if they are compared.

    Returns the implementation that the teachers had.
    """
    if all(match.config.feature == "hidden" for match in matches):
        return None
    before = str(teachers[0].config._attn_implementation)
    for model in (student, *teachers):
        if model.config._attn_implementation != "eager":
            model.set_attn_implementation("eager")
    rank_zero_only(logger.info)(
        "`matches` compares attention weights: attention is computed as eager, the one implementation that returns "
        "them, and the student's weights that are compared are not dropped out"
    )
    return before


def warn_if_frozen(matches: Sequence[Match], student: PreTrainedModel) -> None:
    """The parameters of an encoder that is frozen learn nothing from a comparison."""
    if not any(parameter.requires_grad for parameter in architectures.encoder_layers(student).parameters()):
        for match in matches:
            if match.config.side == "encoder":
                rank_zero_only(logger.warning)(
                    "%s: the student's encoder is frozen and learns nothing from it", match.name
                )
