"""Validation and test: outputs and loss terms of a split, gathered from all processes and scored once."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.distributed import all_gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.decoding.decoder import decode_batch
from seq2seq_distill.losses.blend import add
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.metrics.corpus import means_of_all, score
from seq2seq_distill.metrics.degeneration import collapse, output_statistics
from seq2seq_distill.modules.forward_pass import Batch
from seq2seq_distill.modules.tasks import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generations:
    """Model outputs of a split in file order."""

    texts: list[str]
    lengths: list[int]
    """Generated tokens of each, without padding."""
    rows: list[int]
    """Their positions in the split."""


class EvaluationData(Protocol):
    """What the scores need of a datamodule."""

    def references(self, split: str) -> list[str]:
        """Target texts of a split, never truncated."""

    def task_of(self, split: str, row: int) -> int:
        """Number of the task that a row belongs to."""


class SplitCollector:
    """Collects what a process's batches of a split give."""

    def __init__(self, tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase) -> None:
        self._tasks = tasks
        self._tokenizer = tokenizer
        self._terms: list[dict[str, Term]] = [{} for _ in tasks]
        self._outputs: list[tuple[int, str, int]] = []

    def add_terms(self, batch: Batch, terms: Mapping[str, Term]) -> None:
        """Add the loss terms of a batch, in float64."""
        terms = {name: Term(term.sum.detach().double(), term.count) for name, term in terms.items()}
        task = int(batch.get("task", 0))
        self._terms[task] = add(self._terms[task], terms)

    def generate(self, student: PreTrainedModel, batch: Batch) -> None:
        """Decode a batch."""
        generation = self._tasks[int(batch.get("task", 0))].generation
        hypotheses = decode_batch(student, self._tokenizer, batch, generation)
        for row, (best,) in zip(batch["row"].tolist(), hypotheses, strict=True):
            if row >= 0:
                self._outputs.append((row, best.text, best.num_tokens))

    def take_terms(self, all_gather: Callable[[Any], Any], device: torch.device) -> list[dict[str, Term]]:
        """The terms of each task over all processes, one of which may have had no batch of a task; then start anew."""
        by_task, self._terms = self._terms, [{} for _ in self._tasks]
        names = dict.fromkeys(name for terms in by_task for name in terms)

        def pair(terms: Mapping[str, Term], name: str) -> Tensor:
            # Sum and count as one tensor of float64, since a custom term may count in another type.
            sum_and_count = [*map(float, terms.get(name, (0, 0)))]
            return torch.tensor(sum_and_count, dtype=torch.float64).to(device)

        gathered = all_gather([{name: pair(terms, name) for name in names} for terms in by_task])
        return [{name: Term(*pairs.view(-1, 2).sum(0)) for name, pairs in terms.items()} for terms in gathered]

    def take_outputs(self, world_size: int) -> Generations:
        """The outputs of all processes, each row once; then start anew."""
        gathered: list[list[tuple[int, str, int]]] = [self._outputs]
        if world_size > 1:
            gathered = [[] for _ in range(world_size)]
            all_gather_object(gathered, self._outputs)
        self._outputs = []
        by_row = {row: (text, length) for outputs in gathered for row, text, length in outputs}
        rows = sorted(by_row)
        return Generations([by_row[row][0] for row in rows], [by_row[row][1] for row in rows], rows)


def score_generations(
    generations: Generations, data: EvaluationData, split: str, tasks: Sequence[Task]
) -> dict[str, float]:
    """Corpus scores of 0 to 100 and the mean length `gen_len`; of several tasks those of each, and means of those
    scores that all have."""
    references = data.references(split)
    task_of_row = [data.task_of(split, row) for row in generations.rows]
    by_task = []
    for number, task in enumerate(tasks):
        indices = [index for index, of_row in enumerate(task_of_row) if of_row == number]
        texts = [generations.texts[index] for index in indices]
        expected = [references[generations.rows[index]] for index in indices]
        by_task.append(score(task.kind, texts, expected, task.tgt_lang, task.rouge_tokenizer))
    scores = by_task[0]
    if len(tasks) > 1:
        named = zip(tasks, by_task, strict=True)
        per_task = {f"{task.name}/{name}": value for task, values in named for name, value in values.items()}
        scores = means_of_all(by_task) | per_task
    return {**scores, "gen_len": sum(generations.lengths) / len(generations.lengths)}


def degeneration_statistics(
    generations: Generations, data: EvaluationData, split: str, *, step: int | None
) -> dict[str, float]:
    """How the outputs differ from the references in form; a collapse is logged as of optimiser step `step`, if any."""
    references = data.references(split)
    statistics = output_statistics(generations.texts, [references[row] for row in generations.rows])
    warning = collapse(statistics)
    if warning and step is not None:
        logger.warning("step %d: %s", step, warning)
    return statistics.named()
