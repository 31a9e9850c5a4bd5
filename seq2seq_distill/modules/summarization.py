"""The student in training: what happens in a step, in a validation and in a test. No teacher yet."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.losses.blend import Losses, LossReport, StepTokens, add, blend
from seq2seq_distill.models import architectures
from seq2seq_distill.models.freezing import encoder_and_embedding_parameters
from seq2seq_distill.models.sharding import is_sharded, keep_unsharded, precision_policy, shard, zero_row
from seq2seq_distill.modules.cpu_attention import UnfusedCpuAttention
from seq2seq_distill.modules.evaluation import (
    EvaluationData,
    Generations,
    SplitCollector,
    degeneration_statistics,
    score_generations,
)
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.modules.forward_pass import Batch, student_pass
from seq2seq_distill.modules.objectives import CrossEntropyObjective, Objective
from seq2seq_distill.modules.optim import build_optimizer, build_schedule, warmup_steps
from seq2seq_distill.modules.planned_training import PlannedTraining, SeedByBatch
from seq2seq_distill.modules.step_options import StepOptions
from seq2seq_distill.modules.tasks import Task
from seq2seq_distill.modules.weight_average import weight_average
from seq2seq_distill.utils.deprecation import renamed_arguments
from seq2seq_distill.utils.errors import ConfigError


class SummarizationModule(LightningModule):
    """A sequence-to-sequence model trained on labels and judged by ROUGE.

    Args:
        student: the model to train; its parameters that need no gradient stay as they are.
        tokenizer: turns generated ids into text.
        config: the run's config.
        total_steps: optimiser steps of the run, for the schedule.
        extensions: loss terms and a change of batches besides what the config says.
        tasks: of several tasks, each; by default the one that the config says.

    Raises:
        ConfigError: gradient checkpointing is wanted, but transformers has none for the architecture.

    Examples:
        >>> from seq2seq_distill import RunConfig, SummarizationModule, create_student, load_teacher, load_tokenizer
        >>> from seq2seq_distill.demo import model_source
        >>> path = model_source("demo:summarization")
        >>> teacher, tokenizer = load_teacher(path), load_tokenizer(path)
        >>> student = create_student(teacher.model, decoder_layers=1)
        >>> config = RunConfig(task="summarization")
        >>> module = SummarizationModule(student, tokenizer, config, total_steps=1000)
        >>> module.student.config.decoder_layers
        1
    """

    task: ClassVar[str] = "summarization"

    @renamed_arguments(own="extensions")
    def __init__(
        self,
        student: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: RunConfig,
        total_steps: int,
        extensions: Extensions | None = None,
        tasks: Sequence[Task] = (),
    ) -> None:
        super().__init__()
        self.student = student
        self.tokenizer = tokenizer
        self.config = config
        self.total_steps = total_steps
        self.extensions = extensions or Extensions()
        settings = GenerationSettings.of_run(config)
        self.tasks = tuple(tasks) or (
            Task(
                self.task,
                config.tgt_lang,
                generation_config(student, settings),
                rouge_tokenizer=config.eval.rouge_tokenizer,
            ),
        )
        self.projections = nn.ModuleDict()
        """Map the student's inner states to the teacher's width; trained with it, and saved in checkpoints alone."""
        self.objective: Objective = CrossEntropyObjective(config.loss, self.extensions)
        """What the student learns from."""
        self.role = "student"
        """What progress calls the model; a test has a module for each of the models that it compares."""
        self._collector = SplitCollector(self.tasks, tokenizer)
        self.generations: Generations | None = None
        """Outputs of the last validation or test; only on process 0."""
        self._zero_pad_row = self._keep_pad_row_at_zero()
        if config.trainer.gradient_checkpointing:
            if not student.supports_gradient_checkpointing:
                kind = student.config.model_type
                raise ConfigError(f"`trainer.gradient_checkpointing` true: {kind} models lack it; leave it out")
            student.gradient_checkpointing_enable({"use_reentrant": False})

    def configure_callbacks(self) -> list[Callback]:
        """Let any Trainer carry out the plan of the run; those that a Trainer has already are not added again."""
        planned = PlannedTraining(self.config.trainer)
        planned.apply_plan(self.trainer)  # before other callbacks are set up, which look at the interval of validations
        callbacks: list[Callback] = [
            SeedByBatch(self.config.seed),
            planned,
            *weight_average(self.config.optim),
            UnfusedCpuAttention(),
        ]
        present = {type(callback) for callback in self.trainer.callbacks}  # type: ignore[attr-defined]
        return [callback for callback in callbacks if type(callback) not in present]

    # Many processes

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, DDPStrategy) and _drops_layers(self.student):
            # A dropped layer has no gradient, and DDP would wait for it.
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def configure_model(self) -> None:
        """With fsdp2, shard the student; a test, which has neither gradients nor optimiser, leaves it whole.

        Raises:
            ConfigError: LayerDrop, with which processes would gather different layers and wait for each other.
        """
        if self.device_mesh is None or self.trainer.state.fn == "test" or is_sharded(self):
            return
        if _drops_layers(self.student):
            raise ConfigError(
                "`trainer.strategy` fsdp2 gathers every layer on all processes at once, but the student drops layers "
                "at random: set `student.encoder_layerdrop` 0 and `student.decoder_layerdrop` 0, or use ddp"
            )
        policy = precision_policy(str(self.trainer.precision))
        # The steps run embeddings, layers and head apart: the whole step is the forward pass of the root unit.
        steps = ("training_step", "validation_step")
        shard(self, self.student, self.device_mesh["data_parallel"], policy, forward=steps)
        if self._zero_pad_row:
            weight = self.student.get_decoder().get_input_embeddings().weight
            pad = self.student.config.pad_token_id
            weight.register_post_accumulate_grad_hook(lambda parameter: zero_row(parameter.grad, pad))

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        options = self.step_options()
        counts = batch["target_tokens"], batch["source_tokens"]
        tokens = StepTokens(*counts, self._micro_batches_per_step, batch.get("chunks", 0), batch.get("distill_tokens"))
        report = self.compute_loss(self.extensions.processed(batch), options, tokens)
        self.log_dict(options.scheduled)
        self.log_dict(report.named(), prog_bar=True)
        return report.loss

    def step_options(
        self, step: int | None = None, total_steps: int | None = None, *, sampled: bool = False
    ) -> StepOptions:
        """Weights and temperature of a step; outside training, as configured.

        Args:
            step: optimiser steps before this one; by default those that Lightning has counted.
            total_steps: of the run; by default those that the module was made for.
            sampled: whether the student has sampled the targets itself.
        """
        step = self.global_step if step is None else step
        total_steps = self.total_steps if total_steps is None else total_steps
        return self.objective.step_options(step, total_steps, training=self.training, sampled=sampled)

    def compute_loss(
        self, batch: Batch, options: StepOptions | None = None, tokens: StepTokens | None = None
    ) -> LossReport:
        """The loss of a batch and each of its terms: one forward pass of the student and, in a distiller, the teacher.

        Args:
            batch: `input_ids` [B, S], `attention_mask` [B, S], `labels` [B, T] (-100 where there is none), `row` [B]
                (-1 counts nowhere), and what the architecture needs besides; `chunk` [B, T] and `chunk_logprobs` [C]
                where the data has likelihoods of chunks; `distill_mask` [B] where the teacher does not know every
                target.
            options: of the step; by default `step_options()`.
            tokens: what the terms are divided by; by default the batch's own tokens.
        """
        options, tokens = options or self.step_options(), tokens or StepTokens.of(batch)
        losses = self._step(batch, options, tokens)
        counts = tokens.counts(losses.terms, self.objective.source_terms, self.objective.teacher_terms)
        return blend(losses.terms, options.weights, counts, scale=tokens.parts, head=losses.head.loss)

    def _step(self, batch: Batch, options: StepOptions, tokens: StepTokens) -> Losses:
        """One forward pass: the sums and counts of all terms, and the head's part of the loss, divided by `tokens`."""
        student = student_pass(self.student, batch, self.objective.features)
        return self.objective.losses(batch, student, options, tokens)

    @property
    def _micro_batches_per_step(self) -> int:
        """Over processes and accumulation."""
        return self.trainer.accumulate_grad_batches * self.trainer.world_size

    def configure_optimizers(self) -> Any:
        encoder = encoder_and_embedding_parameters(self.student)
        optimizer = build_optimizer(self, self.config.optim, encoder, self.projections.parameters())
        schedule = build_schedule(optimizer, self.config.optim, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        # A loaded model is in eval mode, and Lightning leaves it so: without this, no dropout.
        self.train()

    def train(self, mode: bool = True) -> "SummarizationModule":
        """As in torch, but a frozen encoder stays in eval mode: what does not learn does not drop out either."""
        super().train(mode)
        if not any(p.requires_grad for p in architectures.encoder_layers(self.student).parameters()):
            self.student.get_encoder().eval()
        return self

    def _keep_pad_row_at_zero(self) -> bool:
        # Marian decodes from the pad token's embedding, zero in its models; the tied head would move it.
        embedding = architectures.zero_pad_row(self.student)
        pad = self.student.config.pad_token_id
        if embedding is None or not embedding.requires_grad:
            return False
        row = torch.tensor([pad])
        embedding.register_hook(lambda gradient: gradient.index_fill(0, row.to(gradient.device), 0))
        return True

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        keep_unsharded(self.student, True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._collector.add_terms(batch, self.compute_loss(batch).terms)
        self._collector.generate(self.student, batch)

    def on_validation_epoch_end(self) -> None:
        keep_unsharded(self.student, False)
        weights = self.step_options().weights
        by_task = self._collector.take_terms(self.all_gather, self.device)
        self.log_dict(blend(reduce(add, by_task), weights).named("val_"), rank_zero_only=False)
        if len(self.tasks) > 1:
            for task, terms in zip(self.tasks, by_task, strict=True):
                self.log_dict(blend(terms, weights).named(f"val_{task.name}/"), rank_zero_only=False)
        scores = self._score("val")
        assert self.generations is not None
        step = self.trainer.global_step
        # During the warm-up, a student that repeats itself has only just begun to learn.
        warns = self.trainer.is_global_zero and step > warmup_steps(self.config.optim, self.total_steps)
        scores |= degeneration_statistics(self.generations, self._evaluation_data, "val", step=step if warns else None)
        self.log_dict({f"val_{name}": value for name, value in scores.items()})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._collector.generate(self.student, batch)

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test_{name}": value for name, value in self._score("test").items()})

    def _score(self, split: str) -> dict[str, float]:
        """Scores over the whole split; its outputs are in `generations` afterwards."""
        self.generations = self._collector.take_outputs(self.trainer.world_size)
        return score_generations(self.generations, self._evaluation_data, split, self.tasks)

    @property
    def _evaluation_data(self) -> EvaluationData:
        data: EvaluationData = self.trainer.datamodule  # type: ignore[attr-defined]
        return data


def _drops_layers(student: PreTrainedModel) -> bool:
    """Whether training leaves out layers at random."""
    stacks = {"encoder": architectures.encoder_layers(student), "decoder": architectures.decoder_layers(student)}
    return any(
        getattr(student.config, f"{side}_layerdrop", 0.0) and any(p.requires_grad for p in layers.parameters())
        for side, layers in stacks.items()
    )
