"""The losses of the output head for a batch, of which the teacher may not know every target."""

from typing import Any

from torch import Tensor

from seq2seq_distill.config import LossConfig
from seq2seq_distill.losses.blend import StepTokens, add
from seq2seq_distill.losses.chunk_likelihood import ChunkTargets
from seq2seq_distill.losses.chunks import Ensemble, Head
from seq2seq_distill.losses.divergences import Divergences
from seq2seq_distill.losses.fused import HeadLoss, head_loss
from seq2seq_distill.losses.sparse import SparseTeacher
from seq2seq_distill.modules.forward_pass import Batch, ForwardPass
from seq2seq_distill.modules.step_options import StepOptions
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ConfigError


def head_terms(
    loss: LossConfig,
    batch: Batch,
    student: ForwardPass,
    teacher: tuple[Head, Tensor] | Ensemble | SparseTeacher | None,
    options: StepOptions,
    tokens: StepTokens,
    temperature: Tensor | float = 1.0,
) -> HeadLoss:
    """`head_loss` of a batch, with the teacher for those rows whose targets it knows.

    Args:
        loss: the run's.
        batch: `labels` [B, T] and, where the teacher does not know all of them, `distill_mask` [B]; `chunk` [B, T] and
            `chunk_logprobs` [C] where the data has likelihoods of chunks.
        student: its pass.
        teacher: at all N positions with a label; a `SparseTeacher` at those alone that it knows.
        options, tokens: of the step.
        temperature: T, or one for each position, [N].

    Raises:
        ConfigError: a batch processor has changed labels whose chunks have likelihoods.
    """
    chunks = None
    if loss.alpha_chunk and "chunk" in batch:
        if batch["chunk"].shape != batch["labels"].shape:
            raise ConfigError(
                f"`loss.alpha_chunk` {loss.alpha_chunk} is for the labels of the data, which batch_processor makes "
                "longer or shorter: leave out one of the two"
            )
        chunks = ChunkTargets(batch["chunk"][batch["labels"] != IGNORE_INDEX], batch["chunk_logprobs"])

    def part(places: Tensor | slice, teacher: Any, temperature: Any = 1.0, **more: Any) -> HeadLoss:
        return head_loss(
            student.head,
            student.hidden[places],
            student.labels[places],
            weights,
            teacher,
            divergences=Divergences(loss.divergences, loss.beta, loss.skew),
            temperature=temperature,
            label_smoothing=loss.label_smoothing,
            scale=tokens.head_scale,
            with_entropy=not options.training,  # a property of teacher and data: not worth its time in every step
            **more,
        )

    weights, of_data = options.weights, {"chunks": chunks, "tokens_per_chunk": tokens.per_chunk}
    if teacher is None or "distill_mask" not in batch:
        return part(slice(None), teacher, temperature, **of_data)
    known = _known_positions(batch)
    weights = {**weights, "ce_loss": weights["ce_loss"] * float(tokens.per_distilled)}
    temperature = temperature[known] if isinstance(temperature, Tensor) else temperature
    first, second = part(known, _at(teacher, known), temperature, **of_data), part(~known, None)
    return HeadLoss(first.loss + second.loss, {**first.terms, **add(first.terms, second.terms)})


def _known_positions(batch: Batch) -> Tensor:
    """[N], the positions with a label whose targets the teacher knows."""
    labels: Tensor = batch["labels"]
    return batch["distill_mask"][:, None].expand_as(labels)[labels != IGNORE_INDEX]


def _at(teacher: tuple[Head, Tensor] | Ensemble | SparseTeacher, known: Tensor) -> Any:
    """The teacher at some of the positions; cached outputs are those of these alone."""
    if isinstance(teacher, SparseTeacher):
        return teacher
    if isinstance(teacher, Ensemble):
        return teacher._replace(members=[(head, hidden[known]) for head, hidden in teacher.members])
    head, hidden = teacher
    return head, hidden[known]
