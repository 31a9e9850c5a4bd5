"""From a config to what a Trainer fits: the module, its teachers ready beside it, and the data."""

import logging

import numpy as np
from pytorch_lightning import seed_everything
from pytorch_lightning.utilities import rank_zero_only
from transformers import PreTrainedModel

from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.models import architectures
from seq2seq_distill.models.freezing import encoder_and_embedding_parameters
from seq2seq_distill.modules.datamodule import Seq2SeqData
from seq2seq_distill.modules.distillers import SummarizationDistiller, TranslationDistiller
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.modules.optim import warmup_steps
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.modules.tasks import Task
from seq2seq_distill.modules.translation import TranslationModule
from seq2seq_distill.training.caching import with_cache
from seq2seq_distill.training.components import RunComponents, build_components
from seq2seq_distill.training.preflight import preflight
from seq2seq_distill.training.teacher_losses import with_losses_of_teacher
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)

MANY_UNKNOWN = 0.01
"""Share of unknown tokens above which they are warned of."""

MODULES: dict[str, type[SummarizationModule]] = {
    "summarization": SummarizationModule,
    "translation": TranslationModule,
}
DISTILLERS: dict[str, type[SummarizationDistiller]] = {
    "summarization": SummarizationDistiller,
    "translation": TranslationDistiller,
}


def build(config: RunConfig, extensions: Extensions | None = None) -> tuple[SummarizationModule, Seq2SeqData]:
    """The module and the data of a run, for `Trainer(**trainer_options(config)).fit(module, datamodule)`.

    Weights, order of the data and random numbers are those of `run_config`, and so are the final weights. What is not
    here: the output folder, checkpoints to resume from, the untrained student's validation, the final test, early
    stopping, and what `on_nonfinite` says. Nothing is timed: `targets` auto is reference. The random generators of
    Python, NumPy and torch are seeded.

    Args:
        config: the run's; what it says of the Trainer is in `trainer_options(config)`.
        extensions: custom losses and a change of batches.

    Raises:
        UserError: a `ConfigError`, `DataError` or `ModelError`, with a line for each mistake.

    Examples:
        >>> from seq2seq_distill import EncodeConfig, EvalConfig, RunConfig, StudentConfig, TrainerConfig, build
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
        >>> module, datamodule = build(config)
        >>> module.total_steps
        2
    """
    validate(config)
    extensions = extensions or Extensions()
    check_extensions(config, extensions)
    seed_everything(config.seed, workers=True, verbose=False)
    components = build_components(config)
    preflight(components, config)
    components, module = build_module(with_losses_of_teacher(config, components), components, extensions)
    return module, Seq2SeqData(components.data)


def check_extensions(config: RunConfig, extensions: Extensions) -> None:
    """Raise ConfigError for what does not go together with the config."""
    if extensions.batch_processor is not None and config.teacher_cache:
        raise ConfigError(
            f"`teacher_cache` {config.teacher_cache} holds teacher outputs for the original batches, which "
            "batch_processor would change: leave out one of the two"
        )


def build_module(
    config: RunConfig, components: RunComponents, extensions: Extensions
) -> tuple[RunComponents, SummarizationModule]:
    """The module of a run whose models and data are known to fit each other; with a teacher cache, the teacher is
    released."""
    if config.teacher_cache:
        components = with_cache(config, components)
    module = make_module(config, components, extensions)
    _log_summary(config, components, module)
    for teacher in components.teachers:
        teacher.cast_weights(config.trainer.teacher_precision)
    return components, module


def make_module(
    config: RunConfig, components: RunComponents, extensions: Extensions | None = None
) -> SummarizationModule:
    """The module that trains these components: with a teacher or its cached outputs, and `method` kd, a distiller."""
    kind, student, tokenizer = config.kinds[0], components.student, components.tokenizer
    total_steps, data = components.data.plan.total_steps, components.data
    tasks = [
        Task(
            str(task.config.task),
            task.config.tgt_lang,
            task.student_generation,
            task.teacher,
            task.config.eval.rouge_tokenizer,
            task.name,
        )
        for task in components.tasks
    ]
    if config.method == "sft" or not (components.teachers or config.teacher_cache):
        return MODULES[kind](student, tokenizer, config, total_steps, extensions, tasks)
    return DISTILLERS[kind](
        student,
        components.teacher,
        tokenizer,
        config,
        total_steps,
        extensions,
        tasks,
        extra_teachers=components.extra_teachers,
        separate_teacher_inputs=data.teachers is not None,
    )


@rank_zero_only
def _log_summary(config: RunConfig, components: RunComponents, module: SummarizationModule) -> None:
    encoder, decoder = architectures.depths(components.student.config)
    total = sum(p.numel() for p in components.student.parameters())
    trained = sum(p.numel() for p in components.student.parameters() if p.requires_grad)
    cut = components.data.truncation()
    rows = {split: len(encoded) for split, encoded in components.data.encoded.items()}
    logger.info("data: %d training, %d validation, %d test examples", rows["train"], rows["val"], rows["test"])
    for task in components.tasks:
        if task.name:
            logger.info("task %s: %d training examples", task.name, len(task.student_view.data.encoded["train"]))
    logger.info("cut: %.1f%% of training sources, %.1f%% of targets", 100 * cut["source"], 100 * cut["target"])
    for side, unknown in components.data.unknown().items():
        lost = f", most often {' '.join(unknown.characters)}" if unknown.characters else ""
        level = logging.WARNING if unknown.share > MANY_UNKNOWN else logging.INFO
        logger.log(
            level, "unknown to the tokenizer: %.2f%% of the tokens of training %ss%s", 100 * unknown.share, side, lost
        )
    logger.info("student: %d encoder and %d decoder layers, %s", encoder, decoder, _origin(config, components.student))
    for name, (size, whole) in getattr(components.student.config, "distilled_widths", {}).items():
        logger.info("student: %s %d of the teacher's %d", name, size, whole)
    learns = any(p.requires_grad for p in encoder_and_embedding_parameters(module.student))
    frozen = "" if learns else "; encoder and embeddings are frozen"
    logger.info("%s of %s parameters are trained%s", f"{trained:,}", f"{total:,}", frozen)
    if config.noise.is_on:
        _log_noise(config, components)
    if isinstance(module, SummarizationDistiller) and module.shares_encoder:
        logger.info("the frozen encoder equals the teacher's: one pass serves both")
    steps = components.data.plan.total_steps
    logger.info("%d optimiser steps, into %s", steps, config.folder)
    if (warmup := warmup_steps(config.optim, steps)) >= steps:
        logger.warning(
            "--optim.warmup_steps %d: the run ends after %d steps, before the learning rate reaches --optim.lr %g",
            *(warmup, steps, config.optim.lr),
        )


def _origin(config: RunConfig, student: PreTrainedModel) -> str:
    """Where the student's weights come from."""
    if config.student.path:
        return f"from {config.student.path}"
    if config.student.config:
        return "fresh weights"
    encoder, decoder = student.config.distilled_encoder_layers, student.config.distilled_decoder_layers
    return f"copied from the teacher's {encoder} and {decoder}"


def _log_noise(config: RunConfig, components: RunComponents) -> None:
    known = np.mean([form.data.column("distilled").to_numpy().mean() for form in components.data.forms])
    logger.info(
        "noise: %d noisy forms of each training example; %.1f%% of their targets are changed too, and have no teacher",
        len(components.data.forms),
        100 * (1 - known),
    )
    if config.student.freeze_encoder is None:
        logger.info("noise: the encoder is trained (--student.freeze_encoder true keeps it as it is)")
