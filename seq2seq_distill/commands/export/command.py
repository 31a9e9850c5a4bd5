"""`distill export`: a model in a form that is fast to serve, after it was shown to give the same outputs."""

import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from seq2seq_distill import demo, metrics
from seq2seq_distill.commands.evaluate.scores import corpus_scores
from seq2seq_distill.commands.export.formats import FORMATS, NOT_IN_BROWSERS, Format
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.export.page import SERVE, write_page
from seq2seq_distill.commands.export.shortlist import (
    MAX_TEXTS,
    RESAMPLES,
    SEED,
    add_shortlist,
    labels_of_run,
    training_pairs,
)
from seq2seq_distill.commands.inputs import with_run_defaults
from seq2seq_distill.config.run_record import model_of_run, read_run_record
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import has_split, load_split
from seq2seq_distill.decoding.conversion import check_family, not_held, unknown_to_engines
from seq2seq_distill.decoding.decoder import Decoder, TransformersDecoder
from seq2seq_distill.decoding.exported import open_exported
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import LoadedModel, export_record, load_model
from seq2seq_distill.decoding.parity import check_parity
from seq2seq_distill.decoding.shortlist.vmap import check_settings, first_tokens
from seq2seq_distill.metrics.cost import count_parameters
from seq2seq_distill.models import architectures
from seq2seq_distill.training.output_folder import check_free
from seq2seq_distill.utils.errors import ConfigError, ModelError, format_value
from seq2seq_distill.utils.files import write_folder, write_json
from seq2seq_distill.utils.optional import optional
from seq2seq_distill.utils.terminal import program

logger = logging.getLogger(__name__)

SPLITS_BY_USE = ("val", "test", "train")
"""Where texts are taken from, the best first."""
MAX_SOURCES = 1_000_000
"""Sources on which a tokenizer.json is compared, at most."""


def export_model(config: ExportConfig) -> dict[str, Any]:
    """Convert, compare outputs with those of transformers, and save; returns what export.json holds.

    Raises:
        UserError: in one line; nothing is written if the outputs differ.
    """
    form, wanted_by = FORMATS[config.format], f"`format` {config.format}"
    has_data = bool(config.data)
    config = _with_defaults(config, form, wanted_by)
    pair_sources = config.data if has_data else [*labels_of_run(config.model), *config.data]
    target, texts = check_free(config.folder), _texts(config)
    settings = GenerationSettings.of_command(config)
    loaded = load_model(config.model, "model", config, settings)
    missing = _check_model(config, form, loaded, wanted_by)
    first = first_tokens(loaded.torch_model, loaded.tokenizer) if config.shortlist else []
    beams = max(2, loaded.generation.num_beams or 1)
    searches = {
        name: generation_config(loaded.torch_model, replace(settings, beams=count))
        for name, count in (("greedy", 1), ("beams", beams))
    }
    sample = texts.select(range(min(config.n, len(texts))))
    remedy = "nothing was written; serve it with transformers"
    encoded = loaded.encode(sample["source"])
    parities = check_parity(loaded, searches, encoded, form.convert(wanted_by, first), wanted_by, remedy)
    report: dict[str, Any] = {}

    def fill(folder: Path) -> None:
        sources = islice(_sources(config), MAX_SOURCES)
        saved = form.save(folder, loaded, config.precision, sources, wanted_by, first)
        if config.shortlist:
            pairs = training_pairs(pair_sources, _columns(config))
            saved["shortlist"] = add_shortlist(folder, config, pairs, loaded, first, texts)
        if config.page:
            write_page(folder, config, loaded)

        report.update(_record(config, loaded), **saved, settings_not_held=missing)
        report["parity_in_float32"] = {name: asdict(parity) for name, parity in parities.items()}
        if config.precision != "float32" and config.task:
            report.update(_scores(config, loaded, open_exported(folder, loaded), sample))
        write_json(folder / "export.json", report)

    write_folder(target, fill)
    print(json.dumps(report))
    logger.info("exported %s to %s", config.model, config.folder)
    folder = shlex.quote(str(config.folder))
    logger.info("use it: %s generate --model %s", program(), folder)
    if config.page:
        logger.info("or in a browser, at http://127.0.0.1:8000: cd %s && %s", folder, SERVE)
    return report


def _with_defaults(config: ExportConfig, form: Format, wanted_by: str) -> ExportConfig:
    """The config with what the model's run or export says, once it is clear that the format is there."""
    config = replace(config, model=model_of_run(config.model))
    if unknown := unknown_to_engines(config.generate):
        raise ConfigError(f"{wanted_by} has no {', '.join(unknown)} of `generate`: leave it out")
    for package in form.packages:
        optional(package, wanted_by)
    record = export_record(config.model) or read_run_record(config.model)
    config = with_run_defaults(config, record, "name the source of real texts on which outputs are compared")
    if config.shortlist and config.task is None:
        raise ConfigError("`task` is missing: `shortlist` needs it to know the score that must not be lost")
    return config


def _check_model(config: ExportConfig, form: Format, loaded: LoadedModel, wanted_by: str) -> dict[str, Any]:
    """The generation settings of the model that the format does not hold.

    Raises:
        ModelError: it cannot hold the model.
        ConfigError: the settings do not go together with a shortlist.
    """
    kind = loaded.torch_model.config.model_type
    check_family(kind, form.families, wanted_by)
    if config.page and kind in NOT_IN_BROWSERS:
        raise ModelError(f"`page`: transformers.js has no class for {kind} models: leave it out")
    if config.shortlist:
        check_settings(loaded.generation, "`shortlist`", "leave `shortlist` out")
    missing = not_held(loaded.generation)
    if missing:
        logger.warning(
            "%s has no %s, which the model's generation settings ask for: the export decodes without",
            form.title,
            ", ".join(f"{name} {format_value(value, 40)}" for name, value in missing.items()),
        )
    return missing


def _record(config: ExportConfig, loaded: LoadedModel) -> dict[str, Any]:
    """What export.json says of the model, whatever its format; other commands take their defaults from it."""
    model = loaded.torch_model
    return {
        "model": config.model,
        "task": config.task,
        "data": config.data,
        "src_lang": config.src_lang,
        "tgt_lang": config.tgt_lang,
        "prefix": loaded.prefix,
        "max_source_length": loaded.max_length,
        "max_target_length": loaded.generation.max_length - 1,
        "format": config.format,
        "quantization": config.precision,
        "beams": loaded.generation.num_beams or 1,
        "parameters": count_parameters(model),
        "max_positions": architectures.max_positions(model.config),
    }


def _texts(config: ExportConfig) -> Dataset:
    """Texts of the best split that a source has, to compare outputs on: val of the data before train of a label set."""
    sources = [demo.data_source(name) for name in config.data]
    found = ((source, split) for split in SPLITS_BY_USE for source in sources if has_split(source, split))
    source, split = next(found, (sources[0], "val"))
    limit = MAX_TEXTS if config.shortlist else config.n
    return load_split(source, split, _columns(config), limit=max(limit, config.n))


def _sources(config: ExportConfig) -> Iterator[str]:
    """The sources of all data, split by split."""
    for data in map(demo.data_source, config.data):
        for split in SPLITS_BY_USE:
            if has_split(data, split):
                yield from load_split(data, split, _columns(config))["source"]


def _columns(config: ExportConfig) -> Columns:
    return Columns(config.source_column, config.target_column, config.src_lang, config.tgt_lang, group="")


def _scores(config: ExportConfig, loaded: LoadedModel, exported: Decoder, texts: Dataset) -> dict[str, Any]:
    """The scores of both, and the 95% interval of the task's main score."""
    decoders: dict[str, Decoder] = {"transformers": TransformersDecoder(loaded), "exported": exported}
    task = str(config.task)
    outputs = {name: _outputs(decoder, texts) for name, decoder in decoders.items()}
    references, language = texts["target"], config.tgt_lang
    rouge = metrics.rouge_tokenizer_for(references)
    scores = {
        name: metrics.score(task, own, references, language, rouge_tokenizer=rouge) for name, own in outputs.items()
    }
    main = TASKS[task].main
    intervals = corpus_scores(task, outputs, references, language, rouge, RESAMPLES, SEED)[main]
    return {
        "scores": scores,
        "intervals": {main: {name: asdict(interval) for name, interval in intervals.items()}},
    }


def _outputs(decoder: Decoder, texts: Dataset) -> list[str]:
    hypotheses = decoder.decode(decoder.encode(texts["source"]), with_scores=False)
    return [best.text for best, *_ in hypotheses]
