"""Turn an encoder-decoder teacher into a small, fast student, and show what was kept and what was gained.

The public names are imported when they are first used, so that `import seq2seq_distill` costs no torch.
"""

import warnings
from importlib import import_module
from importlib.metadata import version
from typing import Any

_HOMES = {
    "RunConfig": "config",
    "validate": "config",
    "StudentConfig": "config",
    "EncodeConfig": "config",
    "NoiseConfig": "config",
    "BatchConfig": "config",
    "LossConfig": "config",
    "ScheduleConfig": "config",
    "FeatureLossConfig": "config",
    "TaskConfig": "config",
    "EnsembleConfig": "config",
    "TeacherSourceConfig": "config",
    "CacheConfig": "config",
    "TrimConfig": "config",
    "OptimConfig": "config",
    "EvalConfig": "config",
    "TrainerConfig": "config",
    "UserError": "utils.errors",
    "ConfigError": "utils.errors",
    "DataError": "utils.errors",
    "ModelError": "utils.errors",
    "create_student": "shrink.student",
    "trim_vocabulary": "shrink.trimming",
    "ParallelTexts": "shrink.trimming",
    "TrimmedModel": "shrink.trimming",
    "load_teacher": "models.teacher",
    "load_decoder": "decoding.text_generator",
    "load_tokenizer": "data.tokenization.tokenizers",
    "cross_entropy": "losses.logits",
    "kl_divergence": "losses.logits",
    "divergence": "losses.divergences",
    "hidden_mse": "losses.hidden",
    "blend": "losses.blend",
    "Term": "losses.logits",
    "Feature": "models.hooks",
    "ForwardPass": "modules.forward_pass",
    "ModelOutputs": "modules.adaptor",
    "distillation_loss": "modules.adaptor",
    "Extensions": "modules.extensions",
    "CustomLoss": "modules.extensions",
    "SummarizationModule": "modules.summarization",
    "TranslationModule": "modules.translation",
    "SummarizationDistiller": "modules.distillers",
    "TranslationDistiller": "modules.distillers",
    "DistillationTrainer": "training.distillation_trainer",
    "run_config": "training.run",
    "build": "training.build",
    "trainer_options": "training.trainer",
}

_RENAMED = {"OwnParts": "Extensions", "OwnTerm": "CustomLoss", "MatchConfig": "FeatureLossConfig"}
"""Names of version 0.1; they go with 0.3."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("seq2seq-distill")
    if name in _RENAMED:
        warnings.warn(
            f"seq2seq_distill.{name} is now {_RENAMED[name]}; the old name will be removed in 0.3",
            FutureWarning,
            stacklevel=2,
        )
        name = _RENAMED[name]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
