"""Which targets `targets` auto means: those of the teacher where writing them takes no longer than the training."""

import gc
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_only

from seq2seq_distill.config import RunConfig
from seq2seq_distill.config.target_conflicts import has_unequal_weights
from seq2seq_distill.data.sources import is_label_set
from seq2seq_distill.training.components import RunComponents, build_components
from seq2seq_distill.training.labels.labelling import open_labelling
from seq2seq_distill.training.labels.load_rows import load_label_rows
from seq2seq_distill.training.labels.teacher import load_label_teacher
from seq2seq_distill.training.labels.timing import estimate_seconds
from seq2seq_distill.training.output_folder import OutputFolder, provenance
from seq2seq_distill.training.probe import Probe
from seq2seq_distill.training.teacher_targets import label_config, named_as_in_a_run
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.locks import wait_until
from seq2seq_distill.utils.optional import is_installed
from seq2seq_distill.utils.progress import format_duration

logger = logging.getLogger(__name__)

LEAST_EPOCHS = {"ctranslate2": 0.7, "transformers": 2.5}
"""Data epochs below which nothing is measured, by the engine that would label. transformers took more than twice as
long to label a row as to train on it; CTranslate2 0.7 (built-in translation teacher) to 1.7 times (Multi30k)."""
TIMED_STEPS = 5
"""Training steps that are timed."""


class Choice(NamedTuple):
    """What `targets` auto means in a run."""

    targets: Literal["reference", "teacher"]
    """Whose they are."""
    reason: str


def with_chosen_targets(
    config: RunConfig, components: RunComponents, folder: OutputFolder, processes: int
) -> tuple[RunConfig, RunComponents]:
    """The config with what `targets` auto means, and the components of a run with these targets.

    Process 0 decides, and writes the choice to run.yaml, where other processes, and a run that is resumed, read it.

    Args:
        config: the run's; what an earlier start has found is in it.
        components: of the run with the targets of the data.
        folder: of the run.
        processes: number of processes that will train.
    """
    if config.targets != "auto":
        return config, components
    if not is_rank_zero():
        wait_until(lambda: _as_found(config, folder).targets != "auto")
        config = _as_found(config, folder)
        return config, components if config.targets == "reference" else build_components(config, folder.student_init)
    fingerprint = components.data.fingerprint
    choice = choose_without_measuring(config, components)
    if choice is not None:
        return _with_choice(config, choice, folder, fingerprint), components
    choice = _choose_by_times(config, components, folder, processes)
    del components  # whose student has been trained
    config = _with_choice(config, choice, folder, fingerprint)
    return config, build_components(config, folder.student_init)


def _with_choice(config: RunConfig, choice: Choice, folder: OutputFolder, fingerprint: str) -> RunConfig:
    """The config with the targets that were chosen, which go into run.yaml."""
    _log(choice)
    config = replace(config, targets=choice.targets)
    folder.write_run(replace(config, output_dir=str(folder.path)), provenance(fingerprint))
    return config


def reasons_for_reference(config: RunConfig) -> Iterator[str]:
    """Options with which `targets` auto is reference, whatever labelling takes."""
    if config.method == "sft":
        yield "`method` sft is the baseline"
    if config.tasks:
        yield "the run has several `tasks`"
    elif config.teacher is None:
        yield "there is no `teacher`"
    if config.teacher_cache:
        yield "`teacher_cache` is of the data as it is"
    if config.ensemble.teachers:
        yield "`ensemble.teachers` have no common targets"
    if config.loss.on_policy:
        yield "`loss.on_policy` samples targets from the student"
    if config.loss.alpha_chunk or any(map(is_label_set, config.data or ())):
        yield "`data` has a label set"
    if has_unequal_weights(config):
        yield "`data_weights` differ"
    if str(config.trainer.strategy) not in ("auto", "ddp", "ddp_find_unused_parameters_true"):
        yield "`trainer.strategy` shards the models"


def choose_without_measuring(config: RunConfig, components: RunComponents) -> Choice | None:
    """The choice where options decide, or the training is so short that labelling would take longer; else None."""
    reason = next(reasons_for_reference(config), None)
    if reason is not None:
        return Choice("reference", reason)
    rows = len(components.data.encoded["train"])
    epochs = _trained_rows(components) / rows
    if epochs < LEAST_EPOCHS[_engine(config)]:
        return Choice(
            "reference", f"writing {rows} targets would take longer than {epochs:.1f} data epochs of training"
        )
    return None


def _engine(config: RunConfig) -> str:
    """That labels if the teacher is one that CTranslate2 can run."""
    return "ctranslate2" if config.label.engine != "transformers" and is_installed("ctranslate2") else "transformers"


def choose_by_seconds(labelling: float, training: float) -> Choice:
    """The choice by what labelling and training are estimated to take, in seconds."""
    reason = (
        f"the teacher writes them in about {format_duration(labelling)}, training takes {format_duration(training)}"
    )
    return Choice("teacher" if labelling <= training else "reference", reason)


def _trained_rows(components: RunComponents) -> float:
    """About how many rows all steps of the run read together."""
    plan = components.data.plan
    first = range(min(20, plan.total_steps))
    return plan.total_steps * sum(len(plan.rows(step)) for step in first) / len(first)


def _choose_by_times(config: RunConfig, components: RunComponents, folder: OutputFolder, processes: int) -> Choice:
    """Time some training steps, which change the student and its teacher, then the labelling of some rows."""
    accumulated = config.trainer.accumulate_grad_batches
    probe = Probe(config, components)
    seconds = probe.seconds_per_step(TIMED_STEPS, parts=accumulated * processes) * accumulated
    training = seconds * components.data.plan.total_steps
    del probe
    _free_memory(components)
    return choose_by_seconds(_labelling_seconds(config, folder, longest=training), training)


def _labelling_seconds(config: RunConfig, folder: OutputFolder, longest: float) -> float:
    """An estimate. The label folder that this begins is left for the run that labels, unless it takes too long."""
    was_there = folder.labels.exists()
    with named_as_in_a_run():
        labels = label_config(config)
        seconds = estimate_seconds(open_labelling(labels, load_label_teacher(labels), load_label_rows(labels)))
    if seconds > longest and not was_there:
        shutil.rmtree(folder.labels)
    return seconds


def _free_memory(components: RunComponents) -> None:
    """Leave the device to the model that labels."""
    torch.nn.Module.to(components.student, "cpu")
    for teacher in components.teachers:
        teacher.to("cpu")
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _as_found(config: RunConfig, folder: OutputFolder) -> RunConfig:
    """The config with the choice of process 0, once that is there."""
    found = folder.with_findings(config)
    return config if folder.differences(found) else found


@rank_zero_only
def _log(choice: Choice) -> None:
    whose = "the teacher" if choice.targets == "teacher" else "the data"
    logger.info("targets of %s (--targets %s): %s", whose, choice.targets, choice.reason)
