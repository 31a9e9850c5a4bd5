"""A whole run: config in; student, scores and comparison with the teacher out. The parts meet here."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar, Timer
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.config import RunConfig, StudentConfig, TrainerConfig
from seq2seq_distill.data.datamodule import Seq2SeqData, Texts, load_texts
from seq2seq_distill.data.encode import Collator, default_prefix, task_params
from seq2seq_distill.data.tokenizers import decoder_start_token_id, forced_bos_token_id, load_tokenizer, train_tokenizer
from seq2seq_distill.errors import ConfigError, ModelError
from seq2seq_distill.generation import settle
from seq2seq_distill.metrics import monitor_mode
from seq2seq_distill.models import families
from seq2seq_distill.models.layer_map import check_depth
from seq2seq_distill.models.student import create_student, fresh_student, load_student, same_tokenizer
from seq2seq_distill.models.teacher import Teacher, load_teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller, TranslationDistiller
from seq2seq_distill.modules.summarization import SummarizationModule, freeze_parts, generation_settings
from seq2seq_distill.modules.translation import TranslationModule
from seq2seq_distill.run.callbacks import BestStudent, EndWithValidation, Figures, SeedByBatch
from seq2seq_distill.run.card import model_card
from seq2seq_distill.run.outdir import OutputFolder, provenance, save_model, write_json, write_jsonl
from seq2seq_distill.run.results import combine, measured, print_table, signature, test_model

logger = logging.getLogger(__name__)

MODULES: dict[str, type[SummarizationModule]] = {
    "summarization": SummarizationModule,
    "translation": TranslationModule,
}
DISTILLERS: dict[str, type[SummarizationDistiller]] = {
    "summarization": SummarizationDistiller,
    "translation": TranslationDistiller,
}


@dataclass(frozen=True)
class Parts:
    """What a run is put together from."""

    tokenizer: PreTrainedTokenizerBase
    teacher: Teacher | None
    student: PreTrainedModel
    data: Seq2SeqData
    fingerprint: str


def run_config(config: RunConfig, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train as the config says, test the best student and the teacher, and return what results.json holds.

    Args:
        config: the whole config.
        callbacks: further Lightning callbacks.

    Raises:
        UserError: a `ConfigError`, `DataError` or `ModelError` whose one line (or lines) names flag, value and remedy.
    """
    config.check()
    folder = OutputFolder(config.folder)
    checkpoint = _where_to_start(config, folder)
    if config.resume == "auto" and checkpoint and folder.results.exists():
        return _show_again(config, folder)
    seed_everything(config.seed, workers=True, verbose=False)
    parts = build_parts(config)
    module = _module(config, parts)
    _tell(config, parts, module)
    trainer = build_trainer(config, parts.data, folder, callbacks)
    _write_start(config, parts, folder, afresh=checkpoint is None)
    if checkpoint is None:
        trainer.validate(module, datamodule=parts.data, verbose=False)  # the untrained student is step 0
    trainer.fit(module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
    return _judge(config, parts, trainer, folder)


def build_parts(config: RunConfig) -> Parts:
    """Load or make everything that does not depend on processes: texts, tokenizer, teacher, student, encoded data."""
    sources = [str(demo.resolve_data(name)) if demo.is_demo(name) else name for name in config.data or ()]
    texts = load_texts(config, sources)
    teacher_path = config.teacher
    if teacher_path is not None and demo.is_demo(teacher_path):
        teacher_path = str(demo.resolve_teacher(teacher_path))
    tokenizer = _tokenizer(config, teacher_path, texts)
    teacher = load_teacher(teacher_path, dtype=torch.float32) if teacher_path else None
    student = _student(config, teacher, tokenizer)
    _freeze(config, student, teacher)
    model = teacher.model if teacher else student
    languages = (config.src_lang, config.tgt_lang)
    for each in {model, student}:
        settings = replace(
            generation_settings(config),
            forced_bos_token_id=forced_bos_token_id(tokenizer, config.tgt_lang, each.generation_config),
        )
        params = task_params(each.config, str(config.task), languages)
        settle(each, settings, params, decoder_start_token_id(tokenizer, config.tgt_lang))
    positions = [families.max_positions(m.config) for m in (model, student)]
    data = Seq2SeqData(
        config,
        texts,
        tokenizer,
        Collator(_pad_id(tokenizer, model), families.extra_inputs(student.config)),
        prefix=default_prefix(model.config, str(config.task), config.encode.prefix, languages),
        max_positions=(_smallest(p[0] for p in positions), _smallest(p[1] for p in positions)),
    )
    return Parts(tokenizer, teacher, student, data, texts.fingerprint)


def build_trainer(
    config: RunConfig, data: Seq2SeqData, folder: OutputFolder, callbacks: Sequence[Callback] = ()
) -> Trainer:
    """Lightning's Trainer for one epoch that is the whole run: data epochs live in the plan of batches."""
    options, accumulate = config.trainer, config.trainer.accumulate_grad_batches
    interval = data.plan.steps_between_validations
    try:
        return Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision or _default_precision(options.accelerator),  # type: ignore[arg-type]
            max_epochs=1,
            max_steps=data.plan.total_steps,
            val_check_interval=interval * accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            accumulate_grad_batches=accumulate,
            gradient_clip_val=options.gradient_clip_val,
            log_every_n_steps=options.log_every_n_steps,
            deterministic=options.deterministic,
            enable_progress_bar=options.enable_progress_bar,
            enable_model_summary=False,
            logger=[_logger(name, folder) for name in config.logger],
            callbacks=[*_callbacks(config, data, folder), *callbacks],
            default_root_dir=folder.path,
            **options.extra,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{_options_named(options, message)}: refused by Lightning: {message}") from None


def _options_named(options: TrainerConfig, message: str) -> str:
    """The Trainer options that Lightning's message is about, as flags."""
    defaults = asdict(TrainerConfig())
    given = {name: value for name, value in asdict(options).items() if value != defaults[name]}
    given |= {f"extra.{name}": value for name, value in given.pop("extra", {}).items()}
    about = [
        f"--trainer.{name} {value}"
        for name, value in given.items()
        if name.removeprefix("extra.") in message.lower() or (isinstance(value, str) and value in message)
    ]
    return " ".join(about) or "--trainer"


def _callbacks(config: RunConfig, data: Seq2SeqData, folder: OutputFolder) -> list[Callback]:
    monitor, mode = f"val_{config.monitor}", monitor_mode(config.monitor)
    callbacks: list[Callback] = [
        SeedByBatch(config.seed),
        EndWithValidation(),
        Figures(data.plan),
        BestStudent(folder, data.plan, config.monitor),
        ModelCheckpoint(
            folder.checkpoints,
            filename="step={step}-" + monitor + "={" + monitor + ":.4f}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode=mode,
            save_top_k=config.eval.save_top_k,
        ),
        ModelCheckpoint(
            folder.checkpoints,
            filename="last",
            monitor=None,
            # After the validation, so that it knows the best student and the best checkpoints so far.
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        ),
    ]
    if config.eval.patience is not None:
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=config.eval.patience))
    if config.trainer.max_time is not None:
        callbacks.append(Timer(config.trainer.max_time))
    if config.trainer.enable_progress_bar:
        callbacks.append(RichProgressBar())
    return callbacks


def _where_to_start(config: RunConfig, folder: OutputFolder) -> str | None:
    """The checkpoint to go on from, if any."""
    if config.resume not in ("auto", "never"):
        if not Path(config.resume).is_file():
            raise ConfigError(f"--resume {config.resume}: no such checkpoint; choose a file, or auto, or never")
        return config.resume
    if config.resume == "never" and folder.run_yaml.exists():
        raise ConfigError(
            f"--resume never, but --output_dir {folder.path} holds a run: choose another folder, or --resume auto"
        )
    if not folder.last_checkpoint.exists():
        return None
    differences = folder.differences(config)
    if differences:
        raise ConfigError("\n".join(f"{line}: choose another --output_dir, or the same value" for line in differences))
    return str(folder.last_checkpoint)


def _tokenizer(config: RunConfig, teacher: str | None, texts: Texts) -> PreTrainedTokenizerBase:
    student = config.student
    if teacher:
        return load_tokenizer(teacher, config.src_lang, config.tgt_lang)
    if student.path:
        return load_tokenizer(student.path, config.src_lang, config.tgt_lang, flag="--student.path")
    if student.vocab_size:
        lines = (text for column in ("source", "target") for text in texts.splits["train"][column])
        return train_tokenizer(lines, student.vocab_size)
    return load_tokenizer(str(student.config), config.src_lang, config.tgt_lang, flag="--student.config")


def _student(config: RunConfig, teacher: Teacher | None, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    wish = config.student
    if wish.path:
        student = load_student(wish.path)
        if teacher is not None:
            same_tokenizer(
                tokenizer, load_tokenizer(wish.path, config.src_lang, config.tgt_lang, flag="--student.path")
            )
        return student
    if wish.config:
        return fresh_student(wish.config, len(tokenizer), tokenizer)
    assert teacher is not None  # RunConfig.check
    return cut_student(wish, teacher.model)


def cut_student(wish: StudentConfig, teacher: PreTrainedModel) -> PreTrainedModel:
    """The student that is cut from the teacher's layers."""
    for side, depth in zip(("encoder", "decoder"), families.depths(teacher.config), strict=True):
        wanted = getattr(wish, f"{side}_layers")
        if wanted is not None:
            check_depth(depth, wanted, f"--student.{side}_layers")
    named = ("dropout", "attention_dropout", "encoder_layerdrop", "decoder_layerdrop")
    overrides = {name: getattr(wish, name) for name in named if getattr(wish, name) is not None}
    return create_student(
        teacher,
        wish.encoder_layers,
        wish.decoder_layers,
        encoder_layer_ids=wish.encoder_layer_ids,
        decoder_layer_ids=wish.decoder_layer_ids,
        choice=wish.choice,
        overrides={**overrides, **wish.overrides},
    )


def _freeze(config: RunConfig, student: PreTrainedModel, teacher: Teacher | None) -> None:
    """As asked; by default an encoder that is the teacher's, unchanged, is frozen together with the embeddings."""
    wish = config.student
    whole = False
    if teacher is not None and not (wish.path or wish.config):
        every_layer = range(families.depths(teacher.model.config)[0])
        whole = list(student.config.distilled_encoder_layers) == list(every_layer)
    encoder = whole if wish.freeze_encoder is None else wish.freeze_encoder
    embeddings = encoder if wish.freeze_embeds is None else wish.freeze_embeds
    freeze_parts(student, encoder=encoder, embeddings=embeddings)


def _module(config: RunConfig, parts: Parts) -> SummarizationModule:
    task, steps = str(config.task), parts.data.plan.total_steps
    if parts.teacher is not None and config.method == "kd":
        return DISTILLERS[task](parts.student, parts.teacher, parts.tokenizer, config, steps)
    return MODULES[task](parts.student, parts.tokenizer, config, steps)


@rank_zero_only
def _tell(config: RunConfig, parts: Parts, module: SummarizationModule) -> None:
    encoder, decoder = families.depths(parts.student.config)
    copied = [getattr(parts.student.config, f"distilled_{side}_layers", None) for side in ("encoder", "decoder")]
    trained = sum(p.numel() for p in parts.student.parameters() if p.requires_grad)
    cut = parts.data.truncation()
    rows = {split: len(encoded) for split, encoded in parts.data.encoded.items()}
    logger.info("data: %d training, %d validation, %d test examples", rows["train"], rows["val"], rows["test"])
    logger.info("cut: %.1f%% of training sources, %.1f%% of targets", 100 * cut["source"], 100 * cut["target"])
    logger.info("student: %d encoder and %d decoder layers, copied from %s and %s", encoder, decoder, *copied)
    logger.info(
        "%s of %s parameters are trained", f"{trained:,}", f"{sum(p.numel() for p in parts.student.parameters()):,}"
    )
    if getattr(module, "shares_encoder", False):
        logger.info("the frozen encoder equals the teacher's: one pass serves both")
    logger.info("%d optimiser steps, into %s", parts.data.plan.total_steps, config.folder)


@rank_zero_only
def _write_start(config: RunConfig, parts: Parts, folder: OutputFolder, *, afresh: bool) -> None:
    folder.create()
    folder.results.unlink(missing_ok=True)  # until the run has ended again
    folder.write_run(replace(config, output_dir=str(folder.path)), provenance(parts.fingerprint))
    if afresh or not folder.student_init.exists():
        save_model(folder.student_init, parts.student, parts.tokenizer, model_card(config))


@rank_zero_only
def _print(results: Mapping[str, Any], config: RunConfig) -> None:
    print_table(results, signature(str(config.task), config.tgt_lang))


def _show_again(config: RunConfig, folder: OutputFolder) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(folder.results.read_text("utf-8"))
    logger.info("the run in %s has ended; these are its results", folder.path)
    _print(results, config)
    return results


def _judge(config: RunConfig, parts: Parts, trainer: Trainer, folder: OutputFolder) -> dict[str, Any]:
    """Test the best student and the teacher, write and show what came out."""
    task = str(config.task)
    models = {"student": AutoModelForSeq2SeqLM.from_pretrained(folder.best, dtype=torch.float32)}
    if parts.teacher is not None:
        models["teacher"] = parts.teacher.model
    scores, outputs = {}, {}
    for name, model in models.items():
        module = MODULES[task](model, parts.tokenizer, config, 0)
        scores[name], outputs[name] = test_model(module, trainer, parts.data)
    results: dict[str, Any] = {}
    if trainer.is_global_zero:
        figures, speed = measured(models, parts.data, generation_settings(config), config.eval.n_speed)
        sides = {name: {**scores[name], **figures[name]} for name in models}
        results = combine(task, sides["student"], sides.get("teacher"), speed)
        texts = [outputs[name].texts for name in models]
        columns = zip(parts.data.references("test"), *texts, strict=True)
        names = ("reference", *models)
        records = ({"row": row, **dict(zip(names, line, strict=True))} for row, line in enumerate(columns))
        write_jsonl(folder.test_generations, records)
        save_model(folder.best, models["student"], parts.tokenizer, model_card(config, results))
        write_json(folder.results, results)  # the last: it says that the run has ended
        _print(results, config)
    trainer.strategy.barrier()
    return results


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
                return MLFlowLogger(tracking_uri=f"file:{folder.logs}")
    except ModuleNotFoundError:
        raise ConfigError(f"--logger {name} is not installed: pip install 'seq2seq_distill[{name}]'") from None


def _default_precision(accelerator: str) -> str:
    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _pad_id(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else model.config.pad_token_id
    if pad is None:
        raise ModelError("the tokenizer has no pad token: set pad_token_id in the model's config")
    return int(pad)


def _smallest(limits: Any) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None
