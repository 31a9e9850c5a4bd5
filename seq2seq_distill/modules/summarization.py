"""The student in training: cross-entropy with the labels, and summaries to judge it by. No teacher yet."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed import all_gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.decoding.generation import GenerationSettings, generate_batch, generated_length, generation_config
from seq2seq_distill.losses.blend import Losses, add, blend
from seq2seq_distill.losses.chunks import Ensemble, Head
from seq2seq_distill.losses.divergences import Divergences
from seq2seq_distill.losses.fused import HeadLoss, head_loss
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.losses.sparse import SparseTeacher
from seq2seq_distill.metrics.corpus import means_of_all, score
from seq2seq_distill.metrics.degeneration import collapse, output_statistics
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.models.hooks import Feature, capture_features
from seq2seq_distill.models.sharding import is_sharded, keep_unsharded, precision_policy, shard, zero_row
from seq2seq_distill.modules.extensions import Extensions, custom_loss_terms
from seq2seq_distill.modules.forward_pass import Batch, ForwardPass
from seq2seq_distill.modules.optim import build_optimizer, build_schedule
from seq2seq_distill.modules.tasks import Task
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.deprecation import renamed_arguments
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generations:
    """Model outputs of a split in file order."""

    texts: list[str]
    lengths: list[int]
    """Generated tokens of each, without padding."""


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
        self.loss = config.loss
        self.total_steps = total_steps
        self.extensions = extensions or Extensions()
        settings = generation_settings(config)
        self.tasks = tuple(tasks) or (Task(self.task, config.tgt_lang, generation_config(student, settings)),)
        self.projections = nn.ModuleDict()
        """What maps the student's inner states to the teacher's width; trained with the student, saved in checkpoints
        alone."""
        self._compared: frozenset[Feature] = frozenset()
        self._sums: list[dict[str, Term]] = [{} for _ in self.tasks]
        self._generated: list[tuple[int, str, int]] = []
        self.generations: Generations | None = None
        """Outputs of the last validation or test; only on process 0."""
        self._zero_pad_row = self._keep_pad_row_at_zero()
        if config.trainer.gradient_checkpointing:
            if not student.supports_gradient_checkpointing:
                kind = student.config.model_type
                raise ConfigError(f"`trainer.gradient_checkpointing` true: {kind} models cannot do it: leave it out")
            student.gradient_checkpointing_enable({"use_reentrant": False})

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

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term in the loss."""
        return {"mlm_loss": 1.0, **self.extensions.weights}

    @property
    def source_terms(self) -> frozenset[str]:
        """Terms that are means over source tokens; all others are means over target tokens."""
        return self.extensions.source_terms

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch, parts = self.extensions.processed(batch), self._parts_of_step
        losses = self._step(batch, parts / max(1, int(batch["target_tokens"])))
        terms = losses.terms
        of_source = self.source_terms
        counts = {name: batch["source_tokens" if name in of_source else "target_tokens"] for name in terms}
        report = blend(terms, self.weights, counts, scale=parts, head=losses.head.loss)
        self.log_dict(report.named(), prog_bar=True)
        return report.loss

    def _step(self, batch: Batch, head_scale: Tensor | float = 1.0) -> Losses:
        """One forward pass: the sums and counts of all terms, the head's part of the loss times `head_scale`."""
        labels = batch["labels"]
        labelled = labels != IGNORE_INDEX
        decoder_input_ids = forward.decoder_inputs(self.student, labels)
        with capture_features(self.student, self._compared, batch["attention_mask"].shape[1]) as features:
            encoder_state = forward.encode(self.student, batch)
            hidden = forward.decode(self.student, batch, encoder_state, decoder_input_ids)
        student = ForwardPass(
            head=forward.output_head(self.student),
            encoder_state=encoder_state,
            decoder_input_ids=decoder_input_ids,
            hidden=hidden[labelled],
            labels=labels[labelled],
            features=features,
        )
        return self._losses(batch, student, head_scale)

    def _losses(self, batch: Batch, student: ForwardPass, head_scale: Tensor | float) -> Losses:
        """From the student's pass to its losses; a distiller compares it with the teacher."""
        return Losses(self._head_loss(student, None, head_scale), self._custom_loss_terms(batch, student, None))

    def _custom_loss_terms(self, batch: Batch, student: ForwardPass, teacher: ForwardPass | None) -> dict[str, Term]:
        return custom_loss_terms(self.extensions.terms, student, teacher, batch, checked=not self.training)

    def _head_loss(
        self,
        student: ForwardPass,
        teacher: tuple[Head, Tensor] | Ensemble | SparseTeacher | None,
        scale: Tensor | float,
        temperature: Tensor | float = 1.0,
    ) -> HeadLoss:
        return head_loss(
            student.head,
            student.hidden,
            student.labels,
            self.weights,
            teacher,
            divergences=Divergences(self.loss.divergences, self.loss.beta, self.loss.skew),
            temperature=temperature,
            label_smoothing=self.loss.label_smoothing,
            scale=scale,
            with_entropy=not self.training,  # a figure of the teacher and the data: not worth its time in every step
        )

    @property
    def _parts_of_step(self) -> int:
        """Into how many micro-batches an optimiser step is dealt, over processes and accumulation."""
        return self.trainer.accumulate_grad_batches * self.trainer.world_size

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self, self.config.optim, self.projections)
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
        terms = self._step(batch).terms
        terms = {name: Term(term.sum.detach().double(), term.count) for name, term in terms.items()}
        task = batch.get("task", 0)
        self._sums[task] = add(self._sums[task], terms)
        self._generate(batch)

    def on_validation_epoch_end(self) -> None:
        keep_unsharded(self.student, False)
        sums, self._sums = self._over_processes(self._sums), [{} for _ in self.tasks]
        report = blend(reduce(add, sums), self.weights)
        self.log_dict(report.named("val_"), rank_zero_only=False)
        if len(self.tasks) > 1:
            for task, terms in zip(self.tasks, sums, strict=True):
                self.log_dict(blend(terms, self.weights).named(f"val_{task.name}/"), rank_zero_only=False)
        self.log_dict({f"val_{name}": value for name, value in self._score_outputs("val").items()})

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._generate(batch)

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test_{name}": value for name, value in self._score_outputs("test").items()})

    def _generate(self, batch: Batch) -> None:
        generation = self.tasks[batch.get("task", 0)].generation
        ids = generate_batch(self.student, batch, generation)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row, text, own in zip(batch["row"].tolist(), texts, ids, strict=True):
            if row >= 0:
                self._generated.append((row, text.strip(), generated_length(own, generation)))

    def _score_outputs(self, split: str) -> dict[str, float]:
        """Scores over the whole split, outputs of all processes together, each row once."""
        gathered: list[list[tuple[int, str, int]]] = [self._generated]
        if self.trainer.world_size > 1:
            gathered = [[] for _ in range(self.trainer.world_size)]
            all_gather_object(gathered, self._generated)
        self._generated = []
        by_row = {row: (text, length) for part in gathered for row, text, length in part}
        rows = sorted(by_row)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        references = data.references(split)
        texts, lengths = [by_row[row][0] for row in rows], [by_row[row][1] for row in rows]
        self.generations = Generations(texts, lengths)
        references = [references[row] for row in rows]
        scores = self._scores(texts, references, [data.task_of(split, row) for row in rows])
        figures = self._statistics(texts, references) if split == "val" else {}
        return {**scores, "gen_len": sum(lengths) / len(lengths), **figures}

    def _scores(self, texts: list[str], references: list[str], tasks: list[int]) -> dict[str, float]:
        """Corpus scores on a scale of 0 to 100; of several tasks those of each, and their means where all have one."""
        by_task = []
        for number, task in enumerate(self.tasks):
            own = [index for index, other in enumerate(tasks) if other == number]
            pairs = [texts[index] for index in own], [references[index] for index in own]
            by_task.append(score(task.kind, *pairs, task.tgt_lang))
        if len(by_task) == 1:
            return by_task[0]
        means = means_of_all(by_task)
        named = zip(self.tasks, by_task, strict=True)
        return means | {f"{task.name}/{name}": value for task, own in named for name, value in own.items()}

    def _statistics(self, texts: list[str], references: list[str]) -> dict[str, float]:
        """How the outputs look beside the references; a student in training that has collapsed is told of."""
        figures = output_statistics(texts, references)
        words = collapse(figures)
        if words and self.trainer.global_step > 0 and self.trainer.is_global_zero:
            logger.warning("step %d: %s", self.trainer.global_step, words)
        return figures.named()

    def _over_processes(self, sums: list[dict[str, Term]]) -> list[dict[str, Term]]:
        """The terms of each task over all processes, one of which may have had no batch of a task."""
        names = dict.fromkeys(name for terms in sums for name in terms)
        # Sum and count as one tensor of float64, since an own term may count in another type.
        both = [
            {name: torch.tensor([*map(float, terms.get(name, (0, 0)))], dtype=torch.float64) for name in names}
            for terms in sums
        ]
        gathered = self.all_gather([{name: pair.to(self.device) for name, pair in own.items()} for own in both])
        return [{name: Term(*pair.view(-1, 2).sum(0)) for name, pair in own.items()} for own in gathered]


def _drops_layers(student: PreTrainedModel) -> bool:
    """Whether training leaves out layers at random."""
    stacks = {"encoder": architectures.encoder_layers(student), "decoder": architectures.decoder_layers(student)}
    return any(
        getattr(student.config, f"{side}_layerdrop", 0.0) and any(p.requires_grad for p in layers.parameters())
        for side, layers in stacks.items()
    )


def generation_settings(config: RunConfig) -> GenerationSettings:
    """How a run's models decode, wherever they do."""
    return GenerationSettings(
        beams=config.eval.beams,
        max_length=config.eval.max_target_length,
        length_penalty=config.eval.length_penalty,
        batch_size=config.eval.batch_size,
        options=config.eval.generate,
    )
