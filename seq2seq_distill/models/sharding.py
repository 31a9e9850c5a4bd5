"""Weights spread over processes with torch's `fully_shard` (FSDP2), and put together again.

A unit is what is gathered in one go: each layer is one, and all that is left (embeddings, head, outer norms) is the
root's. A unit's weights are whole only while its module runs, so whatever reads the root's, such as the output head,
has to run inside a call that torch knows as the root's forward pass.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from seq2seq_distill.models import architectures


def shard(
    root: nn.Module,
    model: PreTrainedModel,
    mesh: DeviceMesh,
    policy: MixedPrecisionPolicy,
    *,
    forward: Iterable[str],
    keep_root: bool = True,
) -> None:
    """Spread the weights of `root` over the processes of `mesh`, in place, layer by layer of `model`.

    Args:
        root: `model` itself or a module that holds it.
        model: whose layers become units.
        mesh: of one dimension.
        policy: from `precision_policy`.
        forward: methods of `root` that count as its forward pass.
        keep_root: leave the root's weights whole from its forward to its backward pass, which needs them first.
    """
    options: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    for layer in _layers(model):
        fully_shard(layer, **options)
    fully_shard(root, **options, reshard_after_forward=None if keep_root else True)
    for name in forward:
        register_fsdp_forward_method(root, name)


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` has been applied to this root."""
    return isinstance(module, FSDPModule)


def precision_policy(precision: str) -> MixedPrecisionPolicy:
    """With bf16-mixed, weights are gathered in bfloat16, half as many bytes; gradients are added up in float32.

    Other precisions gather and reduce in the type of the weights.
    """
    if precision == "bf16-mixed":
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    return MixedPrecisionPolicy()


def keep_unsharded(model: PreTrainedModel, keep: bool) -> None:
    """Whether a layer's weights stay whole after its forward pass; `False` also frees those that are.

    Decoding runs a layer once per token, and not equally often on all processes: kept, it is gathered once.
    """
    for layer in _layers(model):
        if isinstance(layer, FSDPModule):
            layer.set_reshard_after_forward(not keep, recurse=False)
            if not keep:
                layer.reshard()


def whole_state(module: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """The state dict with whole tensors, sharded ones gathered on the CPU, tied ones shared as before.

    All processes must call it. One tensor is gathered at a time; without `keep` this process forgets it again, and
    the sharded ones are missing in what it gets.
    """
    gathered: dict[int, Tensor | None] = {}
    state = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in gathered:
            gathered[id(value)] = gather(value, keep=keep)
        whole = gathered[id(value)]
        if whole is not None:
            state[name] = whole
    return state


def gather(value: Any, *, keep: bool = True) -> Any:
    """A sharded tensor whole, on the CPU (None without `keep`); anything else unchanged. All processes must call it."""
    if not isinstance(value, DTensor):
        return value.detach() if isinstance(value, Tensor) else value
    whole = value.full_tensor().detach()
    return whole.cpu() if keep else None


def spread_like(value: Any, like: Any) -> Any:
    """A whole tensor as that part of it which this process has of `like`; anything else unchanged."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def local_part(value: Tensor) -> Tensor:
    """The part of a sharded tensor that this process has, a view; any other tensor itself."""
    return value.to_local() if isinstance(value, DTensor) else value


def spread_local(part: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor, which all have one of, as a tensor that is sharded as `like` is."""
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())


def reshard(root: nn.Module) -> None:
    """Free the whole weights that any module still has, so that parameters are this process's parts."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def zero_row(matrix: Tensor, row: int) -> None:
    """Set a row of a matrix [V, H] to zero, in place; of a sharded one on the process that has it."""
    first = 0
    if isinstance(matrix, DTensor):
        mesh, rows = matrix.device_mesh, len(matrix)
        first = mesh.get_local_rank() * -(-rows // mesh.size())
        matrix = matrix.to_local()
    if 0 <= row - first < len(matrix):
        matrix[row - first] = 0


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    return [*architectures.encoder_layers(model), *architectures.decoder_layers(model)]
