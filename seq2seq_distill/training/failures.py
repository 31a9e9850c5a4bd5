"""What can fail under a run: its numbers, or the machine. Each is told in one line with its remedy."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.errors import RunError, Stopped, UserError
from seq2seq_distill.utils.failures import describe_failure
from seq2seq_distill.utils.files import write_json

logger = logging.getLogger(__name__)

MORE_MEMORY = (
    "lower `batch.max_tokens`, `batch.size` or `eval.batch_size`, or raise `trainer.accumulate_grad_batches`, in a new "
    "`output_dir`"
)
SCALER_STEPS = 50
"""Steps in a row that the gradient scaler of 16-mixed may leave out: it halves its scale each time, and 2^16 halved so
often is below the smallest number of float16."""


class NonFiniteGuard(Callback):
    """Before every optimiser step: stop the run, or leave the step out, if a gradient is NaN or infinite.

    A loss that is not finite makes its gradients so. They are summed over processes by then: all decide alike.

    Args:
        on_nonfinite: `stop` or `skip`.
        plan: of the run.
        folder: of the run; `stop` writes the rows of the step into its nonfinite.json.
    """

    def __init__(self, on_nonfinite: str, plan: RunPlan, folder: OutputFolder) -> None:
        self._skip = on_nonfinite == "skip"
        self._plan = plan
        self._folder = folder
        self._in_a_row = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return
        norms = torch.stack(torch._foreach_norm(gradients))
        local = norms.full_tensor() if hasattr(norms, "full_tensor") else norms
        if trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(local).all())):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if trainer.precision == "16-mixed" and self._in_a_row < SCALER_STEPS:
            return  # its gradient scaler meets infinite gradients as a matter of course, and leaves the step out
        step = trainer.global_step + 1
        rows = self._plan.rows(trainer.global_step).tolist()
        if self._skip:
            logger.warning("step %d is skipped: a gradient is not finite (rows %s ...)", step, rows[:5])
            optimizer.zero_grad(set_to_none=True)
            return
        if trainer.is_global_zero:
            values = {name: float(value) for name, value in trainer.callback_metrics.items() if "loss" in name}
            finite = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
            write_json(self._folder.nonfinite, {"step": step, "rows": rows, **finite})
        raise RunError(
            f"step {step}: a loss or gradient is NaN or infinite; rows and losses are in {self._folder.nonfinite}. "
            "Lower `optim.lr` in a new `output_dir`, or leave such steps out with `on_nonfinite` skip"
        )


class LastBatch(Callback):
    """Remembers the shape of the batch in work, for the message when memory runs out."""

    def __init__(self) -> None:
        self.shape = ""

    def _note(self, kind: str, batch: Any) -> None:
        rows, source = batch["input_ids"].shape
        self.shape = (
            f" with a {kind} batch of {rows} rows x ({source} source, {batch['labels'].shape[1]} target) tokens"
        )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._note("training", batch)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        self._note("validation", batch)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *_: Any) -> None:
        self._note("test", batch)


@contextmanager
def translate_errors(config: RunConfig, last: LastBatch) -> Iterator[None]:
    """Turn what the libraries raise when machine or disk fail into a `RunError`; all else passes through."""
    try:
        yield
    except (UserError, RunError, Stopped):
        raise
    except Exception as error:
        message = describe_failure(error, config.folder, MORE_MEMORY, last.shape)
        if message is None:
            raise
        raise RunError(message) from error
