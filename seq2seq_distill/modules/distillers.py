"""The student in training beside its teacher."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.losses.blend import StepTokens, blend
from seq2seq_distill.models import architectures
from seq2seq_distill.models.sharding import is_sharded, precision_policy
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.modules.forward_pass import Batch
from seq2seq_distill.modules.objectives import DistillationObjective
from seq2seq_distill.modules.on_policy import OnPolicySampler, samples_in
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.modules.tasks import Task
from seq2seq_distill.modules.teacher_runner import TeacherRunner
from seq2seq_distill.utils.deprecation import renamed_arguments


class SummarizationDistiller(SummarizationModule):
    """As `SummarizationModule`, with a teacher to learn from.

    The teacher is not a submodule: no checkpoint, optimiser or process group contains it, and it stays in eval mode.

    Args:
        student: the model to train, as in `SummarizationModule`.
        teacher: the frozen teacher of the (first) task; None if the batches bring its cached outputs.
        tokenizer: turns generated ids into text.
        config: the run's config.
        total_steps: optimiser steps of the run, for the schedule.
        extensions: loss terms and a change of batches besides what the config says.
        tasks: of several tasks, each with its teacher; by default the one that the config says.
        extra_teachers: teachers of the same vocabulary that form an ensemble with it, as `config.ensemble` says.
        separate_teacher_inputs: whether the batches bring sources for the teacher alone, see `teacher_batch`.

    Raises:
        ConfigError: hidden states are to be compared, but their widths differ; or an entry of `matches` does not fit
            the models.

    Examples:
        >>> from seq2seq_distill import RunConfig, SummarizationDistiller, create_student, load_teacher, load_tokenizer
        >>> from seq2seq_distill.demo import model_source
        >>> path = model_source("demo:summarization")
        >>> teacher, tokenizer = load_teacher(path), load_tokenizer(path)
        >>> student = create_student(teacher.model, decoder_layers=1)
        >>> config = RunConfig(task="summarization")
        >>> module = SummarizationDistiller(student, teacher, tokenizer, config, total_steps=1000)
        >>> module.student.config.decoder_layers
        1
    """

    objective: DistillationObjective

    @renamed_arguments(further="extra_teachers", own_sources="separate_teacher_inputs")
    def __init__(
        self,
        student: PreTrainedModel,
        teacher: Teacher | None,
        tokenizer: PreTrainedTokenizerBase,
        config: RunConfig,
        total_steps: int,
        extensions: Extensions | None = None,
        tasks: Sequence[Task] = (),
        *,
        extra_teachers: Sequence[Teacher] = (),
        separate_teacher_inputs: bool = False,
    ) -> None:
        super().__init__(student, tokenizer, config, total_steps, extensions, tasks)
        by_task = [task.teacher or teacher for task in self.tasks]
        self.teacher_runner = TeacherRunner(
            student, by_task, extra_teachers, config.ensemble, separate_inputs=separate_teacher_inputs
        )
        loss = config.loss.resolved()  # a run has resolved it already, by the entropy of its teacher
        self.objective = DistillationObjective(
            student, self.teacher_runner, loss, config.optim, config.matches, config.seed, self.extensions
        )
        self.projections = self.objective.projections
        self._sampler = OnPolicySampler(student, self.tasks, config) if config.loss.on_policy else None

    @property
    def teacher(self) -> Teacher | None:
        """The teacher of the first task; None if its outputs are cached."""
        return self.teachers[0] if self.teachers else None

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """The teachers of the tasks, each once."""
        return self.teacher_runner.teachers

    @property
    def shares_encoder(self) -> bool:
        """Whether one encoder pass serves the student and its teachers."""
        return self.teacher_runner.shares_encoder

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self._sampler is None or not samples_in(self.global_step, self.config.seed, self.config.loss.on_policy):
            return super().training_step(batch, batch_idx)
        return self._on_policy_step(batch, self._sampler)

    def _on_policy_step(self, batch: Batch, sampler: OnPolicySampler) -> Tensor:
        """The sum over sampled tokens: how many the whole step has is known at its end, when gradients are divided."""
        batch = sampler.with_sampled_labels(self.student, self.extensions.processed(batch))
        options = self.step_options(sampled=True)
        report = self.compute_loss(batch, options, StepTokens(1, 1, self._micro_batches_per_step))
        sampler.count(report.terms["ce_loss"].count)
        self.log_dict(options.scheduled)
        self.log_dict(blend(report.terms, options.weights).named("on_policy_"))
        return report.loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradients of an on-policy step by the tokens that all processes have sampled."""
        sampled = self._sampler.take_count() if self._sampler is not None else None
        if sampled is None:
            return
        total = torch.as_tensor(self.all_gather(sampled)).sum().clamp(min=1)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(total)

    def train(self, mode: bool = True) -> "SummarizationDistiller":
        """As in the base class, but without dropout on attention weights that are compared: it would blur them."""
        super().train(mode)
        for feature in self.objective.features:
            if feature.kind != "hidden":
                architectures.attention(self.student, *feature).eval()
        return self

    # Where the teacher is

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._move_teachers()

    def configure_model(self) -> None:
        super().configure_model()
        if is_sharded(self) and self.config.trainer.shard_teacher:
            assert self.device_mesh is not None
            policy = precision_policy(str(self.trainer.precision))
            self.teacher_runner.shard(self.device_mesh["data_parallel"], policy)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._move_teachers()

    def on_validation_start(self) -> None:
        self._move_teachers()

    def on_fit_end(self) -> None:
        self.teacher_runner.drop_shards()
        self.objective.restore_attention()  # what follows is timed

    def _move_teachers(self) -> None:
        self.teacher_runner.to(self.device, sharded=self.config.trainer.shard_teacher)


class TranslationDistiller(SummarizationDistiller):
    """As `SummarizationDistiller`, for translation.

    Examples:
        >>> from seq2seq_distill import RunConfig, TranslationDistiller, create_student, load_teacher, load_tokenizer
        >>> from seq2seq_distill.demo import model_source
        >>> path = model_source("demo:translation")
        >>> teacher, tokenizer = load_teacher(path), load_tokenizer(path)
        >>> student = create_student(teacher.model, decoder_layers=1)
        >>> config = RunConfig(task="translation")
        >>> module = TranslationDistiller(student, teacher, tokenizer, config, total_steps=1000)
        >>> module.student.config.decoder_layers
        1
    """

    task: ClassVar[str] = "translation"
