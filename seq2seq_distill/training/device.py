"""Device and precision of what a run computes outside its Trainer."""

import torch

from seq2seq_distill.config import TrainerConfig
from seq2seq_distill.utils.distributed import local_device

DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


def device_of_run(trainer: TrainerConfig) -> torch.device:
    """The device of this process, as the run's options say."""
    return local_device(trainer.accelerator, trainer.devices)


def precision_of(trainer: TrainerConfig) -> str:
    """The run's; by default bf16-mixed on a GPU that supports it, and 32-true elsewhere."""
    cuda = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    fallback = "bf16-mixed" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return str(trainer.precision or fallback)


def autocast_of(trainer: TrainerConfig, device: torch.device) -> torch.autocast:
    """Autocast as in the run's training; off where that is in full precision."""
    dtype = DTYPES.get(precision_of(trainer).partition("-")[0])
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
