"""Distillation inside transformers' `Seq2SeqTrainer`, for those who have one already: the same losses and students."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

from seq2seq_distill.config import FeatureLossConfig, LossConfig, RunConfig, validate
from seq2seq_distill.losses.blend import LossReport, add, blend
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.models import forward
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.modules.extensions import CustomLoss, Extensions
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ModelError, raise_config_error

OF_TARGETS = ("labels", "decoder_input_ids", "decoder_attention_mask")
"""Fields of a batch that tell what is to be generated."""


class DistillationTrainer(Seq2SeqTrainer):
    """A `Seq2SeqTrainer` whose model learns from a teacher.

    Batches need `input_ids`, `attention_mask` and `labels` (-100 where there is none), as `DataCollatorForSeq2Seq`
    makes them. Each term is a mean over the tokens of the whole optimiser step, over accumulated batches and
    processes, and is logged by its name beside `loss`. Evaluations log `eval_loss`, that of all tokens together, and
    each term. What is saved is the student alone, as by `Seq2SeqTrainer`.

    Args:
        model: the student, of an architecture in `models.architectures`; parameters that need no gradient stay as they
            are.
        args: the usual arguments. One process has one device.
        teacher: a `Teacher`, a model, a folder or a hub id; of the student's vocabulary.
        loss: what the student learns from; `label_smoothing` stands there.
        matches: inner states to compare, without projections, which no saved student could keep.
        terms: further loss terms by name.
        kwargs: the other arguments of `Seq2SeqTrainer`.

    Raises:
        ConfigError: a line for each argument that has no meaning here.
        ModelError: the teacher cannot be loaded, has other tokens, or an architecture is unknown.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: Seq2SeqTrainingArguments,
        *,
        teacher: Teacher | PreTrainedModel | str | Path,
        loss: LossConfig | None = None,
        matches: Sequence[FeatureLossConfig] = (),
        terms: Mapping[str, CustomLoss] | None = None,
        **kwargs: Any,
    ) -> None:
        # Which of the two tasks matters for scores alone, and this class makes none.
        config = RunConfig(task="summarization", loss=loss or LossConfig(), matches=list(matches), seed=args.seed)
        validate(config)
        raise_config_error(list(_problems(args, config, kwargs)))
        self.teacher = _as_teacher(teacher, model).to(model.device)
        own = Extensions(terms or {})
        self.distiller = SummarizationDistiller(model, self.teacher, kwargs.get("processing_class"), config, 0, own)
        """What computes the losses. It is no part of the model."""
        self._generates = args.predict_with_generate
        self._since_log: dict[str, Term] = {}
        self._evaluated: dict[str, Term] = {}
        super().__init__(model, args, **kwargs)
        # Each loss comes divided by the tokens of the whole step: it is not to be divided by accumulated batches.
        self.model_accepts_loss_kwargs = True
        self.teacher.to(self.args.device, encoder=not self.distiller.shares_encoder)

    # Training

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The batches of the next optimiser step, and [2]: its target and source tokens, over all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        own = torch.zeros(2, dtype=torch.int64, device=self.args.device)
        for batch in batches:
            own += _tokens(batch).to(own.device)
        return batches, self.accelerator.reduce(own)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This batch's share of the optimiser step's loss; times the processes, whose mean DDP takes.

        Args:
            model: the student, as wrapped for training.
            inputs: a batch on the student's device.
            return_outputs: also return `{"loss": loss}`.
            num_items_in_batch: [2], target and source tokens of the step; None takes those of this batch alone.
        """
        tokens, parts = _tokens(inputs), 1
        if isinstance(num_items_in_batch, Tensor):
            tokens, parts = num_items_in_batch, self.accelerator.num_processes
        found = self._losses(model, inputs, tokens, parts)
        return (found.loss, {"loss": found.loss}) if return_outputs else found.loss

    def _losses(self, model: nn.Module, inputs: Mapping[str, Tensor], tokens: Tensor, parts: int) -> LossReport:
        """Of a batch, in a step of so many tokens and processes."""
        distiller, (targets, sources) = self.distiller, tokens
        distiller.train(model.training)
        distiller.other_loops_step, distiller.total_steps = self.state.global_step, self.state.max_steps
        terms: dict[str, Term] = {}

        def step(**batch: Tensor) -> LossReport:
            losses = distiller._step(batch, parts / targets.clamp(min=1))
            terms.update(losses.terms)
            of_source = distiller.source_terms
            counts = {name: sources if name in of_source else targets for name in terms}
            return blend(terms, distiller.weights, counts, scale=parts, head=losses.head.loss)

        rows = torch.arange(len(inputs["labels"]), device=inputs["labels"].device)
        with self.accelerator.autocast(), _forward_is(distiller.student, step):
            found: LossReport = model(**{**inputs, "row": rows})
        so_far = {name: Term(term.sum.detach(), term.count) for name, term in terms.items()}
        if model.training:
            self._since_log = add(self._since_log, so_far)
        else:
            self._evaluated = add(self._evaluated, so_far)
        return found

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As before; with the loss of the training also its terms, each the mean over the tokens since the last log."""
        if "loss" in logs:
            terms, self._since_log = self._since_log, {}
            logs.update({name: float(value) for name, value in self._report(terms).parts.items()})
        super().log(logs, *args, **kwargs)

    # Evaluation

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Any, Tensor | None, Tensor | None]:
        """Loss, generated ids and labels, the latter two only with `predict_with_generate`: logits are never whole."""
        loss, generated, labels = None, None, None
        inputs = self._prepare_inputs(inputs)
        if "labels" in inputs:
            with torch.no_grad():
                loss = self.compute_loss(model, inputs).detach()
        if self._generates and not prediction_loss_only:
            sources = {name: field for name, field in inputs.items() if name not in OF_TARGETS}
            _, generated, _ = super().prediction_step(model, sources, False, ignore_keys, **gen_kwargs)
            labels = inputs.get("labels")
        return loss, generated, labels

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As before, with the mean of each term over the tokens of the whole split; their weighted sum is the loss."""
        self._evaluated = {}
        output: Any = super().evaluation_loop(*args, **kwargs)
        if self._evaluated:
            means = self._report(self._evaluated).named(kwargs.get("metric_key_prefix", "eval") + "_")
            output.metrics.update({name: float(value) for name, value in means.items()})
        return output

    def _report(self, terms: Mapping[str, Term]) -> LossReport:
        """The terms of all processes together, divided."""
        reduce = self.accelerator.reduce
        return blend({name: Term(*map(reduce, term)) for name, term in terms.items()}, self.distiller.weights)


def _problems(args: Seq2SeqTrainingArguments, config: RunConfig, others: Mapping[str, Any]) -> Iterator[str]:
    """Arguments that mean nothing here."""
    if args.n_gpu > 1:
        yield f"n_gpu {args.n_gpu}: start one process for each GPU with torchrun, or show this one a single GPU"
    if args.torch_compile or args.deepspeed or args.fsdp:
        yield "torch_compile, deepspeed, fsdp: leave them out; run_config shards with TrainerConfig(strategy='fsdp2')"
    if args.label_smoothing_factor:
        yield f"label_smoothing_factor {args.label_smoothing_factor}: set LossConfig(label_smoothing=...) instead"
    if others.get("compute_loss_func") is not None:
        yield "compute_loss_func: leave it out, the losses are those of LossConfig"
    if others.get("model_init") is not None:
        yield "model_init: leave it out, and give the student as model"
    if others.get("compute_metrics") is not None and not args.predict_with_generate:
        yield "compute_metrics needs generated ids here: set predict_with_generate=True"
    if config.loss.on_policy:
        yield f"LossConfig(on_policy={config.loss.on_policy}) samples targets within a step: use run_config for it"
    for number, match in enumerate(config.matches):
        if match.projection is not None:
            yield f"matches entry {number}, projection {match.projection}: use run_config, which trains and saves it"


def _as_teacher(given: Teacher | PreTrainedModel | str | Path, student: PreTrainedModel) -> Teacher:
    """Raises ModelError: it has other tokens than the student."""
    if isinstance(given, PreTrainedModel):
        given = Teacher(given)
    teacher = given if isinstance(given, Teacher) else load_teacher(given, field="teacher")
    own, other = (len(forward.output_head(model).weight) for model in (student, teacher.model))
    if own != other:
        raise ModelError(f"the student has {own} output tokens, the teacher {other}: choose models of one vocabulary")
    return teacher


def _tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """[2], on the batch's device: target and source tokens."""
    return torch.stack([(batch["labels"] != IGNORE_INDEX).sum(), batch["attention_mask"].sum()])


@contextmanager
def _forward_is(model: nn.Module, function: Any) -> Iterator[None]:
    """Let one call of the model, through whatever wraps it, be a call of `function`.

    So the hooks of DDP and accelerate run around the step, which itself calls the model's parts and not the model.
    """
    before = vars(model).get("forward")
    model.forward = function
    try:
        yield
    finally:
        if before is None:
            del model.forward
        else:
            model.forward = before
