"""Which checkpoint a run goes on from: the newest of its output folder, or one that `resume` names."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import Callback, LightningModule, Trainer

from seq2seq_distill.config import RunConfig
from seq2seq_distill.training.checkpoints import HashedCheckpointIO, newest_whole, read_checkpoint
from seq2seq_distill.training.output_folder import OutputFolder, best_step
from seq2seq_distill.utils.distributed import is_rank_zero
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import write_folder, write_jsonl

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """From where a run starts."""

    config: RunConfig
    """With what an earlier start of this run has found."""
    checkpoint: str | None
    """To go on from, if any."""
    begins_at_named: bool = False
    """Whether the checkpoint is the one that `resume` names."""


# Before the training


def find_start(config: RunConfig, folder: OutputFolder) -> Start:
    """From where a run starts. A named checkpoint is where it begins; once it has written one, it goes on from there.

    Raises:
        ConfigError: `resume` names no file or refuses the folder, or the folder's run is another.
    """
    named = is_named(config.resume)
    if named and not _has_begun(config, folder):
        return _start_at_named(config, folder)
    # Process 0 may have begun to write by the time that others come here.
    if config.resume == "never" and is_rank_zero() and folder.run_yaml.exists():
        raise ConfigError(
            f"`resume` never, but `output_dir` {folder.path} holds a run: choose another folder, or `resume` auto"
        )
    found, checkpoint = folder.with_findings(config), newest_whole(folder)
    differences = folder.differences(found)
    if checkpoint is None and not has_ended(folder):
        return _start_at_named(config, folder) if named else Start(config if differences else found, None)
    if differences and named and has_ended(folder):
        return _start_at_named(config, folder)  # such as with more steps
    if differences:
        raise ConfigError("\n".join(f"{line}: choose another `output_dir`, or the same value" for line in differences))
    return Start(found, None if checkpoint is None else str(checkpoint))


def is_named(resume: str) -> bool:
    """Whether `resume` is the path of a checkpoint."""
    return resume not in ("auto", "never")


def has_ended(folder: OutputFolder) -> bool:
    """Whether the folder holds the results of a run, with or without its checkpoints."""
    return folder.run_yaml.exists() and folder.results.exists()


def _named(resume: str) -> Path:
    return Path(resume).expanduser().resolve()


def _origin(path: Path) -> OutputFolder:
    """The folder of the run that wrote a checkpoint."""
    return OutputFolder(path.parent.parent)


def _has_begun(config: RunConfig, folder: OutputFolder) -> bool:
    """Whether the run of the folder began at the checkpoint that `resume` names."""
    before = str(folder.read_run().get("resume", "auto"))
    return is_named(before) and _named(before) == _named(config.resume)


def _start_at_named(config: RunConfig, folder: OutputFolder) -> Start:
    path = _named(config.resume)
    if not path.is_file():
        raise ConfigError(f"`resume` {config.resume}: no such checkpoint; choose a file, or auto, or never")
    origin = _origin(path)
    if folder.run_yaml.exists() and not _has_begun(config, folder) and folder.path.resolve() != origin.path:
        raise ConfigError(f"`output_dir` {folder.path} holds another run than `resume` {config.resume}: choose another")
    config = origin.with_findings(config)
    for line in origin.differences(config):
        logger.warning("%s: the run will not go on exactly as it would have", line)
    return Start(config, str(path), begins_at_named=True)


def begin_at_named(checkpoint: str, step: int, folder: OutputFolder) -> None:
    """Bring the folder to where the named checkpoint is: with the validations before, and the best student if it is
    still there. A training of this folder that went on from there is given up."""
    path = Path(checkpoint)
    origin = _origin(path)
    for newer in (folder.last_checkpoint, folder.previous_checkpoint):
        if newer.resolve() != path:
            HashedCheckpointIO(folder).remove_checkpoint(newer)
    if folder.path.resolve() != origin.path and origin.run_yaml.exists():
        lines = origin.read_metrics()
        before = [line for line in lines if line["step"] <= step]
        write_jsonl(folder.metrics, before)
        best = best_step(before)
        if origin.best.is_dir() and best is not None and best == best_step(lines):

            def fill(place: Path) -> None:
                shutil.copytree(origin.best, place, dirs_exist_ok=True)

            write_folder(folder.best, fill)


def check_fits(config: RunConfig, module: LightningModule) -> int:
    """The optimiser steps that the named checkpoint has behind it.

    Raises:
        ConfigError: it is not one of this student, trained in this way.
    """
    path = _named(config.resume)
    content, opening = read_checkpoint(path), f"`resume` {config.resume}"
    weights, saved = (_shapes(state) for state in (module.state_dict(), content["state_dict"]))
    different = sorted(name for name in weights.keys() | saved.keys() if weights.get(name) != saved.get(name))
    if different:
        name = different[0]
        raise ConfigError(
            f"{opening} holds another student: {name} is {saved.get(name, 'missing')} there and "
            f"{weights.get(name, 'missing')} here: choose the options of its run for the student"
        )
    groups = (content.get("optimizer_states") or [{}])[0].get("param_groups", [])
    here = module.configure_optimizers()["optimizer"].param_groups  # type: ignore[index, call-overload, union-attr]
    if groups and _kinds(groups) != _kinds(here):
        raise ConfigError(
            f"{opening} has trained other weights, or by another optimizer: choose `student.freeze_encoder`, "
            "`student.freeze_embeds`, `optim.name`, `optim.encoder_lr` and `optim.projection_lr` as in its run"
        )
    parts = (_origin(path).read_run().get("trainer") or {}).get("accumulate_grad_batches")
    if parts not in (None, config.trainer.accumulate_grad_batches):
        raise ConfigError(
            f"{opening} counts {parts} batches a step: set `trainer.accumulate_grad_batches` {parts}, or start anew"
        )
    return int(content["global_step"])


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items() if hasattr(tensor, "shape")}


def _kinds(groups: list[dict[str, Any]]) -> list[tuple[int, set[str]]]:
    """Number of weights and names of the settings of each group, by which optimizers differ."""
    return [(len(group["params"]), group.keys() - {"initial_lr"}) for group in groups]


class NewOptimizerSettings(Callback):
    """Give a restored optimizer the learning rates and other settings of this run, and not those that it was saved
    with."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fresh: Any = pl_module.configure_optimizers()
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler
        scheduler.base_lrs = list(fresh["lr_scheduler"]["scheduler"].base_lrs)
        for group, new, rate, factor in zip(
            trainer.optimizers[0].param_groups,
            fresh["optimizer"].param_groups,
            scheduler.base_lrs,
            scheduler.lr_lambdas,
            strict=True,
        ):
            group.update({name: value for name, value in new.items() if name != "params"})
            group["lr"] = rate * factor(scheduler.last_epoch)
