"""What identifies a model by its content."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 (hexadecimal) of a model's architecture and all its weights, which determine its outputs."""
    config = model.config.to_diff_dict()
    digest = hashlib.sha256(json.dumps(config | {"transformers_version": None}, sort_keys=True).encode())
    for name, weight in model.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
