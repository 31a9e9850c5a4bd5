"""The frozen teacher, kept outside every module tree."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy

from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.fingerprint import model_fingerprint
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.models.quantization import quantize_linear_layers
from seq2seq_distill.models.sharding import shard

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")


class Teacher:
    """A model that is only read: parameters frozen, always in eval mode, every pass without gradients.

    It is no `nn.Module`, so that a module which holds it does not register it: the teacher is in no state
    dict, no optimiser and no DDP bucket, and `train()` and `to()` of the owner do not reach it. Move it with
    `to`. A deep copy is the teacher itself.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        architectures.architecture_of(model)
        self.model = model.eval().requires_grad_(False)
        """The whole model."""
        self.generation = copy.deepcopy(model.generation_config)
        """The generation config it was loaded with, whatever a run configures."""
        self._sharded: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def to(self, device: torch.device | str, *, encoder: bool = True) -> Teacher:
        """Move the model to `device` and return self; `encoder=False` leaves the encoder's modules where they are."""
        skipped = set() if encoder else set(self.model.get_encoder().modules())
        for module in self.model.modules():
            if module not in skipped:
                module._apply(lambda tensor: tensor.to(device), recurse=False)
        return self

    def share_encoder(self, encoder: nn.Module) -> None:
        """Use the memory of `encoder`, whose weights are equal and never change, instead of a second copy."""
        shared = dict(encoder.named_parameters())
        for name, parameter in self.model.get_encoder().named_parameters():
            parameter.data = shared[name].data

    def cast_weights(self, precision: str) -> None:
        """Store all weights in `bf16`, or those of the layers' linear maps in `int8`; `32` changes nothing."""
        if precision == "bf16":
            self.model.to(torch.bfloat16)
        elif precision == "int8":
            for layers in (architectures.encoder_layers(self.model), architectures.decoder_layers(self.model)):
                quantize_linear_layers(layers)

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the architecture and all weights, which determine the teacher's outputs."""
        return model_fingerprint(self.model)

    @property
    def running(self) -> PreTrainedModel:
        """The model that passes run through: the whole one, or its sharded copy."""
        return self.model if self._sharded is None else self._sharded

    def shard(self, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
        """Run passes through a copy sharded over the processes of `mesh`; the whole model stays where it is."""
        if self._sharded is None:
            self._sharded = copy.deepcopy(self.model)
            self._sharded.run_gathered = lambda function: function()
            shard(self._sharded, self._sharded, mesh, policy, forward=["run_gathered"], keep_root=False)

    def drop_shards(self) -> None:
        """Run passes through the whole model again."""
        self._sharded = None

    def run_gathered(self, function: Callable[[], T]) -> T:
        """Call `function`, which uses the running model. If that is sharded, all processes must call it.

        Meanwhile the weights outside the layers are gathered.
        """
        if self._sharded is None:
            return function()
        results: list[T] = []
        # Not returned through FSDP, which would prepare a backward pass for a student's loss among the results.
        self._sharded.run_gathered(lambda: results.append(function()))
        if hasattr(self._sharded, "reset_iter_state"):  # without a backward pass FSDP forgets no forward pass by itself
            self._sharded.reset_iter_state()
        return results[0]

    @torch.no_grad()
    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The encoder's last hidden state [B, S, H]."""
        return forward.encode(self._in_eval_mode(), batch)

    @torch.no_grad()
    def decode(self, batch: Mapping[str, Tensor], encoder_state: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """The decoder's last hidden state [B, T, H], in the precision of the weights."""
        state = encoder_state.to(self.model.dtype) if self.model.dtype != torch.float32 else encoder_state
        return forward.decode(self._in_eval_mode(), batch, state, decoder_input_ids)

    @torch.no_grad()
    def head(self, hidden: Tensor) -> Tensor:
        """Logits [B, T, V] of the decoder's last hidden state [B, T, H]."""
        return forward.head(self.running, hidden)

    def _in_eval_mode(self) -> PreTrainedModel:
        # whoever reached the model, a call of `train()` on it or on a part of it does not turn dropout on
        return self.running.eval()


def load_teacher(path: str | Path, dtype: torch.dtype = torch.float32, *, field: str = "teacher") -> Teacher:
    """The teacher from a folder or a hub id. Raises ModelError, in one line that opens with `field`.

    Examples:
        >>> from seq2seq_distill import load_teacher
        >>> from seq2seq_distill.demo import model_source
        >>> teacher = load_teacher(model_source("demo:translation"))
        >>> teacher.model.training, any(weight.requires_grad for weight in teacher.model.parameters())
        (False, False)
    """
    return Teacher(load_pretrained(path, dtype, field=field))
