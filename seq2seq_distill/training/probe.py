"""A few steps of a run outside a Trainer, to see what they cost."""

from collections.abc import Mapping
from statistics import median
from time import perf_counter
from typing import Any

from torch.nn.utils import clip_grad_norm_

from seq2seq_distill.config import RunConfig
from seq2seq_distill.decoding.generation import to_device
from seq2seq_distill.metrics.cost import PeakMemory, model_bytes, synchronize
from seq2seq_distill.modules.planned_training import seed_from
from seq2seq_distill.modules.step_options import StepOptions
from seq2seq_distill.training.build import make_module
from seq2seq_distill.training.components import RunComponents
from seq2seq_distill.training.device import autocast_of, device_of_run

WARM_UP = 3
"""Steps that are not timed."""


class Probe:
    """The run's module and optimiser on the device of this process, without the Trainer around them."""

    def __init__(self, config: RunConfig, parts: RunComponents) -> None:
        self.parts, self.device = parts, device_of_run(config.trainer)
        self.module = make_module(config, parts).to(self.device).train()
        self.teachers = parts.teachers
        for teacher in self.teachers:
            teacher.cast_weights(config.trainer.teacher_precision)
            teacher.to(self.device)
        trained = [weight for weight in self.module.parameters() if weight.requires_grad]
        self._average = [weight.detach().clone() for weight in trained] if config.optim.ema is not None else []
        optimization = self.module.configure_optimizers()
        self.optimizer, self._schedule = optimization["optimizer"], optimization["lr_scheduler"]["scheduler"]
        self._config, self._trained = config, trained

    def train(self) -> None:
        """All steps of the run, with the random numbers of its first process."""
        plan = self.parts.data.plan
        for step in range(plan.total_steps):
            seed_from(self._config.seed, "train", 0, step, 0)
            self.step(self.parts.data.training_batch(step), self.module.step_options(step, plan.total_steps))
            self._schedule.step()

    def step(self, batch: Mapping[str, Any], options: StepOptions | None = None) -> None:
        """One optimiser step in the run's precision, by default with the weights as configured."""
        batch = to_device(batch, self.device)
        with autocast_of(self._config.trainer, self.device):
            loss = self.module.compute_loss(batch, options).loss
        loss.backward()
        if self._config.trainer.gradient_clip_val is not None:
            clip_grad_norm_(self._trained, self._config.trainer.gradient_clip_val)
        self.optimizer.step()
        self.optimizer.zero_grad()
        synchronize(self.device)

    def seconds_per_step(self, steps: int, *, parts: int = 1) -> float:
        """Median over the run's first steps, after a warm-up, in seconds; of one of so many parts of each step."""
        data, seconds = self.parts.data, []
        batches = data.batches("train")
        for step in range(min(WARM_UP + steps, data.plan.total_steps)):
            start = perf_counter()
            self.step(batches[data.plan.micro_batch(step, slice(None, None, parts))])
            seconds.append(perf_counter() - start)
        return median(seconds[WARM_UP:] or seconds)

    def memory(self) -> int:
        """Bytes of student, its average, teachers, gradients, optimiser and everything between, at the peak of the
        largest step."""
        plan = self.parts.data.plan
        largest = max(range(min(100, plan.total_steps)), key=lambda step: self._padded(step))
        with PeakMemory(self.device) as peak:
            for _ in range(2):
                self.step(self.parts.data.training_batch(largest))
        average = sum(weight.nbytes for weight in self._average)
        models = (self.module, *(teacher.model for teacher in self.teachers))
        return peak.bytes + average + sum(map(model_bytes, models))

    def _padded(self, step: int) -> int:
        batches, rows = self.parts.data.plan.batches_of(step), self.parts.data.plan.rows(step)
        return len(rows) * int(batches.source_lengths[rows].max() + batches.target_lengths[rows].max())
