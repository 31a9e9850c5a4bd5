"""Statistics of what goes into a linear map of a model, over some rows of training data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from seq2seq_distill.models import architectures, forward
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Moments:
    """First and second moments of vectors [F], in float64."""

    mean: Tensor
    """[F]"""
    second: Tensor
    """[F, F], about zero"""
    count: int
    """Number of vectors."""

    @property
    def covariance(self) -> Tensor:
        """[F, F], about the mean."""
        return self.second - torch.outer(self.mean, self.mean)


class Calibration:
    """Passes over batches of real data, each of which ends at the map whose inputs are wanted.

    Args:
        model: in eval mode. While its decoder is looked at, its encoder must not change any more.
        batches: `input_ids` and `attention_mask` [B, S], `labels` [B, T] with -100 on padding, and the family's extra
            inputs. They are moved to the model's device.

    Raises:
        ModelError: there are no batches.
    """

    def __init__(self, model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> None:
        self._model = model
        self._batches: list[dict[str, Any]] = [
            {name: field.to(model.device) for name, field in batch.items() if isinstance(field, Tensor)}
            for batch in batches
        ]
        if not self._batches:
            raise ModelError("a narrower student is calibrated on data, but `batches` is empty: give some")

    def with_model(self, model: PreTrainedModel) -> Calibration:
        """The same data for another model."""
        return Calibration(model, self._batches)

    @torch.no_grad()
    def moments(self, side: str, module: nn.Linear) -> Moments:
        """Moments of the inputs of `module`, which is part of the stack `side`, over all positions without padding."""
        return moments_of(self.inputs(side, module))

    @torch.no_grad()
    def inputs(self, side: str, module: nn.Module, of_source: bool | None = None) -> Iterator[Tensor]:
        """Of each batch, the inputs [N, F] of `module` at the N positions that are not padding.

        Args:
            side: the stack that `module` is part of.
            module: any that is called with one tensor.
            of_source: whether that tensor has the source's positions (default: in the encoder).
        """
        for batch, state in zip(self._batches, self._states(side), strict=True):
            with _stopping_at(module) as caught:
                self._pass(batch, state)
            if of_source or (of_source is None and side == "encoder"):
                mask = batch["attention_mask"].bool()
            else:
                mask = batch["labels"] != IGNORE_INDEX
            yield self._without_padding(caught[0], mask)

    @torch.no_grad()
    def run(self, side: str) -> None:
        """Pass the first batch through a whole stack."""
        self._pass(self._batches[0], self._states(side)[0])

    def _pass(self, batch: Mapping[str, Any], state: Tensor | None) -> None:
        """Through the decoder or, without the encoder's state, through the encoder."""
        if state is None:
            forward.encode(self._model, batch)
        else:
            forward.decode(self._model, batch, state, forward.decoder_inputs(self._model, batch["labels"]))

    def _states(self, side: str) -> Sequence[Tensor | None]:
        return [None] * len(self._batches) if side == "encoder" else self._encoder_states

    @cached_property
    def _encoder_states(self) -> list[Tensor]:
        return [forward.encode(self._model, batch) for batch in self._batches]

    def _without_padding(self, inputs: Tensor, mask: Tensor) -> Tensor:
        model_type = architectures.architecture_of(self._model).model_type
        if model_type == "fsmt":  # its layers have time first
            inputs = inputs.transpose(0, 1)
        length, width = inputs.shape[1], mask.shape[1]
        if model_type == "prophetnet":  # the streams of its decoder lie behind each other
            mask = mask.repeat(1, length // width)
        elif length > width:  # LED, Pegasus-X and BigBird-Pegasus fill the last window up
            mask = pad(mask, (0, length - width))
        return inputs[mask]


def moments_of(batches: Iterable[Tensor]) -> Moments:
    """Moments of the vectors [N, F] of all batches."""
    total: Tensor | None = None
    gram: Tensor | None = None
    count = 0
    for batch in batches:
        vectors = batch.double()
        sums, products = vectors.sum(0), vectors.T @ vectors
        total, gram = (sums, products) if total is None or gram is None else (total + sums, gram + products)
        count += len(vectors)
    assert total is not None and gram is not None  # a calibration has batches
    return Moments(total / count, gram / count, count)


class _Reached(Exception):
    """The inputs of the map are known: the rest of the pass is not needed."""


@contextmanager
def _stopping_at(module: nn.Module) -> Iterator[list[Tensor]]:
    """End the forward pass within this context at `module`, and put the module's input into the list."""
    caught: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught.append(args[0])
        raise _Reached

    hook = module.register_forward_pre_hook(record)
    try:
        with suppress(_Reached):
            yield caught
    finally:
        hook.remove()
