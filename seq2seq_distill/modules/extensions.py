"""What a run can take from Python besides its config: loss terms, a change of its batches, a call at each student."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from torch import Tensor

from seq2seq_distill.config.tasks import METRICS
from seq2seq_distill.data.chunks.chunk_targets import CHUNK_FIELDS
from seq2seq_distill.data.teacher_inputs import NAMES
from seq2seq_distill.losses.divergences import DIVERGENCES
from seq2seq_distill.losses.fused import HEAD_TERMS
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.modules.forward_pass import Batch, ForwardPass
from seq2seq_distill.utils.constants import IGNORE_INDEX
from seq2seq_distill.utils.errors import ConfigError, raise_config_error

LOGGED = """
loss hid_loss_enc hid_loss_dec temperature alpha_ce alpha_mlm alpha_hid
gen_len empty repetition length_ratio
lr data_epoch rows source_tokens target_tokens padding tokens_per_second
""".split()
TAKEN: Final = frozenset({*HEAD_TERMS, *DIVERGENCES, *METRICS, *LOGGED})
"""What is logged already, of steps or of validations."""

OnSaved = Callable[[Path, int, Mapping[str, float]], None]
"""Takes the folder of a student, the optimiser steps it had, and the values of its validation (`val_...`)."""


@dataclass(frozen=True)
class CustomLoss:
    """A loss term besides those of the config: logged by its name, and divided as they are.

    Examples:
        >>> from seq2seq_distill import CustomLoss, Term
        >>> def largest_logit(student, teacher, batch):
        ...     return Term(student.logits.float().max(-1).values.square().sum(), (batch["labels"] != -100).sum())
        >>> CustomLoss(largest_logit, weight=1e-4).over
        'target'
    """

    function: Callable[[ForwardPass, ForwardPass | None, Batch], Term]
    """Of the student's pass, the teacher's (the first one's; None without a teacher in memory) and the batch, on the
    student's device: the sum over all tokens, float32 or wider, and their number. In rows
    that count nowhere the batch's `attention_mask` is 0 and its `labels` are -100."""
    weight: float = 1.0
    """In the loss; 0 only logs it."""
    over: Literal["target", "source"] = "target"
    """Which tokens the sum is over, and hence which number divides it."""


@dataclass(frozen=True)
class Extensions:
    """What a run takes besides its config. It is not in run.yaml: give it again when the run goes on.

    Examples:
        >>> from seq2seq_distill import Extensions
        >>> def print_folder(folder, step, metrics):
        ...     print(f"step {step}: {folder}, BLEU {metrics['val_bleu']:.1f}")
        >>> extensions = Extensions(on_student_saved=print_folder)  # for `run_config(config, extensions=extensions)`
        >>> extensions.weights
        {}
    """

    terms: Mapping[str, CustomLoss] = field(default_factory=dict)
    """By the name that is logged."""
    batch_processor: Callable[[Batch], Batch] | None = None
    """Called on each training batch, on its device, before the step. What the step's losses are divided by stays: the
    numbers of tokens that the batches had before."""
    on_student_saved: OnSaved | None = None
    """Called on process 0 at each student that was the best so far, when it has been written."""

    def __post_init__(self) -> None:
        """Raises ConfigError, a line for each term that cannot be."""
        raise_config_error(
            [f"custom loss {name!r}: the name is taken, choose another" for name in self.terms if _is_taken(name)]
            + [
                f"custom loss {name!r}, weight {term.weight}: give a finite number"
                for name, term in self.terms.items()
                if not math.isfinite(term.weight)
            ]
        )

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term in the loss."""
        return {name: term.weight for name, term in self.terms.items()}

    @property
    def source_terms(self) -> frozenset[str]:
        """Terms that are means over source tokens."""
        return frozenset(name for name, term in self.terms.items() if term.over == "source")

    def processed(self, batch: Batch) -> Batch:
        """A training batch as the step is to see it; task, teacher's sources and chunks of the labels stay."""
        if self.batch_processor is None:
            return batch
        fixed = {"task", "distill_mask", *CHUNK_FIELDS, *NAMES.values()}
        kept = {name: field for name, field in batch.items() if name in fixed}
        return {**kept, **self.batch_processor(batch)}


def custom_loss_terms(
    terms: Mapping[str, CustomLoss],
    student: ForwardPass,
    teacher: ForwardPass | None,
    batch: Batch,
    *,
    checked: bool,
) -> dict[str, Term]:
    """Sum and count of each term.

    Args:
        terms: by name.
        student, teacher: their passes.
        batch: [B, ...] fields; a row of -1 in `row` counts nowhere.
        checked: look at what comes back; in training that would make a GPU wait.

    Raises:
        ConfigError: a function returns no `Term`, or one with another number than that of the tokens.
    """
    if not terms:
        return {}
    batch = {**batch, "attention_mask": batch["attention_mask"] * (batch["row"] >= 0)[:, None]}
    found = {name: term.function(student, teacher, batch) for name, term in terms.items()}
    if checked:
        for name, term in terms.items():
            _check(name, found[name], term.over, batch)
    return found


def _check(name: str, found: Term, over: str, batch: Batch) -> None:
    if not isinstance(found, Term):
        raise ConfigError(f"custom loss {name!r} returns {type(found).__name__}: return Term(sum, count)")
    tokens: Tensor = (batch["labels"] != IGNORE_INDEX).sum() if over == "target" else batch["attention_mask"].sum()
    if int(found.count) != int(tokens):
        raise ConfigError(
            f"custom loss {name!r} counts {int(found.count)}, but the batch has {int(tokens)} {over} tokens: return "
            "that number, 0 being the loss of a token that is left out, or choose the other side with over"
        )


def _is_taken(name: str) -> bool:
    return name in TAKEN or name.startswith("match_")
