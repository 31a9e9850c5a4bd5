"""Attention kernels on a CPU in bfloat16."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class UnfusedCpuAttention(Callback):
    """While a model trains on a CPU in bfloat16, compute attention without PyTorch's fused kernel.

    The backward pass of that kernel does not use the processor's bfloat16 instructions; plain matrix products do
    (`python -m benchmarks.cpu_precision`). The switch is PyTorch's and holds for the process, so it is restored.
    """

    def __init__(self) -> None:
        self._before: bool | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cpu" and str(trainer.precision).startswith("bf16"):
            self._before = torch.backends.cuda.flash_sdp_enabled()  # the kernel of the CPU has the same switch
            torch.backends.cuda.enable_flash_sdp(False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            torch.backends.cuda.enable_flash_sdp(self._before)
            self._before = None
