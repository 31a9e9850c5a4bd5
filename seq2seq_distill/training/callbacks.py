"""What happens around the steps: the best student is kept, throughput is logged, and progress is shown."""

import logging
import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from seq2seq_distill.config.tasks import monitor_mode
from seq2seq_distill.data.run_plan import RunPlan
from seq2seq_distill.models.sharding import whole_state
from seq2seq_distill.modules.extensions import OnSaved
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.training.model_card import model_card
from seq2seq_distill.training.output_folder import OutputFolder, best_step, save_model
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.files import write_jsonl
from seq2seq_distill.utils.progress import Progress

logger = logging.getLogger(__name__)


class BestStudent(Callback):
    """Write metrics.jsonl, a line per validation, and keep the best student by the monitored value in best/.

    `on_saved` is called after that.
    """

    def __init__(self, folder: OutputFolder, plan: RunPlan, monitor: str, on_saved: OnSaved | None = None) -> None:
        self._folder = folder
        self._plan = plan
        self.monitor = f"val_{monitor}"
        """Name of the monitored value in the logs."""
        self._on_saved = on_saved
        self._sign = 1.0 if monitor_mode(monitor) == "max" else -1.0
        self.best: float | None = None
        """Monitored value of the best student so far."""
        self.best_step: int | None = None
        """Optimiser steps it had."""

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the best student where best/ is another or missing, as after a resume from an older checkpoint."""
        if not trainer.strategy.broadcast(self._has_best()):
            self.best = self.best_step = None

    def _has_best(self) -> bool:
        lines = self._folder.read_metrics()
        marked = all("best" in line for line in lines)  # versions up to 0.2.0 marked none
        return self._folder.best.is_dir() and (not marked or best_step(lines) == self.best_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        step = trainer.global_step
        values = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val_")}
        best = None if self.best is None or math.isnan(self.best) else self.best  # a NaN would never be beaten
        improved = best is None or self._sign * values[self.monitor] > self._sign * best
        if improved:
            self.best, self.best_step = values[self.monitor], step
        assert isinstance(pl_module, SummarizationModule)
        weights = whole_state(pl_module.student, keep=trainer.is_global_zero) if improved else None  # by all processes
        if trainer.is_global_zero:
            self._write(pl_module, step, values, weights)
        trainer.strategy.barrier()

    def _write(
        self, module: SummarizationModule, step: int, values: dict[str, float], best: dict[str, Tensor] | None
    ) -> None:
        place = {"step": step, "data_epoch": round(self._plan.data_epoch(step), 4), "best": best is not None}
        record = {**place, **values}
        # After a resume, later lines of the interrupted run are not part of this one.
        earlier = [line for line in self._folder.read_metrics() if line["step"] < step]
        write_jsonl(self._folder.metrics, [*earlier, record])
        if best is not None:
            card = model_card(module.config, module.student.config)
            save_model(self._folder.best, module.student, module.tokenizer, card, best)
        logger.info(
            "step %d of %d, data epoch %.2f: %s%s",
            step,
            self._plan.total_steps,
            place["data_epoch"],
            ", ".join(f"{name} {value:.4g}" for name, value in sorted(values.items())),
            " (best)" if best is not None else "",
        )
        if best is not None and self._on_saved is not None:
            self._on_saved(self._folder.best, step, values)


class ThroughputLogger(Callback):
    """Log learning rate, data epoch, tokens of the batch, share of padding, and tokens a second."""

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._tokens = 0
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tokens, self._since = 0, time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tokens, self._since = 0, time.monotonic()  # the time of a validation is no training time

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        source, target = int(batch["attention_mask"].sum()), int((batch["labels"] != IGNORE_INDEX).sum())
        self._tokens += source + target
        padded = batch["attention_mask"].numel() + batch["labels"].numel()
        figures = {
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "data_epoch": self._plan.data_epoch(trainer.global_step),
            "rows": float(len(batch["row"])),
            "source_tokens": float(source),
            "target_tokens": float(target),
            "padding": 1 - (source + target) / padded,
            "tokens_per_second": self._tokens / max(time.monotonic() - self._since, 1e-9),
        }
        pl_module.log_dict(figures)


class ProgressReporter(Callback):
    """Show how far training, each validation and each test are, on process 0.

    Training shows the time left with all validations, tokens a second, the losses, and the best score so far.
    """

    def __init__(self, plan: RunPlan, best: BestStudent) -> None:
        self._plan = plan
        self._best = best
        self._training: Progress | None = None
        self._evaluation: Progress | None = None
        self._tokens = 0
        self._seconds_per_validation = 0.0
        self._losses: set[str] = set()  # those that have been other than zero

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures, total = partial(self._figures, trainer), self._plan.total_steps
        self._training = Progress("training", total, "steps", figures=figures, shown=trainer.is_global_zero)
        self._training.skip(trainer.global_step)
        self._tokens = 0
        self._train()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert self._training is not None
        step = trainer.global_step
        if step > self._training.done:  # the last of the accumulated batches
            self._tokens += sum(self._plan.batches_of(step - 1).tokens(self._plan.rows(step - 1)))
            self._training.advance()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        untrained = trainer.state.fn == TrainerFn.VALIDATING
        self._evaluate(trainer, "validating the untrained student" if untrained else "validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._evaluation is not None
        self._seconds_per_validation = self._evaluation.seconds
        self._stop()
        if trainer.state.fn == TrainerFn.FITTING:
            self._train()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SummarizationModule)
        self._evaluate(trainer, f"testing the {pl_module.role}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_validation_batch_end(self, *_: Any) -> None:
        assert self._evaluation is not None
        self._evaluation.advance()

    def on_test_batch_end(self, *_: Any) -> None:
        assert self._evaluation is not None
        self._evaluation.advance()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _train(self) -> None:
        """Show the training, from its first step on or after a validation."""
        assert self._training is not None
        validations = -(-self._plan.total_steps // self._plan.steps_between_validations)
        validations -= self._training.done // self._plan.steps_between_validations
        self._training.extra_seconds = validations * self._seconds_per_validation
        self._training.start()

    def _evaluate(self, trainer: Trainer, phase: str) -> None:
        self._stop()
        batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        self._evaluation = Progress(phase, int(sum(batches)), "batches", shown=trainer.is_global_zero)
        self._evaluation.start()

    def _stop(self) -> None:
        for progress in (self._training, self._evaluation):
            if progress is not None:
                progress.stop()

    def _figures(self, trainer: Trainer) -> Iterator[str]:
        assert self._training is not None
        yield f"{self._tokens / max(self._training.seconds, 1e-9):,.0f} tokens a second"
        values = trainer.progress_bar_metrics
        self._losses |= {name for name, value in values.items() if value}
        yield from (f"{name} {value:.4g}" for name, value in values.items() if name in self._losses)
        if self._best.best is not None:
            yield f"best {self._best.monitor} {self._best.best:.4g} at step {self._best.best_step}"
