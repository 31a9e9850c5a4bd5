"""Linear layers with 8-bit weights, for models that are not trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Int8Linear(nn.Module):
    """A linear map with weights in 8 bits and a scale for each output; the product runs in the inputs' precision.

    Args:
        linear: the map to stand for.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        self.register_buffer("weight", (linear.weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] to [..., out]"""
        weight = self.weight.to(inputs.dtype) * self.scale.to(inputs.dtype)
        return F.linear(inputs, weight, None if self.bias is None else self.bias.to(inputs.dtype))


@torch.no_grad()
def quantize_linear_layers(module: nn.Module) -> None:
    """Replace every linear layer inside `module` with an `Int8Linear`, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantize_linear_layers(child)
