"""`distill export`: a model in a form that is fast to serve, after it was shown to give the same outputs."""

import json
import logging
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from datasets import Dataset

from seq2seq_distill import demo, metrics
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.inputs import with_run_defaults
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import has_split, load_split
from seq2seq_distill.decoding.conversion import not_held, save_converted, unknown_to_ctranslate2
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import Decoder, TransformersDecoder
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import export_record, load_model
from seq2seq_distill.decoding.parity import check_parity
from seq2seq_distill.metrics.cost import count_parameters
from seq2seq_distill.models import architectures
from seq2seq_distill.training.output_folder import check_free
from seq2seq_distill.utils.errors import ConfigError, format_value
from seq2seq_distill.utils.files import write_folder
from seq2seq_distill.utils.optional import optional

logger = logging.getLogger(__name__)

ONNX = (
    "`format` onnx is not available here, since optimum needs transformers 4: install optimum-onnx in a separate "
    "environment and run `optimum-cli export onnx --model {model} {output_dir}` there, or choose ctranslate2"
)


def export_model(config: ExportConfig) -> dict[str, Any]:
    """Convert, compare outputs with those of transformers, and save; returns what export.json holds.

    Raises:
        UserError: in one line; nothing is written if the outputs differ.
    """
    if config.format == "onnx":
        raise ConfigError(ONNX.format(model=config.model, output_dir=config.output_dir))
    wanted_by = f"`format` {config.format}"
    optional("ctranslate2", wanted_by)
    if unknown := unknown_to_ctranslate2(config.generate):
        raise ConfigError(f"{wanted_by} has no {', '.join(unknown)} of `generate`: leave it out")
    record = export_record(config.model) or read_run_record(config.model)
    config = with_run_defaults(config, record, "name the source of real texts on which outputs are compared")
    target = check_free(config.folder)
    texts = _texts(config)
    settings = GenerationSettings.of_command(config)
    loaded = load_model(config.model, "model", config, settings)
    model, num_beams = loaded.torch_model, loaded.generation.num_beams or 1
    searches = {
        name: generation_config(model, replace(settings, beams=beams))
        for name, beams in (("greedy", 1), ("beams", max(2, num_beams)))
    }
    missing = not_held(loaded.generation)
    if missing:
        logger.warning(
            "CTranslate2 has no %s, which the model's generation settings ask for: the export decodes without",
            ", ".join(f"{name} {format_value(value, 40)}" for name, value in missing.items()),
        )
    remedy = "nothing was written; serve it with transformers"
    parities = check_parity(loaded, searches, loaded.encode(texts["source"]), wanted_by, remedy)
    save = partial(
        save_converted,
        model=model,
        tokenizer=loaded.tokenizer,
        settings=loaded.generation,
        quantization=config.quantization,
        wanted_by=wanted_by,
    )
    write_folder(target, save)
    report = {
        "model": config.model,
        "task": config.task,
        "data": config.data,
        "src_lang": config.src_lang,
        "tgt_lang": config.tgt_lang,
        "prefix": loaded.prefix,
        "max_source_length": loaded.max_length,
        "format": config.format,
        "ctranslate2": optional("ctranslate2", wanted_by).__version__,
        "quantization": config.quantization,
        "beams": num_beams,
        "settings_not_held": missing,
        "parameters": count_parameters(model),
        "max_positions": architectures.max_positions(model.config),
        "parity_in_float32": {name: asdict(parity) for name, parity in parities.items()},
    }
    if config.quantization != "float32" and config.task:
        decoders: dict[str, Decoder] = {
            "transformers": TransformersDecoder(loaded),
            "exported": CTranslate2Decoder(target, loaded),
        }
        report["scores"] = {name: _scored(config, decoder, texts) for name, decoder in decoders.items()}
    (target / "export.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report))
    logger.info("exported %s to %s", config.model, config.folder)
    return report


def _texts(config: ExportConfig) -> Dataset:
    """Texts to compare outputs on, of the first split that there is."""
    source = demo.data_source(config.data[0])
    split = next((name for name in ("val", "test", "train") if has_split(source, name)), "val")
    columns = Columns(config.source_column, config.target_column, config.src_lang, config.tgt_lang, group="")
    return load_split(source, split, columns, limit=config.n)


def _scored(config: ExportConfig, decoder: Decoder, texts: Dataset) -> dict[str, float]:
    hypotheses = decoder.decode(decoder.encode(texts["source"]), with_scores=False)
    outputs = [best.text for best, *_ in hypotheses]
    return metrics.score(str(config.task), outputs, texts["target"], config.tgt_lang)
