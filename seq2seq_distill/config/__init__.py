"""The options: frozen dataclasses that are the command line, and what is wrong with them. Nothing here needs torch."""

from seq2seq_distill.config.cache_command import CacheCommandConfig
from seq2seq_distill.config.data import BatchConfig, EncodeConfig, TaskConfig
from seq2seq_distill.config.label_options import LabelOptions
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.losses import (
    DivergenceName,
    FeatureLossConfig,
    LossConfig,
    ResolvedLossConfig,
    ScheduleConfig,
    WeightSchedule,
)
from seq2seq_distill.config.noise import NoiseConfig
from seq2seq_distill.config.run import RunConfig
from seq2seq_distill.config.runner import RunnerOptions
from seq2seq_distill.config.student import StudentConfig
from seq2seq_distill.config.teachers import CacheConfig, EnsembleConfig, TeacherSourceConfig
from seq2seq_distill.config.training import EvalConfig, OptimConfig, TrainerConfig
from seq2seq_distill.config.trimming import TrimConfig
from seq2seq_distill.config.validation import find_problems, validate

__all__ = [
    "BatchConfig",
    "CacheCommandConfig",
    "CacheConfig",
    "DivergenceName",
    "EncodeConfig",
    "EnsembleConfig",
    "EvalConfig",
    "FeatureLossConfig",
    "LabelConfig",
    "LabelOptions",
    "LossConfig",
    "NoiseConfig",
    "OptimConfig",
    "ResolvedLossConfig",
    "RunConfig",
    "RunnerOptions",
    "ScheduleConfig",
    "StudentConfig",
    "TaskConfig",
    "TeacherSourceConfig",
    "TrainerConfig",
    "TrimConfig",
    "WeightSchedule",
    "find_problems",
    "validate",
]
