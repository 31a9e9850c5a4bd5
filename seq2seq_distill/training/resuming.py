"""Which checkpoint a run goes on from: the newest of its output folder, or one that `resume` names."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import LightningModule

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


def find_start(config: RunConfig, folder: OutputFolder) -> Start:
    """From where a run starts. A named checkpoint is where it begins; once it has written one, it goes on from there.

    Raises:
        ConfigError: `resume` names no file or refuses the folder, or the folder's run has other options.
    """
    named = is_named(config.resume)
    if named and not Path(config.resume).is_file():
        raise ConfigError(f"`resume` {config.resume}: no such checkpoint; choose a file, or auto, or never")
    if named and folder.read_run().get("resume") != config.resume:
        return _from_named(config)
    # Process 0 may have begun to write by the time that others come here.
    if config.resume == "never" and is_rank_zero() and folder.run_yaml.exists():
        raise ConfigError(
            f"`resume` never, but `output_dir` {folder.path} holds a run: choose another folder, or `resume` auto"
        )
    found, checkpoint = folder.with_findings(config), newest_whole(folder)
    differences = folder.differences(found)
    if checkpoint is None and not has_ended(folder):
        return _from_named(config) if named else Start(config if differences else found, None)
    if differences:
        raise ConfigError("\n".join(f"{line}: choose another `output_dir`, or the same value" for line in differences))
    return Start(found, None if checkpoint is None else str(checkpoint))


def is_named(resume: str) -> bool:
    """Whether `resume` is the path of a checkpoint."""
    return resume not in ("auto", "never")


def has_ended(folder: OutputFolder) -> bool:
    """Whether the folder holds the results of a run, with or without its checkpoints."""
    return folder.run_yaml.exists() and folder.results.exists()


def _from_named(config: RunConfig) -> Start:
    origin = _origin(config)
    config = origin.with_findings(config)
    for line in origin.differences(config):
        logger.warning("%s: the run will not go on exactly as it would have", line)
    return Start(config, config.resume, begins_at_named=True)


def _origin(config: RunConfig) -> OutputFolder:
    """The folder of the run that wrote the named checkpoint."""
    return OutputFolder(Path(config.resume).resolve().parent.parent)


def begin_at_named(config: RunConfig, folder: OutputFolder) -> None:
    """Bring the folder to where the named checkpoint is: with the validations before, and the best student if it is
    still there. A training of this folder that went on from there is given up."""
    named, origin = Path(config.resume).resolve(), _origin(config)
    if folder.path.resolve() == origin.path:
        for path in (folder.last_checkpoint, folder.previous_checkpoint):
            if path.resolve() != named:
                HashedCheckpointIO(folder).remove_checkpoint(path)
    elif origin.run_yaml.exists():
        step = int(read_checkpoint(named)["global_step"])
        lines = origin.read_metrics()
        before = [line for line in lines if line["step"] <= step]
        write_jsonl(folder.metrics, before)
        if origin.best.is_dir() and best_step(before) == best_step(lines):

            def fill(place: Path) -> None:
                shutil.copytree(origin.best, place, dirs_exist_ok=True)

            write_folder(folder.best, fill)


def check_fits(config: RunConfig, module: LightningModule) -> None:
    """Raise ConfigError if the named checkpoint is not one of this student, trained in this way."""
    content = read_checkpoint(Path(config.resume))
    weights, saved = (_shapes(state) for state in (module.state_dict(), content["state_dict"]))
    different = sorted(name for name in weights.keys() | saved.keys() if weights.get(name) != saved.get(name))
    if different:
        name = different[0]
        raise ConfigError(
            f"`resume` {config.resume} holds another student: {name} is {saved.get(name, 'missing')} there and "
            f"{weights.get(name, 'missing')} here: choose the options of its run for the student"
        )
    trained = sum(parameter.requires_grad for parameter in module.parameters())
    groups = (content.get("optimizer_states") or [{}])[0].get("param_groups", [])
    before = sum(len(group["params"]) for group in groups)
    if groups and before != trained:
        raise ConfigError(
            f"`resume` {config.resume} trained {before} weight tensors, this run trains {trained}: freeze the same "
            "parts as its run (`student.freeze_encoder`, `student.freeze_embeds`)"
        )


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items() if hasattr(tensor, "shape")}
