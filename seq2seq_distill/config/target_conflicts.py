"""Which options contradict targets that the teacher writes."""

from collections.abc import Iterator
from dataclasses import replace

from seq2seq_distill.config.problems import Problem, join_values
from seq2seq_distill.config.run import RunConfig


def has_unequal_weights(config: RunConfig) -> bool:
    """Whether sources of the data are drawn by different weights, those of 0 aside."""
    return len({weight for weight in config.data_weights or () if weight}) > 1


def target_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Targets that the teacher writes, and the options of `label`; `targets` auto heeds them by itself."""
    label = config.label
    yield from label.choice_conflicts("label.")
    if label.beams is None:
        yield from replace(label, beams=config.eval.beams).beam_conflicts("label.n_best", "eval.beams")
    else:
        yield from label.beam_conflicts("label.n_best", "label.beams")
    if config.targets not in ("teacher", "both"):
        return
    opening, remedy = f"`targets` {config.targets}", "choose `targets` reference"
    if config.tasks:
        yield Problem(
            ("targets", "tasks"),
            f"{opening} cannot be combined with `tasks`: label the data of each task by `distill label`, or {remedy}",
        )
    elif config.teacher is None and config.data:
        yield Problem(("targets", "teacher"), f"{opening} needs a `teacher` that writes them: name one, or {remedy}")
    if has_unequal_weights(config):
        yield Problem(
            ("targets", "data_weights"),
            f"{opening} makes one label set of all `data`, and `data_weights` {join_values(config.data_weights or ())} "
            f"differ: give equal weights, 0 aside, or {remedy}",
        )
