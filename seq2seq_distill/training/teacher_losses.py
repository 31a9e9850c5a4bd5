"""Temperature and weights of the losses that a run leaves open: they follow from its teacher."""

import logging
from dataclasses import replace

import torch
from pytorch_lightning.utilities import rank_zero_only

from seq2seq_distill.config import RunConfig
from seq2seq_distill.config.losses import FLAT, ResolvedLossConfig
from seq2seq_distill.data.length_batches import lengths
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.training.caching import batches_of_rows, labelled_states, logit_chunks
from seq2seq_distill.training.components import RunComponents
from seq2seq_distill.training.device import device_of_run
from seq2seq_distill.training.preflight import attention_as_before

logger = logging.getLogger(__name__)

MEASURED_ROWS = 256
"""Most val examples on which the teacher's entropy is measured."""
MEASURED_TOKENS = 16384
"""Most source and target tokens of these."""


def with_losses_of_teacher(config: RunConfig, components: RunComponents) -> RunConfig:
    """The config with a temperature and weights in place of those that are open, as `LossConfig.resolved` finds them.

    Each process measures for itself, on the same rows.
    """
    teacher = components.teacher
    if teacher is None or not follows_teacher(config):
        return replace(config, loss=config.loss.resolved())
    rows = _first_rows(components)
    entropy = _entropy(config, components, teacher, rows)
    loss = config.loss.resolved(entropy)
    _log(entropy, len(rows), loss)
    return replace(config, loss=loss)


def follows_teacher(config: RunConfig) -> bool:
    """Whether the temperature is open, and one teacher decides it.

    A cache holds a single temperature, which must not depend on whether there is a teacher beside it; a schedule sets
    the temperature itself; the squared distance of logits has none.
    """
    loss = config.loss
    return (
        config.method == "kd"
        and loss.temperature is None
        and loss.alpha_ce != 0
        and not config.tasks
        and not config.ensemble.teachers
        and not config.teacher_cache
        and loss.schedule.temperature == "constant"
        and "mse" not in loss.divergences
    )


def _first_rows(components: RunComponents) -> range:
    """As many rows of the val split as may be measured."""
    encoded = components.tasks[0].teacher_view.data.encoded["val"]
    sizes = lengths(encoded, "input_ids")[:MEASURED_ROWS] + lengths(encoded, "labels")[:MEASURED_ROWS]
    return range(max(1, int((sizes.cumsum() <= MEASURED_TOKENS).sum())))


@torch.no_grad()
def _entropy(config: RunConfig, components: RunComponents, teacher: Teacher, rows: range) -> float:
    """Mean entropy of the teacher's distributions over the target tokens of these rows of val, in nats."""
    teacher.to(device_of_run(config.trainer))
    total, count = 0.0, 0
    with attention_as_before([teacher.model]):
        for batch in batches_of_rows(components, "val", rows):
            hidden, _ = labelled_states(components, teacher, config, "val", batch)
            for part in logit_chunks(teacher, hidden):
                total += float(torch.special.entr(teacher.head(part).float().softmax(-1)).sum())
            count += len(hidden)
    teacher.to("cpu")
    return total / max(1, count)


@rank_zero_only
def _log(entropy: float, rows: int, loss: ResolvedLossConfig) -> None:
    logger.info(
        "the teacher's distributions are %s, %.2f nats a token on %d val examples: --loss.temperature %g, "
        "--loss.alpha_ce %g, --loss.alpha_mlm %g",
        "flat" if entropy > FLAT else "not flat",
        entropy,
        rows,
        loss.temperature,
        loss.alpha_ce,
        loss.alpha_mlm,
    )
