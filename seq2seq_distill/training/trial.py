"""How good a student would be: its loss on val after a short run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytorch_lightning import seed_everything
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.data.tokenization.tokenizers import pad_id
from seq2seq_distill.decoding.likelihood import label_log_probabilities
from seq2seq_distill.models import architectures
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.device import device_of_run
from seq2seq_distill.training.probe import Probe
from seq2seq_distill.training.teacher_losses import with_losses_of_teacher
from seq2seq_distill.utils.errors import DataError

LONGEST = 512
"""Tokens of a target of val."""


@dataclass(frozen=True)
class ValidationRows:
    """Rows of val that models with several vocabularies read whole, so that their losses can be compared."""

    rows: tuple[int, ...]
    tokens: int
    """Of the targets, as the whole vocabulary has them."""
    max_length: int
    """Most tokens of a target, in any vocabulary."""

    @classmethod
    def of(
        cls,
        targets: Sequence[str],
        whole: PreTrainedTokenizerBase,
        others: Sequence[PreTrainedTokenizerBase],
        limit: int | None,
    ) -> ValidationRows:
        """The rows whose targets have at most `LONGEST` tokens in every vocabulary, or fewer if `limit` says so.

        Raises:
            DataError: there are none.
        """
        longest = min(filter(None, (LONGEST, limit)))
        encoded = [TextEncoder(tokenizer, "text_target").encode(targets).ids for tokenizer in (whole, *others)]
        lengths = [[len(ids) for ids in rows] for rows in encoded]
        short = tuple(row for row, each in enumerate(zip(*lengths, strict=True)) if max(each) <= longest)
        if not short:
            raise DataError(
                f"`data`: all validation targets have more than {longest} tokens, so that no losses can be compared: "
                "give shorter ones, or plan without `data`"
            )
        return cls(short, sum(lengths[0][row] for row in short), longest)


def trial_loss(config: RunConfig, val: ValidationRows, steps: int) -> float:
    """The loss on val of a run's student after a run of so many steps; with 0, of the student before training.

    Seeds, order of the data, losses and shape of the learning-rate schedule are those of a run of that length; one
    process trains, with the teacher at hand instead of its cache, on the targets of the data alone, and without an
    average of weights.

    Returns:
        Cross-entropy with the references in nats, per token of the whole vocabulary whatever the student's is.

    Raises:
        UserError: as in a run.
    """
    config = _short_run(config, val, steps)
    seed_everything(config.seed, workers=True, verbose=False)
    parts = build_components(config)
    if steps:
        Probe(with_losses_of_teacher(config, parts), parts).train()
    else:
        nn.Module.to(parts.student, device_of_run(config.trainer))
    return loss_per_token(parts.student, parts.tokenizer, parts.data, val)


def loss_per_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: EncodedSplits, val: ValidationRows
) -> float:
    """Cross-entropy of a model with the references in nats, per token of the whole vocabulary.

    Args:
        model: on its device.
        tokenizer: the model's.
        data: as the model reads it.
        val: the rows that count.
    """
    rows = data.encoded["val"].select(val.rows)
    collate = Collator(pad_id(tokenizer, model.config), architectures.extra_inputs(model.config))
    found = label_log_probabilities(model, collate, rows["input_ids"][:], rows["labels"][:])
    return -sum(float(row.sum()) for row in found) / val.tokens


def _short_run(config: RunConfig, val: ValidationRows, steps: int) -> RunConfig:
    optim = replace(config.optim, ema=None)
    if optim.warmup_steps is not None:
        optim = replace(optim, warmup_steps=min(optim.warmup_steps, steps // 10))
    trainer = replace(config.trainer, max_steps=max(1, steps))
    evaluation = replace(config.eval, max_target_length=val.max_length)  # no text of val may be cut
    config = replace(config, optim=optim, trainer=trainer, eval=evaluation)
    return replace(config, targets="reference", teacher_cache=None)
