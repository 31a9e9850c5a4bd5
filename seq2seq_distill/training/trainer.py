"""Lightning's Trainer for a run, with its callbacks and loggers."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lightning_fabric.plugins.environments import SLURMEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from seq2seq_distill.config import RunConfig, TrainerConfig
from seq2seq_distill.config.tasks import monitor_mode
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.modules.extensions import OnSaved
from seq2seq_distill.modules.planned_training import PlannedTraining, SeedByBatch
from seq2seq_distill.modules.weight_average import weight_average
from seq2seq_distill.training.callbacks import BestStudent, ProgressReporter, ThroughputLogger
from seq2seq_distill.training.checkpoints import BestCheckpoints, HashedCheckpointIO, ResumeCheckpoint
from seq2seq_distill.training.device import precision_of
from seq2seq_distill.training.failures import NonFiniteGuard
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.training.signals import SignalHandler
from seq2seq_distill.training.strategies import end_with_main, strategy_options
from seq2seq_distill.utils.errors import ConfigError, RunError, UserError


def build_trainer(
    config: RunConfig,
    data: EncodedSplits,
    folder: OutputFolder,
    signals: SignalHandler,
    callbacks: Sequence[Callback] = (),
    on_student_saved: OnSaved | None = None,
) -> Trainer:
    """Lightning's Trainer for one epoch that is the whole run: data epochs live in the plan of batches."""
    trainer = _trainer(
        config,
        # `PlannedTraining` says the same, but not before the untrained student is validated.
        val_check_interval=data.plan.steps_between_validations * config.trainer.accumulate_grad_batches,
        check_val_every_n_epoch=None,
        logger=[_logger(name, folder) for name in config.logger],
        callbacks=[*_callbacks(config, data, folder, signals, on_student_saved), *callbacks],
        plugins=_plugins(folder),
        default_root_dir=folder.path,
        enable_progress_bar=False,  # Lightning's; ours is a callback
    )
    end_with_main(trainer)
    return trainer


def check_trainer(config: RunConfig) -> int:
    """Raise ConfigError for what Lightning refuses, and for a machine without what was asked for, before anything is
    loaded; returns the number of processes that will train."""
    trainer = _trainer(config, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return trainer.world_size


def trainer_options(config: RunConfig) -> dict[str, Any]:
    """Keyword arguments of `pytorch_lightning.Trainer` with which it carries out a run's plan, and nothing else.

    Loggers, callbacks and folders can be added; what would break the plan is refused before the first step. The
    interval of validations is the config's, whatever the Trainer says.

    Examples:
        >>> from seq2seq_distill import RunConfig, TrainerConfig, trainer_options
        >>> config = RunConfig(task="translation", trainer=TrainerConfig(devices=2, accelerator="cpu"))
        >>> options = trainer_options(config)
        >>> options["devices"], options["gradient_clip_val"]
        (2, 1.0)
    """
    options = config.trainer
    return {
        "accelerator": options.accelerator,
        "devices": options.devices,
        "num_nodes": options.num_nodes,
        **strategy_options(options.strategy),
        "precision": precision_of(options),
        "gradient_clip_val": options.gradient_clip_val,
        "accumulate_grad_batches": options.accumulate_grad_batches,
        "deterministic": options.deterministic,
        # One epoch of the Trainer is the whole run. Not by max_steps: with it, a run that was killed before its last
        # validation would not come to it again.
        "max_epochs": 1,
        "max_time": options.max_time,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": options.log_every_n_steps,
        "enable_progress_bar": options.enable_progress_bar,
        "enable_model_summary": False,
        **options.extra,
    }


def _trainer(config: RunConfig, **parts: Any) -> Trainer:
    """A Trainer with the run's options, and the parts that are not options."""
    options = config.trainer
    try:
        return Trainer(**{**trainer_options(config), **parts})
    except (UserError, RunError, OSError):
        raise
    except Exception as error:  # of many types: what is missing, what does not fit, what the machine does not have
        message = " ".join(str(error).split())
        raise ConfigError(f"{_options_named(options, message)}: refused by Lightning: {message}") from None


def _plugins(folder: OutputFolder) -> list[Any]:
    plugins: list[Any] = [HashedCheckpointIO(folder)]
    if SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # it would save inside a step; `SignalHandler` requeues
    return plugins


def _callbacks(
    config: RunConfig,
    data: EncodedSplits,
    folder: OutputFolder,
    signals: SignalHandler,
    on_student_saved: OnSaved | None,
) -> list[Callback]:
    monitor, mode = f"val_{config.monitor}", monitor_mode(config.monitor)
    best = BestStudent(folder, data.plan, config.monitor, on_student_saved)
    callbacks: list[Callback] = [
        SeedByBatch(config.seed),
        PlannedTraining(config.trainer),
        ThroughputLogger(data.plan),
        best,
        *weight_average(config.optim),  # behind the best student, which is written with the averages
        NonFiniteGuard(config.on_nonfinite, data.plan, folder),
        BestCheckpoints(
            folder.checkpoints,
            filename="step={step}-" + monitor + "={" + monitor + ":.4f}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_top_k=config.eval.save_top_k,
            enable_version_counter=False,  # a resumed run writes what it wrote before
        ),
        # The last, so that its checkpoint knows what the validation changed in all others.
        ResumeCheckpoint(
            folder, data.plan, signals, config.trainer.save_every_n_steps, config.trainer.save_every_minutes
        ),
    ]
    if config.eval.patience is not None:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=config.eval.patience))
    if config.trainer.enable_progress_bar:
        callbacks.append(ProgressReporter(data.plan, best))
    return callbacks


def _options_named(options: TrainerConfig, message: str) -> str:
    """The Trainer options that Lightning's message is about, which it names nowhere else."""
    defaults = asdict(TrainerConfig())
    given = {name: value for name, value in asdict(options).items() if value != defaults[name]}
    given |= {f"extra.{name}": value for name, value in given.pop("extra", {}).items()}
    about = [
        f"`trainer.{name}` {value}"
        for name, value in given.items()
        if name.removeprefix("extra.") in message.lower() or (isinstance(value, str) and value in message)
    ]
    return " ".join(about) or " ".join(f"`trainer.{name}` {value}" for name, value in given.items()) or "trainer"


def _logger(name: str, folder: OutputFolder) -> Logger:
    try:
        match name:
            case "tensorboard":
                return TensorBoardLogger(folder.path, name="logs", version="")
            case "csv":
                return CSVLogger(folder.path, name="logs")  # a version for each start: it would delete the last one's
            case "wandb":
                return WandbLogger(save_dir=folder.logs)
            case _:
                # MLflow refuses to write files unless it is told that one means it.
                os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
                server = os.environ.get("MLFLOW_TRACKING_URI")
                return MLFlowLogger(tracking_uri=server or f"file:{folder.logs}")
    except Exception as error:  # of many types and libraries
        raise ConfigError(f"`logger` {name}: {' '.join(str(error).split())}") from None
