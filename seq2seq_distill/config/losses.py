"""Options of the losses and of their schedules."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from seq2seq_distill.config.bounds import (
    above,
    ascending_above_zero,
    at_least,
    between,
    fraction,
    inside,
    option,
    weights_of,
)

DivergenceName = Literal[
    "forward_kl", "reverse_kl", "jsd", "total_variation", "skewed_forward_kl", "skewed_reverse_kl", "mse"
]
"""The divergences that `ce_loss` can be made of; `losses/divergences.py` has their formulas."""
WeightSchedule = Literal["constant", "linear_growth", "linear_decay", "warmup"]
"""How a loss weight is scaled over the course of training."""
FLAT = 1.5
"""Entropy in nats a token above which a teacher's distributions count as flat."""
OPEN_LOSSES = ("temperature", "alpha_ce", "alpha_mlm")
"""Options that follow from the teacher where they are not given."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Schedules of temperature and loss weights; docs/losses.md has the formulas. Validation does not apply them.

    Examples:
        >>> from seq2seq_distill import LossConfig, ScheduleConfig
        >>> loss = LossConfig(temperature=4.0, schedule=ScheduleConfig(temperature="linear"))
        >>> loss.temperature, loss.schedule.temperature_end
        (4.0, 1.0)
    """

    temperature: Literal["constant", "linear", "cosine", "flsw", "cwsm"] = "constant"
    """Temperature schedule of ce_loss: linear and cosine move to --loss.schedule.temperature_end over training; flsw
    and cwsm set a temperature per token from the models' predictions."""
    temperature_end: float = option(1.0, above(0))
    """Temperature at the last training step when the temperature schedule is linear or cosine."""
    temperature_range: tuple[float, float] = option((1.0, 8.0), ascending_above_zero)
    """Lowest and highest temperature that flsw and cwsm may set."""
    strength: float = option(1.0, at_least(0))
    """How far flsw and cwsm move from the base temperature (beta in TextBrewer)."""
    exponent: float = option(1.0, above(0))
    """Exponent of the distance between student and teacher in flsw (gamma in TextBrewer)."""
    alpha_ce: WeightSchedule = "constant"
    """Schedule of --loss.alpha_ce: constant, linear growth from 0, linear decay to 0, or a warm-up from 0."""
    alpha_mlm: WeightSchedule = "constant"
    """Schedule of --loss.alpha_mlm: constant, linear growth from 0, linear decay to 0, or a warm-up from 0."""
    alpha_hid: WeightSchedule = "constant"
    """Schedule of --loss.alpha_hid: constant, linear growth from 0, linear decay to 0, or a warm-up from 0."""
    warmup_steps: int | None = option(None, at_least(0))
    """Number of warm-up steps of weights whose schedule is warmup (default: those of the learning-rate schedule)."""


@dataclass(frozen=True)
class LossConfig:
    """The losses that the student is trained with; docs/losses.md has the formulas.

    Examples:
        >>> from seq2seq_distill import LossConfig
        >>> LossConfig(divergence={"forward_kl": 1, "reverse_kl": 0.5}, alpha_mlm=0.0).divergences
        {'forward_kl': 1, 'reverse_kl': 0.5}
    """

    alpha_ce: float | None = option(None, at_least(0))
    """Weight of ce_loss, the divergence between the teacher's and the student's token distributions (default: 0.8, or
    1.6 at a temperature below 1)."""
    alpha_mlm: float | None = option(None, at_least(0))
    """Weight of mlm_loss, the cross-entropy with the labels (default: 0.2)."""
    alpha_hid: float = option(0.0, at_least(0))
    """Weight of hid_loss_enc + hid_loss_dec, the mean squared distance between hidden states of paired layers."""
    alpha_chunk: float = option(0.0, at_least(0))
    """Weight of chunk_loss, which compares the student's likelihood of each stretch of the label with the one stored in
    the label set; works across tokenizers and without a teacher."""
    temperature: float | None = option(None, above(0))
    """Softmax temperature applied to both student and teacher in ce_loss (default: 2.0, or 0.5 for a flat teacher,
    whose entropy on the val split exceeds 1.5 nats per token)."""
    divergence: DivergenceName | dict[str, float] = option("forward_kl", weights_of(get_args(DivergenceName)))
    """Divergence that ce_loss measures: one name, or several with weights, such as
    {"forward_kl": 1, "reverse_kl": 0.5}."""
    beta: float = option(0.5, inside(0, 1))
    """Interpolation coefficient of the generalized Jensen-Shannon divergence (jsd); values near 0 approach forward KL,
    values near 1 reverse KL."""
    skew: float = option(0.1, fraction())
    """Fraction of the first distribution that skewed_forward_kl and skewed_reverse_kl mix into the second."""
    label_smoothing: float = option(0.0, fraction())
    """Label smoothing of mlm_loss."""
    normalize_hidden: bool = False
    """Normalize the hidden states of each position over their width before comparing them."""
    supervise_forward: bool = False
    """Compare each student layer with the last layer of the teacher block that it replaces, not with the layer that it
    was copied from."""
    on_policy: float = option(0.0, between(0, 1))
    """Fraction of training steps whose targets are sampled by the student and judged by the teacher; they have no
    mlm_loss."""
    on_policy_temperature: float = option(1.0, above(0))
    """Temperature at which the student samples on-policy targets."""
    on_policy_max_length: int | None = option(None, at_least(1))
    """Maximum length of an on-policy target in tokens (default: --encode.max_target_length)."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    @property
    def divergences(self) -> dict[str, float]:
        """Weight of each divergence in `ce_loss`."""
        return {self.divergence: 1.0} if isinstance(self.divergence, str) else self.divergence

    def resolved(self, teacher_entropy: float | None = None) -> "ResolvedLossConfig":
        """The options with a temperature and weights in place of those that are left open (None).

        A flat distribution says little about which token is right, and hardly anything once it is softened further: it
        is sharpened instead. On Multi30k, with a teacher of 2.0 nats a token, temperature 0.5 with `alpha_ce` 1.6
        reached a higher BLEU than temperature 2 with 0.8 (docs/results.md, "Which losses and targets"). `alpha_ce`
        follows from the temperature, whoever chose it: below 1 the factor T^2 makes `ce_loss` small, and the weight is
        doubled.

        Args:
            teacher_entropy: mean entropy of the teacher's distributions, in nats a token; None where it is unknown.
        """
        flat = teacher_entropy is not None and teacher_entropy > FLAT
        found: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(LossConfig)}
        if self.temperature is None:
            found["temperature"] = 0.5 if flat else 2.0
        if self.alpha_ce is None:
            found["alpha_ce"] = 1.6 if found["temperature"] < 1 else 0.8
        if self.alpha_mlm is None:
            found["alpha_mlm"] = 0.2
        return ResolvedLossConfig(**found)


@dataclass(frozen=True)
class ResolvedLossConfig(LossConfig):
    """A `LossConfig` that leaves nothing open: what the losses are computed with."""

    alpha_ce: float = option(0.8, at_least(0))
    alpha_mlm: float = option(0.2, at_least(0))
    temperature: float = option(2.0, above(0))


@dataclass(frozen=True)
class FeatureLossConfig:
    """A feature loss: it compares layers of the student with layers of the teacher; docs/losses.md has the formulas.

    Examples:
        >>> from seq2seq_distill import FeatureLossConfig, RunConfig
        >>> last = FeatureLossConfig(layers="last", loss="cosine", weight=0.5)
        >>> RunConfig(task="translation", matches=[last]).matches[0].side
        'decoder'
    """

    side: Literal["encoder", "decoder"] = "decoder"
    """Stack whose layers are compared."""
    feature: Literal["hidden", "self_attention", "cross_attention"] = "hidden"
    """What is compared: the layers' hidden states or their attention weights."""
    layers: Literal["copied", "spread", "last"] | None = None
    """Layer pairs, in place of student and teacher: each student layer with the one it was copied from (copied), with
    the end of the teacher block it replaces (spread), or only the last layer of each (last)."""
    student: int | list[int] | None = None
    """Student layer, counted from 0, or from the end as -1, -2, ...; the loss gram takes two."""
    teacher: int | list[int] | None = None
    """Teacher layer, counted from 0, or from the end as -1, -2, ...; the loss gram takes two."""
    loss: Literal["mse", "cosine", "pkd", "pkd_first", "mmd", "gram", "ce"] = "mse"
    """Loss between the two features; attention weights take mse or ce."""
    weight: float = option(1.0, at_least(0))
    """Weight of this comparison in the total loss, whatever the number of layer pairs."""
    schedule: WeightSchedule = "constant"
    """How the weight is scaled over the course of training, as in --loss.schedule."""
    projection: Literal["linear", "relu", "tanh"] | None = None
    """Trained projection of the student's hidden states to the teacher's width, with this activation."""
