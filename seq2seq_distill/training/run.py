"""A whole run: from a config to a trained student, its scores, and the comparison with its teacher."""

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.utilities import rank_zero_only
from transformers import AutoModelForSeq2SeqLM

from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.metrics.corpus import dropped_by_rouge
from seq2seq_distill.metrics.scripts import MOSTLY_DROPPED
from seq2seq_distill.modules.datamodule import Seq2SeqData
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.training.auto_targets import with_chosen_targets
from seq2seq_distill.training.build import build_module, check_extensions
from seq2seq_distill.training.checkpoints import HashedCheckpointIO
from seq2seq_distill.training.components import RunComponents, build_components, load_whole_teacher, of_task
from seq2seq_distill.training.failures import LastBatch, translate_errors
from seq2seq_distill.training.final_test import test_task
from seq2seq_distill.training.model_card import model_card
from seq2seq_distill.training.output_folder import OutputFolder, provenance, save_model
from seq2seq_distill.training.preflight import preflight
from seq2seq_distill.training.results import how_scored, merge_task_results, print_table
from seq2seq_distill.training.resuming import NewOptimizerSettings, begin_at_named, check_fits, find_start, has_ended
from seq2seq_distill.training.signals import SignalHandler
from seq2seq_distill.training.teacher_losses import with_losses_of_teacher
from seq2seq_distill.training.trainer import build_trainer, check_trainer
from seq2seq_distill.utils.deprecation import renamed_arguments
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.errors import ConfigError, DataError
from seq2seq_distill.utils.files import write_json, write_jsonl
from seq2seq_distill.utils.terminal import program

logger = logging.getLogger(__name__)


@renamed_arguments(own="extensions")
def run_config(
    config: RunConfig, callbacks: Sequence[Callback] = (), extensions: Extensions | None = None
) -> dict[str, Any]:
    """Train as the config says, test the best student and the teacher, and return the content of results.json.

    A run that was stopped goes on from its last checkpoint; one that has ended returns its results again.

    Args:
        config: the whole config.
        callbacks: further Lightning callbacks.
        extensions: custom losses, a change of each batch, a call at each saved student.

    Raises:
        UserError: a `ConfigError`, `DataError` or `ModelError`, with a line for each mistake.
        RunError: the machine or the disk failed; the same call goes on once that is repaired.

    Examples:
        >>> from seq2seq_distill import EncodeConfig, EvalConfig, RunConfig, StudentConfig, TrainerConfig, run_config
        >>> config = RunConfig(
        ...     task="translation",
        ...     teacher="demo:translation",
        ...     data=["demo:translation"],
        ...     output_dir="runs/two-steps",
        ...     student=StudentConfig(decoder_layers=1),
        ...     encode=EncodeConfig(n_train=64),
        ...     eval=EvalConfig(beams=1, n_val=4, n_test=4, n_speed=1, max_target_length=12),
        ...     trainer=TrainerConfig(max_steps=2, accelerator="cpu", enable_progress_bar=False),
        ...     logger=[],
        ... )
        >>> results = run_config(config)  # doctest: +ELLIPSIS
                             translation: test split...
        >>> sorted(results["kept"])
        ['bleu', 'chrf']
    """
    validate(config)
    extensions = extensions or Extensions()
    check_extensions(config, extensions)
    folder, last_batch = OutputFolder(config.folder), LastBatch()
    with SignalHandler() as signals, _locked(folder), translate_errors(config, last_batch):
        config, checkpoint, begins_at_named = find_start(config, folder)
        if has_ended(folder) and not begins_at_named:
            return _show_results_again(config, folder)
        processes = check_trainer(config)
        seed_everything(config.seed, workers=True, verbose=False)
        components = of_data = build_components(config, folder.student_init)
        preflight(of_data, config)
        if checkpoint is None:
            _check_monitor(config, of_data)
        config, components = with_chosen_targets(config, of_data, folder, processes)
        if components is not of_data:
            preflight(components, config)
        if checkpoint is not None and not begins_at_named:
            _check_data(config, components, folder)
        config = with_losses_of_teacher(config, components)
        components, module = build_module(config, components, extensions)
        callbacks = [last_batch, *callbacks]
        if begins_at_named:
            step = check_fits(config, module)
            callbacks.append(NewOptimizerSettings())
            if is_rank_zero():
                begin_at_named(str(checkpoint), step, folder)
        trainer = build_trainer(config, components.data, folder, signals, callbacks, extensions.on_student_saved)
        datamodule = Seq2SeqData(components.data)
        _write_start(config, components, folder, resumed=checkpoint is not None)
        if checkpoint is None:
            trainer.validate(module, datamodule=datamodule, verbose=False)  # the untrained student is step 0
        else:
            logger.info("resuming from %s", checkpoint)
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        return _test_best_student(config, components, trainer, folder)


# Before the training


@contextmanager
def _locked(folder: OutputFolder) -> Iterator[None]:
    """Process 0 locks the folder for all processes."""
    if not is_rank_zero():
        yield
        return
    with folder.locked():
        folder.recover()
        yield


def _check_data(config: RunConfig, components: RunComponents, folder: OutputFolder) -> None:
    """Raise DataError if a run would go on with other data than it began with."""
    fingerprint = components.data.fingerprint
    before = folder.read_run().get("provenance", {}).get("data_fingerprint")
    if before and not components.data.has_texts_of(before):
        raise DataError(
            f"`data` {' '.join(config.sources)} has changed since the run in {folder.path} began "
            f"(fingerprint {fingerprint}, then {before}): restore it, or choose another `output_dir`"
        )


def _check_monitor(config: RunConfig, components: RunComponents) -> None:
    """Refuse to choose the best student by a ROUGE that drops most of the text."""
    if not config.monitor.startswith("rouge") or config.eval.rouge_tokenizer != "default":
        return
    for task in components.tasks:
        dropped = dropped_by_rouge(task.student_view.data.references("val"))
        if dropped > MOSTLY_DROPPED:
            with of_task(task.name):
                raise ConfigError(
                    f"`eval.monitor` {config.monitor}: ROUGE keeps only a-z and 0-9, and drops most letters of "
                    f"{dropped:.0%} of the validation references: set `eval.rouge_tokenizer` unicode, or "
                    "`eval.monitor` loss"
                )


@rank_zero_only
def _write_start(config: RunConfig, components: RunComponents, folder: OutputFolder, *, resumed: bool) -> None:
    """Write run.yaml, and the student before training."""
    folder.results.unlink(missing_ok=True)  # until the run has ended again
    folder.write_run(replace(config, output_dir=str(folder.path)), provenance(components.data.fingerprint))
    # A narrower student has been saved already, and other processes may be reading it.
    if not folder.student_init.exists() or not (resumed or config.student.widths):
        card = model_card(config, components.student.config)
        save_model(folder.student_init, components.student, components.tokenizer, card)


# After the training


def _test_best_student(
    config: RunConfig, components: RunComponents, trainer: Trainer, folder: OutputFolder
) -> dict[str, Any]:
    """Test the best student and its teachers on all processes; process 0 writes, shows and returns the results."""
    if not folder.best.is_dir():
        raise ConfigError(f"`resume` {config.resume}: no step and no validation is left: raise `trainer.max_steps`")
    student = AutoModelForSeq2SeqLM.from_pretrained(folder.best, dtype=torch.float32)
    whole = load_whole_teacher(config)
    tested = {task.name: test_task(task, student, trainer, whole) for task in components.tasks}
    results: dict[str, Any] = {}
    if trainer.is_global_zero:
        results = merge_task_results({name: result for name, (result, _) in tested.items()})
        write_jsonl(folder.test_generations, [record for _, records in tested.values() for record in records])
        save_model(folder.best, student, components.tokenizer, model_card(config, student.config, results))
        # Kept while last.ckpt might be damaged by a kill; nothing is resumed from now on.
        HashedCheckpointIO(folder).remove_checkpoint(folder.previous_checkpoint)
        write_json(folder.results, results)  # the last file: it says that the run has ended
        _print_results(results, folder)
    trainer.strategy.barrier()
    return results


def _show_results_again(config: RunConfig, folder: OutputFolder) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(folder.results.read_text("utf-8"))
    logger.info("the run in %s has ended; these are its results", folder.path)
    _print_results(results, folder)
    return results


@rank_zero_only
def _print_results(results: Mapping[str, Any], folder: OutputFolder) -> None:
    for name, result in results.get("tasks", {}).items():
        print_table(result, how_scored(result), title=name)
    print_table(results, how_scored(results))
    logger.info("to try the student, type: %s generate --model %s", program(), shlex.quote(str(folder.path)))
