"""Turn an encoder-decoder teacher into a small, fast student, and show what was kept and what was gained.

The public names are imported when they are first used, so that `import seq2seq_distill` costs no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "RunConfig": "config",
    "StudentConfig": "config",
    "EncodeConfig": "config",
    "BatchConfig": "config",
    "LossConfig": "config",
    "ScheduleConfig": "config",
    "MatchConfig": "config",
    "TaskConfig": "config",
    "EnsembleConfig": "config",
    "TeacherSourceConfig": "config",
    "CacheConfig": "config",
    "OptimConfig": "config",
    "EvalConfig": "config",
    "TrainerConfig": "config",
    "UserError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "ModelError": "errors",
    "create_student": "models.student",
    "load_teacher": "models.teacher",
    "load_tokenizer": "data.tokenizers",
    "cross_entropy": "losses.logits",
    "kl_divergence": "losses.logits",
    "divergence": "losses.divergences",
    "hidden_mse": "losses.hidden",
    "blend": "losses.blend",
    "Term": "losses.logits",
    "Feature": "models.hooks",
    "ForwardPass": "modules.passes",
    "ModelOutputs": "modules.adaptor",
    "distillation_loss": "modules.adaptor",
    "OwnParts": "modules.own_parts",
    "OwnTerm": "modules.own_parts",
    "SummarizationModule": "modules.summarization",
    "TranslationModule": "modules.translation",
    "SummarizationDistiller": "modules.distillers",
    "TranslationDistiller": "modules.distillers",
    "DistillationTrainer": "distillation_trainer",
    "run_config": "run.train",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
