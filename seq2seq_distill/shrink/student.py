"""Create a student from a teacher: some of its layers, narrower if asked, and everything else it has."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from seq2seq_distill.config import StudentConfig
from seq2seq_distill.config.student import WIDTHS
from seq2seq_distill.models import architectures, layer_map
from seq2seq_distill.shrink.depth import cut_config, keep_prompts, override, rebuild_settings, select_layers
from seq2seq_distill.shrink.hidden_size import narrow_hidden
from seq2seq_distill.shrink.width import changed_widths, narrow, resolve_widths, widths_of
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)


def create_student(
    teacher: PreTrainedModel,
    encoder_layers: int | None = None,
    decoder_layers: int | None = None,
    *,
    encoder_layer_ids: Sequence[int] | None = None,
    decoder_layer_ids: Sequence[int] | None = None,
    choice: Literal["spread", "first"] = "spread",
    overrides: Mapping[str, Any] | None = None,
    encoder_ffn_dim: float | None = None,
    decoder_ffn_dim: float | None = None,
    num_heads: int | None = None,
    d_model: int | None = None,
    batches: Iterable[Mapping[str, Tensor]] | None = None,
    repair: bool = True,
) -> PreTrainedModel:
    """Create a student from some of the teacher's layers and everything else it has.

    Everything that is not a layer is a copy of the teacher's, generation config included; what was tied stays
    tied, what was not is not. With all layers and widths the student's logits are the teacher's.

    Args:
        teacher: left as it is.
        encoder_layers: depth, 1 to the teacher's; by default the teacher's.
        decoder_layers: depth, 1 to the teacher's; by default a quarter of it, rounded up.
        encoder_layer_ids: the layers to copy, increasing, from 0; they decide the depth. If T5's block 0 is not among
            them, the first copied block gets its relative position biases.
        decoder_layer_ids: likewise.
        choice: "spread" takes the layers of `layer_map.copy_layers`, "first" the first ones.
        overrides: config keys with new values, such as {"dropout": 0.0, "decoder_layerdrop": 0.1}; None
            leaves a key as it is. "dropout" also names the `dropout_rate` of T5. They take effect on the
            built modules.
        encoder_ffn_dim: inner width of the encoder's feed-forward blocks, or a fraction of the teacher's below 1, which
            is rounded to a multiple of 8; by default the teacher's. T5 and its relatives have one for both stacks.
        decoder_ffn_dim: likewise, of the decoder's.
        num_heads: number of attention heads of T5 and its relatives; by default the teacher's.
        d_model: width of the hidden states of BART and relatives with learned positions, a multiple of the width of a
            head, since whole heads go with it; by default the teacher's.
        batches: calibration data for a narrower student, some thousand tokens: `input_ids` and `attention_mask`
            [B, S], `labels` [B, T] with -100 on padding, and the family's extra inputs.
        repair: correct the remaining weights by least squares on the calibration data (`shrink.repair`).

    Returns:
        A model in float32 and, like one from `from_pretrained`, in eval mode. Which layers were copied stands
        in `config.distilled_encoder_layers` and `config.distilled_decoder_layers`; what is narrower than in the
        teacher, in `config.distilled_widths`, as pairs of the student's and the teacher's size.

    Raises:
        ModelError: the architecture is not supported, the teacher has no such layers or widths, there are no
            batches for a narrower student, or an override is unknown or would change the shape of a tensor.

    Examples:
        >>> from seq2seq_distill import create_student, load_teacher
        >>> from seq2seq_distill.demo import model_source
        >>> teacher = load_teacher(model_source("demo:translation"))
        >>> student = create_student(teacher.model, decoder_layers=2)
        >>> student.config.distilled_decoder_layers
        [0, 5]
    """
    widths = resolve_widths(teacher.config, encoder_ffn_dim, decoder_ffn_dim, num_heads, d_model)
    whole = widths_of(teacher.config)
    narrower = widths != whole
    if narrower and batches is None:
        raise ModelError("a narrower student is calibrated on data: give `batches`")
    encoder_depth, decoder_depth = architectures.depths(teacher.config)
    encoder_ids = _layer_ids("encoder", encoder_depth, encoder_layers, encoder_layer_ids, choice, encoder_depth)
    quarter = -(-decoder_depth // 4)
    decoder_ids = _layer_ids("decoder", decoder_depth, decoder_layers, decoder_layer_ids, choice, quarter)

    student = copy.deepcopy(teacher).float().eval()
    select_layers(architectures.encoder_layers(student), encoder_ids)
    select_layers(architectures.decoder_layers(student), decoder_ids)
    if getattr(student.config, "use_prompt", False):
        keep_prompts(student, encoder_ids, decoder_ids)
    cut_config(student.config, encoder_ids, decoder_ids)
    for config in {
        id(config): config for config in (student.config, *architectures.stack_configs(student.config))
    }.values():
        if getattr(config, "use_cache", None) is False:
            config.use_cache = True  # gradient checkpointing leaves false; decoding would be slow wherever it is loaded
    if overrides:
        override(student, overrides)
    rebuild_settings(student)
    vars(student.config).pop("distilled_widths", None)  # of a teacher that was narrowed itself
    if narrower:
        batches = list(batches or ())
        narrow(student, widths, batches, repair=repair)
        rebuild_settings(student)
        if widths.d_model != whole.d_model:
            student = narrow_hidden(student, widths.d_model, batches, repair=repair)
        student.config.distilled_widths = changed_widths(teacher.config, student.config)
    return student


def _layer_ids(
    side: str, teacher_depth: int, depth: int | None, ids: Sequence[int] | None, choice: str, default: int
) -> layer_map.Layers:
    subject = f"`student.{side}_layers`"
    if ids is not None:
        checked = layer_map.check_layers(ids, teacher_depth, f"`student.{side}_layer_ids`")
        if depth is not None and depth != len(checked):
            raise ModelError(
                f"{subject} {depth} contradicts `student.{side}_layer_ids`, which lists {len(checked)}: leave one out"
            )
        return checked
    if depth is None:
        depth = default
        logger.info("%s is not set: the student gets %d of the teacher's %d layers", subject, depth, teacher_depth)
    layer_map.check_depth(teacher_depth, depth, subject)
    return layer_map.first_layers(depth) if choice == "first" else layer_map.copy_layers(teacher_depth, depth, subject)


def check_layout(config: StudentConfig, teacher: PreTrainedConfig) -> None:
    """Raise ModelError if a teacher with this config has fewer layers, or less width, than the student is to have."""
    for side, depth in zip(("encoder", "decoder"), architectures.depths(teacher), strict=True):
        wanted = getattr(config, f"{side}_layers")
        if wanted is not None:
            layer_map.check_depth(depth, wanted, f"`student.{side}_layers`")
    resolve_widths(teacher, **config.widths)


def cut_student(
    config: StudentConfig, teacher: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]] | None = None
) -> PreTrainedModel:
    """The student that a config describes, made of the teacher's layers: `create_student` with the config's options.

    `batches` are needed for a student that is narrower than the teacher.

    Raises:
        ModelError: the teacher has fewer layers, or an override does not fit.
    """
    check_layout(config, teacher.config)
    named = ("dropout", "attention_dropout", "encoder_layerdrop", "decoder_layerdrop")
    overrides = {name: getattr(config, name) for name in named if getattr(config, name) is not None}
    return create_student(
        teacher,
        config.encoder_layers,
        config.decoder_layers,
        encoder_layer_ids=config.encoder_layer_ids,
        decoder_layer_ids=config.decoder_layer_ids,
        choice=config.choice,
        overrides={**overrides, **config.overrides},
        batches=batches,
        repair=config.repair,
        **config.widths,
    )


def describe_cut(config: PreTrainedConfig) -> str | None:
    """What a student's config says about how it was cut, in a line; None if it was not."""
    layers = {side: getattr(config, f"distilled_{side}_layers", None) for side in ("encoder", "decoder")}
    if None in layers.values():
        return None
    parts = [f"{side} layers {' '.join(map(str, ids or ()))}" for side, ids in layers.items()]
    widths = getattr(config, "distilled_widths", {})
    parts += ["{} {} of {}".format(name, *widths[name]) for name in WIDTHS if name in widths]
    return ", ".join(parts)
