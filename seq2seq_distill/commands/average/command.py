"""`distill average`: the mean of several checkpoints' weights."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from seq2seq_distill.commands.average.options import AverageConfig
from seq2seq_distill.commands.convert.command import load_checkpoint
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_of
from seq2seq_distill.training.output_folder import check_free, save_model
from seq2seq_distill.utils.errors import ModelError

logger = logging.getLogger(__name__)


def average(config: AverageConfig) -> None:
    """Save the averaged model with the first one's tokenizer, in Hugging Face format.

    Raises:
        ModelError: a checkpoint cannot be read, or they are not of one architecture.
    """
    target = check_free(config.folder)
    loaded = [load_checkpoint(Path(path).expanduser(), "checkpoints") for path in config.checkpoints]
    model, folder = loaded[0]
    try:
        weights = mean_weights([other.state_dict() for other, _ in loaded])
    except ValueError as error:
        raise ModelError(
            f"`checkpoints` {' '.join(config.checkpoints)}: {error}; average models of one shape"
        ) from None
    model.load_state_dict(weights)
    save_model(target, model, tokenizer_of(folder, "checkpoints"))
    logger.info("saved the average of %d checkpoints to %s", len(loaded), config.folder)


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor, summed in fp64, in its own type; others must agree and stay as they are.

    Raises:
        ValueError: names, shapes, or integer buffers differ.
    """
    first = states[0]
    mean = {}
    for name, value in first.items():
        others = [state.get(name) for state in states]
        if any(other is None or other.shape != value.shape for other in others) or any(
            state.keys() != first.keys() for state in states
        ):
            raise ValueError(f"{name} is not the same in all of them")
        same = [other for other in others if other is not None]
        if value.is_floating_point():
            mean[name] = torch.stack([other.double() for other in same]).mean(dim=0).to(value.dtype)
        elif all(torch.equal(other, value) for other in same):
            mean[name] = value.clone()
        else:
            raise ValueError(f"the integer buffer {name} differs")
    return mean
