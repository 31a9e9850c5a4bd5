"""The same losses for encoder-decoders that are not transformers models, from what an adaptor reads of their outputs.

An adaptor is a function of one's own that takes what the model returned and gives `ModelOutputs`. The training loop and
the files of such a model stay its owner's: only transformers models have a layout that can be cut, saved and exported.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seq2seq_distill.config import FeatureLossConfig, LossConfig, ResolvedLossConfig, validate
from seq2seq_distill.config.loss_conflicts import DistillationOptions
from seq2seq_distill.losses.blend import LossReport, blend
from seq2seq_distill.losses.divergences import divergence
from seq2seq_distill.losses.hidden import hidden_mse
from seq2seq_distill.losses.logits import Term, cross_entropy
from seq2seq_distill.models.hooks import Feature
from seq2seq_distill.modules.feature_matching import SIDES, layer_pairs, match_of, match_terms
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import raise_config_error


@dataclass(frozen=True)
class ModelOutputs:
    """What the losses read of a model: B rows, S source and T target positions, width H, vocabulary V.

    Only what is compared must be there. Layers stand in order, the first one first; embeddings are no layer.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import ModelOutputs
        >>> outputs = ModelOutputs(torch.zeros(2, 5, 100), decoder_hidden=[torch.zeros(2, 5, 16)])
        >>> len(outputs.layers("decoder", "hidden")), len(outputs.layers("encoder", "hidden"))
        (1, 0)
    """

    logits: Tensor
    """[B, T, V]; the one at a position is for the label there."""
    encoder_hidden: Sequence[Tensor] = ()
    """What each layer returns, [B, S, H]."""
    decoder_hidden: Sequence[Tensor] = ()
    """[B, T, H]"""
    encoder_attention: Sequence[Tensor] = ()
    """Weights of each layer's self-attention after the softmax, [B, heads, S, S]."""
    decoder_attention: Sequence[Tensor] = ()
    """[B, heads, T, T]"""
    cross_attention: Sequence[Tensor] = ()
    """[B, heads, T, S]"""

    def layers(self, side: str, kind: str) -> Sequence[Tensor]:
        """Of `encoder` or `decoder`: `hidden`, `self_attention` or `cross_attention`."""
        if kind == "cross_attention":
            return self.cross_attention
        of_side = {
            ("encoder", "hidden"): self.encoder_hidden,
            ("decoder", "hidden"): self.decoder_hidden,
            ("encoder", "self_attention"): self.encoder_attention,
            ("decoder", "self_attention"): self.decoder_attention,
        }
        return of_side[side, kind]


def distillation_loss(
    student: ModelOutputs,
    teacher: ModelOutputs,
    batch: Mapping[str, Tensor],
    loss: LossConfig | None = None,
    matches: Sequence[FeatureLossConfig] = (),
) -> LossReport:
    """The loss of a batch and each of its terms, means over the batch's tokens: what the modules compute.

    Logits of the whole batch are there already, so nothing is done in chunks. `alpha_hid` compares each student layer
    with the end of the block of teacher layers that it stands for.

    Args:
        student: outputs for the batch.
        teacher: outputs for the same batch and the same decoder inputs; they take no gradient.
        batch: `labels` [B, T], -100 where there is none, and `attention_mask` [B, S], 1 on source tokens.
        loss: the options; one temperature and weights that do not change. What it leaves open is 2.0, 0.8 and 0.2, see
            `LossConfig.resolved`.
        matches: inner states to compare, by `spread`, `last` or layers; without projections.

    Raises:
        ConfigError: a line for each option that needs more than outputs, or outputs that are not there.
        ModelError: a layer that is not there.

    Examples:
        >>> import torch
        >>> from seq2seq_distill import LossConfig, ModelOutputs, distillation_loss
        >>> student, teacher = (ModelOutputs(torch.randn(2, 5, 100)) for _ in range(2))
        >>> batch = {"labels": torch.randint(100, (2, 5)), "attention_mask": torch.ones(2, 7)}
        >>> report = distillation_loss(student, teacher, batch, LossConfig(temperature=1.0))
        >>> sorted(report.parts)
        ['ce_loss', 'mlm_loss']
    """
    loss = (loss or LossConfig()).resolved()
    validate(DistillationOptions(loss, list(matches)))
    raise_config_error([*_needs_more(loss, matches), *_missing(student, teacher, loss, matches)])
    labelled = batch["labels"] != IGNORE_INDEX
    masks = {"encoder": batch["attention_mask"], "decoder": labelled}
    terms = _head_terms(student.logits, teacher.logits, batch["labels"], loss)
    weights = {"ce_loss": loss.alpha_ce, "mlm_loss": loss.alpha_mlm}
    for side in SIDES if loss.alpha_hid else ():
        own, other = student.layers(side, "hidden"), teacher.layers(side, "hidden")
        pairs = layer_pairs(side, "spread", (len(own), len(other)), None, f"alpha_hid {loss.alpha_hid}")
        compared = [(own[one], other[two]) for one, two in pairs]
        terms[f"hid_loss_{side[:3]}"] = hidden_mse(compared, masks[side], loss.normalize_hidden)
        weights[f"hid_loss_{side[:3]}"] = loss.alpha_hid
    for number, entry in enumerate(matches):
        own, other = (outputs.layers(entry.side, entry.feature) for outputs in (student, teacher))
        match = match_of(number, entry, (len(own), len(other)), None)
        features = (_features(entry, own), _features(entry, other))
        terms |= match_terms([match], *features, masks, nn.ModuleDict())
        weights[match.name] = entry.weight
    return blend(terms, weights)


def _head_terms(student: Tensor, teacher: Tensor, labels: Tensor, loss: ResolvedLossConfig) -> dict[str, Term]:
    named = {
        name: divergence(student, teacher, labels, name, loss.temperature, beta=loss.beta, skew=loss.skew)
        for name in loss.divergences
    }
    total = sum((weight * named[name].sum for name, weight in loss.divergences.items()), student.new_zeros(()))
    labelled = (labels != IGNORE_INDEX).sum()
    terms = {"ce_loss": Term(total, labelled), "mlm_loss": cross_entropy(student, labels, loss.label_smoothing)}
    return terms | named if len(named) > 1 else terms


def _features(entry: FeatureLossConfig, layers: Sequence[Tensor]) -> dict[Feature, Tensor]:
    return {Feature(entry.side, entry.feature, number): layer for number, layer in enumerate(layers)}


def _needs_more(loss: LossConfig, matches: Sequence[FeatureLossConfig]) -> Iterator[str]:
    """Options that are more than a function of outputs."""
    courses = {name: getattr(loss.schedule, name) for name in ("temperature", "alpha_ce", "alpha_mlm", "alpha_hid")}
    courses |= {f"matches entry {number}": match.schedule for number, match in enumerate(matches)}
    for name, course in courses.items():
        if course != "constant":
            yield f"schedule of {name}, {course}: a batch has no step: give the options of the step"
    if loss.on_policy:
        yield f"on_policy {loss.on_policy}: sample the targets yourself, and give them as labels"
    if loss.alpha_chunk:
        yield f"alpha_chunk {loss.alpha_chunk}: a batch has no chunks: train with run_config"
    for number, match in enumerate(matches):
        if match.projection is not None:
            yield f"matches entry {number}, projection {match.projection}: add a projection layer to the adaptor"


def _missing(
    student: ModelOutputs, teacher: ModelOutputs, loss: LossConfig, matches: Sequence[FeatureLossConfig]
) -> Iterator[str]:
    """What is to be compared and was not read, or is not alike."""
    own, other = student.logits.shape[-1], teacher.logits.shape[-1]
    if own != other:
        yield f"the student has {own} output tokens, the teacher {other}: choose models of one vocabulary"
    compared = [("alpha_hid", side, "hidden", "mse") for side in SIDES if loss.alpha_hid]
    compared += [(f"matches entry {number}", m.side, m.feature, m.loss) for number, m in enumerate(matches)]
    for place, side, feature, function in compared:
        found = {"student": student.layers(side, feature), "teacher": teacher.layers(side, feature)}
        for whose, layers in found.items():
            if not layers:
                yield f"{place} compares {side} {feature}, which the {whose}'s outputs lack: return it from the adaptor"
        widths = [layers[0].shape[-1] for layers in found.values() if layers]
        if feature == "hidden" and function != "mmd" and len(set(widths)) > 1:
            yield (
                f"{place} compares {side} {feature}, {widths[0]} wide in the student and {widths[1]} in the teacher: "
                "add a projection layer to the adaptor"
            )
