"""Targets that the student samples while it learns: it is judged where it really goes (GKD, arXiv 2306.13649)."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from seq2seq_distill.config import LossConfig, RunConfig
from seq2seq_distill.decoding.generation import GenerationSettings, decoding, generate_batch, generation_config
from seq2seq_distill.models import architectures
from seq2seq_distill.modules.tasks import Task
from seq2seq_distill.utils.constants import IGNORE_INDEX

PLAIN = {"do_sample": True, "top_k": 0, "min_length": 0, "no_repeat_ngram_size": 0, "repetition_penalty": 1.0}
"""From the student's whole distribution, whatever the model's own settings for serving are."""


def samples_in(step: int, seed: int, share: float) -> bool:
    """Whether the targets of an optimiser step are sampled: of so large a share of the steps, the same in each run."""
    digest = hashlib.sha256(f"on policy {seed} {step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def sampling_config(
    student: PreTrainedModel, loss: LossConfig, longest: int, own: GenerationConfig | None = None
) -> GenerationConfig:
    """How the student, which else decodes by `own` (by default as the model says), samples at most `longest` tokens."""
    options = {**PLAIN, "temperature": loss.on_policy_temperature}
    return generation_config(student, GenerationSettings(beams=1, max_length=longest, options=options), own)


def sampled_labels(student: PreTrainedModel, batch: Mapping[str, Any], config: GenerationConfig) -> Tensor:
    """Labels [B, T] that the student samples for the sources of a batch, as labels of data are: end included, -100
    behind it, and nothing else in a row that counts nowhere.

    Random numbers are torch's, which are seeded before every batch, so a resumed run samples the same.
    """
    with decoding(student):
        ids = generate_batch(student, batch, config)
    if architectures.architecture_of(student).start == "wrap":
        # The last label is the decoder's first input there; of mBART's data it is the language, behind the end.
        start = config.decoder_start_token_id
        ids = [own if own[-1:] == [start] else [*own, start] for own in ids]
    rows = [own if row >= 0 else [] for own, row in zip(ids, batch["row"].tolist(), strict=True)]
    width = max(1, *map(len, rows))
    return torch.tensor([[*own, *[IGNORE_INDEX] * (width - len(own))] for own in rows], device=batch["labels"].device)


class OnPolicySampler:
    """Samples targets of training batches, and counts the sampled tokens of an optimiser step.

    Args:
        student: the model that samples.
        tasks: say how it decodes.
        config: the run's.
    """

    def __init__(self, student: PreTrainedModel, tasks: Sequence[Task], config: RunConfig) -> None:
        longest = config.loss.on_policy_max_length or config.encode.max_target_length
        self.generations = [sampling_config(student, config.loss, longest, task.generation) for task in tasks]
        """How targets are sampled, by task."""
        self._count: Tensor | None = None

    def with_sampled_labels(self, student: PreTrainedModel, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with targets that the student samples in place of its labels."""
        generation = self.generations[batch.get("task", 0)]
        return {**batch, "labels": sampled_labels(student, batch, generation)}

    def count(self, tokens: Tensor) -> None:
        """Add the sampled tokens of a micro-batch."""
        self._count = tokens.float() if self._count is None else self._count + tokens

    def take_count(self) -> Tensor | None:
        """Tokens sampled in the step so far, on this process, then start anew; None if its labels are of the data."""
        count, self._count = self._count, None
        return count
