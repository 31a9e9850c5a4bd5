"""A whole run: config in; student, scores and comparison with the teacher out. The parts meet here."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.utilities import rank_zero_only
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.models import architectures
from seq2seq_distill.modules.distillers import SummarizationDistiller, TranslationDistiller
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.modules.summarization import SummarizationModule, generation_settings
from seq2seq_distill.modules.tasks import Task
from seq2seq_distill.modules.translation import TranslationModule
from seq2seq_distill.training.caching import with_cache
from seq2seq_distill.training.checkpoints import HashedCheckpointIO, newest_whole
from seq2seq_distill.training.components import RunComponents, TaskComponents, build_components, teacher_of
from seq2seq_distill.training.failures import LastBatch, translate_errors
from seq2seq_distill.training.model_card import model_card
from seq2seq_distill.training.output_folder import OutputFolder, provenance, save_model
from seq2seq_distill.training.preflight import preflight
from seq2seq_distill.training.results import (
    build_results,
    how_scored,
    measure_models,
    merge_task_results,
    print_table,
    signature,
    test_model,
)
from seq2seq_distill.training.signals import SignalHandler
from seq2seq_distill.training.trainer import build_trainer, check_trainer
from seq2seq_distill.utils.deprecation import renamed_arguments
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.errors import ConfigError, DataError
from seq2seq_distill.utils.files import write_json, write_jsonl

logger = logging.getLogger(__name__)

MODULES: dict[str, type[SummarizationModule]] = {
    "summarization": SummarizationModule,
    "translation": TranslationModule,
}
DISTILLERS: dict[str, type[SummarizationDistiller]] = {
    "summarization": SummarizationDistiller,
    "translation": TranslationDistiller,
}


@renamed_arguments(own="extensions")
def run_config(
    config: RunConfig, callbacks: Sequence[Callback] = (), extensions: Extensions | None = None
) -> dict[str, Any]:
    """Train as the config says, test the best student and the teacher, and return what results.json holds.

    Args:
        config: the whole config.
        callbacks: further Lightning callbacks.
        extensions: further loss terms, a change of each batch, a call at each saved student.

    Raises:
        UserError: a `ConfigError`, `DataError` or `ModelError` whose one line (or lines) names flag, value and remedy.
    """
    validate(config)
    extensions = extensions or Extensions()
    if extensions.batch_processor is not None and config.teacher_cache:
        raise ConfigError(
            f"`teacher_cache` {config.teacher_cache} holds what the teacher says of batches that batch_processor would "
            "change: leave out one of the two"
        )
    folder, last = OutputFolder(config.folder), LastBatch()
    with SignalHandler() as signals, _locked(folder), translate_errors(config, last):
        checkpoint = _where_to_start(config, folder)
        if config.resume == "auto" and checkpoint and folder.results.exists():
            return _show_again(config, folder)
        check_trainer(config)
        seed_everything(config.seed, workers=True, verbose=False)
        parts = build_components(config)
        _check_data(config, parts, folder, checkpoint)
        preflight(parts, config)
        if config.teacher_cache:
            parts = with_cache(config, parts)
        module = make_module(config, parts, extensions)
        _log_summary(config, parts, module)
        for teacher in parts.teachers:
            teacher.cast_weights(config.trainer.teacher_precision)
        trainer = build_trainer(config, parts.data, folder, signals, [last, *callbacks], extensions.on_student_saved)
        _write_start(config, parts, folder, afresh=checkpoint is None)
        if checkpoint is None:
            trainer.validate(module, datamodule=parts.data, verbose=False)  # the untrained student is step 0
        else:
            logger.info("going on from %s", checkpoint)
        trainer.fit(module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
        return _test_best_student(config, parts, trainer, folder)


@contextmanager
def _locked(folder: OutputFolder) -> Iterator[None]:
    """Process 0 holds the folder for all."""
    if not is_rank_zero():
        yield
        return
    with folder.locked():
        folder.recover()
        yield


def _where_to_start(config: RunConfig, folder: OutputFolder) -> str | None:
    """The checkpoint to go on from, if any."""
    if config.resume not in ("auto", "never"):
        if not Path(config.resume).is_file():
            raise ConfigError(f"`resume` {config.resume}: no such checkpoint; choose a file, or auto, or never")
        origin = OutputFolder(Path(config.resume).resolve().parent.parent)
        for line in origin.differences(config):
            logger.warning("%s: it goes on otherwise than it would have", line)
        return config.resume
    # Process 0 may have begun to write when others come here.
    if config.resume == "never" and is_rank_zero() and folder.run_yaml.exists():
        raise ConfigError(
            f"`resume` never, but `output_dir` {folder.path} holds a run: choose another folder, or `resume` auto"
        )
    checkpoint = newest_whole(folder)
    if checkpoint is None:
        return None
    differences = folder.differences(config)
    if differences:
        raise ConfigError("\n".join(f"{line}: choose another `output_dir`, or the same value" for line in differences))
    return str(checkpoint)


def _check_data(config: RunConfig, parts: RunComponents, folder: OutputFolder, checkpoint: str | None) -> None:
    """A run goes on with the data that it began with."""
    before = folder.read_run().get("provenance", {}).get("data_fingerprint")
    if checkpoint is not None and config.resume == "auto" and before not in (None, parts.data.fingerprint):
        raise DataError(
            f"`data` {' '.join(config.sources)} has changed since the run in {folder.path} began "
            f"(fingerprint {parts.data.fingerprint}, then {before}): restore it, or choose another `output_dir`"
        )


def make_module(config: RunConfig, parts: RunComponents, extensions: Extensions | None = None) -> SummarizationModule:
    """The module that trains these parts: with a teacher or its cached outputs, and `--method kd`, a distiller."""
    kind, steps, tasks = config.kinds[0], parts.data.plan.total_steps, _tasks(parts)
    if config.method == "kd" and (parts.teachers or config.teacher_cache):
        models, extra_teachers, apart = (
            (parts.student, parts.teacher, parts.tokenizer),
            parts.extra_teachers,
            parts.data.teachers,
        )
        return DISTILLERS[kind](
            *models,
            config,
            steps,
            extensions,
            extra_teachers=extra_teachers,
            separate_teacher_inputs=apart is not None,
            tasks=tasks,
        )
    return MODULES[kind](parts.student, parts.tokenizer, config, steps, extensions, tasks)


def _tasks(parts: RunComponents) -> list[Task]:
    """What several tasks ask of the module."""
    return [
        Task(str(task.config.task), task.config.tgt_lang, task.student_generation, task.teacher, task.name)
        for task in parts.tasks
    ]


@rank_zero_only
def _log_summary(config: RunConfig, parts: RunComponents, module: SummarizationModule) -> None:
    encoder, decoder = architectures.depths(parts.student.config)
    copied = [getattr(parts.student.config, f"distilled_{side}_layers", None) for side in ("encoder", "decoder")]
    trained = sum(p.numel() for p in parts.student.parameters() if p.requires_grad)
    cut = parts.data.truncation()
    rows = {split: len(encoded) for split, encoded in parts.data.encoded.items()}
    logger.info("data: %d training, %d validation, %d test examples", rows["train"], rows["val"], rows["test"])
    for task in parts.tasks:
        if task.name:
            logger.info("task %s: %d training examples", task.name, len(task.student_view.data.encoded["train"]))
    logger.info("cut: %.1f%% of training sources, %.1f%% of targets", 100 * cut["source"], 100 * cut["target"])
    logger.info("student: %d encoder and %d decoder layers, copied from %s and %s", encoder, decoder, *copied)
    logger.info(
        "%s of %s parameters are trained", f"{trained:,}", f"{sum(p.numel() for p in parts.student.parameters()):,}"
    )
    if getattr(module, "shares_encoder", False):
        logger.info("the frozen encoder equals the teacher's: one pass serves both")
    logger.info("%d optimiser steps, into %s", parts.data.plan.total_steps, config.folder)


@rank_zero_only
def _write_start(config: RunConfig, parts: RunComponents, folder: OutputFolder, *, afresh: bool) -> None:
    folder.results.unlink(missing_ok=True)  # until the run has ended again
    folder.write_run(replace(config, output_dir=str(folder.path)), provenance(parts.data.fingerprint))
    if afresh or not folder.student_init.exists():
        save_model(folder.student_init, parts.student, parts.tokenizer, model_card(config))


@rank_zero_only
def _print(results: Mapping[str, Any], config: RunConfig) -> None:
    for own, (name, result) in zip(config.each_task(), results.get("tasks", {}).items(), strict=False):
        print_table(result, signature(str(own.task), own.tgt_lang), title=name)
    print_table(results, how_scored(config))


def _show_again(config: RunConfig, folder: OutputFolder) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(folder.results.read_text("utf-8"))
    logger.info("the run in %s has ended; these are its results", folder.path)
    _print(results, config)
    return results


def _test_best_student(
    config: RunConfig, parts: RunComponents, trainer: Trainer, folder: OutputFolder
) -> dict[str, Any]:
    """Test the best student and its teachers, write and show what came out."""
    student = AutoModelForSeq2SeqLM.from_pretrained(folder.best, dtype=torch.float32)
    tested = [_test_task(task, student, trainer) for task in parts.tasks]
    results: dict[str, Any] = {}
    if trainer.is_global_zero:
        by_task = {task.name: result for task, (result, _) in zip(parts.tasks, tested, strict=True)}
        results = merge_task_results(list(by_task), list(by_task.values())) if config.tasks else by_task[""]
        write_jsonl(folder.test_generations, [record for _, records in tested for record in records])
        save_model(folder.best, student, parts.tokenizer, model_card(config, results))
        HashedCheckpointIO(folder).remove_checkpoint(folder.previous_checkpoint)
        write_json(folder.results, results)  # the last: it says that the run has ended
        _print(results, config)
    trainer.strategy.barrier()
    return results


def _test_task(
    task: TaskComponents, student: PreTrainedModel, trainer: Trainer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What results.json says of a task, and the lines of test_generations.jsonl; empty but on process 0."""
    config, kind = task.config, str(task.config.task)
    models, views = {"student": student}, {"student": task.student_view}
    teacher = task.teacher if config.trainer.teacher_precision == "32" else None
    teacher = teacher or teacher_of(config, task.teacher_view.tokenizer)  # a run with a cache has released it
    if teacher is not None:
        models["teacher"], views["teacher"] = teacher.model, task.teacher_view
    scores, outputs = {}, {}
    with replace(task, teacher=teacher).generating_as_for_task(student):
        for name, model in models.items():
            module = MODULES[kind](model, views[name].tokenizer, config, 0)
            scores[name], outputs[name] = test_model(module, trainer, views[name].data)
        if not trainer.is_global_zero:
            return {}, []
        data = {name: reading.data for name, reading in views.items()}
        figures, speed = measure_models(models, data, generation_settings(config), config.eval.n_speed)
    sides = {name: {**scores[name], **figures[name]} for name in models}
    columns = zip(data["student"].references("test"), *(outputs[name].texts for name in models), strict=True)
    names, place = ("reference", *models), {"task": task.name} if task.name else {}
    records = [{**place, "row": row, **dict(zip(names, line, strict=True))} for row, line in enumerate(columns)]
    return build_results(kind, sides["student"], sides.get("teacher"), speed), records
