"""`distill export`: a model in a form that is fast to serve, after it was shown to give the same outputs."""

import json
import logging
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from seq2seq_distill import demo
from seq2seq_distill.data.encode import default_prefix
from seq2seq_distill.data.sources import has_split, load_split
from seq2seq_distill.data.tokenizers import forced_bos_token_id, load_tokenizer
from seq2seq_distill.engines import CTranslate2Engine, Engine, TransformersEngine
from seq2seq_distill.errors import ConfigError, DataError, ModelError
from seq2seq_distill.export.parity import Parity, compare
from seq2seq_distill.export.specification import specification
from seq2seq_distill.generation import GenerationSettings, generation_config, text_of
from seq2seq_distill.measure import parameters
from seq2seq_distill.metrics import score
from seq2seq_distill.models import families
from seq2seq_distill.models.student import load_student
from seq2seq_distill.optional import optional
from seq2seq_distill.run.outdir import check_free, write_folder
from seq2seq_distill.tool_config import ExportConfig
from seq2seq_distill.tool_data import encode_sources, run_of

logger = logging.getLogger(__name__)

ONNX = (
    "--format onnx cannot work here: optimum needs transformers 4. In an environment of its own, with optimum-onnx "
    "installed, `optimum-cli export onnx --model {model} {output_dir}` does it; choose ctranslate2 otherwise"
)


def export_model(config: ExportConfig) -> dict[str, Any]:
    """Convert, compare outputs with those of transformers, and save; returns what export.json holds.

    Raises:
        UserError: in one line; of an export whose outputs differ nothing is left.
    """
    if config.format == "onnx":
        raise ConfigError(ONNX.format(model=config.model, output_dir=config.output_dir))
    flag = f"--format {config.format}"
    optional("ctranslate2", flag)
    config, target = with_run(config), check_free(config.folder)
    path = str(demo.resolve_teacher(config.model)) if demo.is_demo(config.model) else config.model
    model = load_student(path, torch.float32, flag="--model")
    tokenizer = load_tokenizer(path, config.src_lang, config.tgt_lang, flag="--model")
    rows = _rows(config, model, tokenizer)
    settings = GenerationSettings(
        max_length=config.max_target_length,
        forced_bos_token_id=forced_bos_token_id(tokenizer, config.tgt_lang, model.generation_config),
    )
    found = _gate(config, flag, model, tokenizer, settings, rows["ids"])
    own = generation_config(model, replace(settings, beams=config.beams))
    scores = {}
    if config.quantization != "float32" and config.task:  # before the converter rounds the model's own weights
        original = TransformersEngine(model, own, int(tokenizer.pad_token_id))
        scores["transformers"] = _scored(config, original, tokenizer, rows)
    write_folder(target, lambda folder: _save(folder, config, flag, model, tokenizer, own))
    report = {
        "model": config.model,
        "format": config.format,
        "ctranslate2": optional("ctranslate2", flag).__version__,
        "quantization": config.quantization,
        "beams": config.beams,
        "parameters": parameters(model),
        "prefix": default_prefix(model.config, str(config.task), config.prefix, (config.src_lang, config.tgt_lang)),
        "max_positions": families.max_positions(model.config),
        "parity_in_float32": {name: asdict(parity) for name, parity in found.items()},
    }
    if scores:
        report["scores"] = {**scores, "exported": _scored(config, CTranslate2Engine(target, own), tokenizer, rows)}
    (target / "export.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report))
    logger.info("exported %s to %s", config.model, config.folder)
    return report


def with_run(config: ExportConfig) -> ExportConfig:
    """The config; of a run's model, with the run's task, data and languages where it says nothing."""
    run = run_of(config.model)
    config = replace(
        config,
        task=config.task or run.get("task"),
        data=config.data or run.get("data") or [],
        src_lang=config.src_lang or run.get("src_lang"),
        tgt_lang=config.tgt_lang or run.get("tgt_lang"),
    )
    if not config.data:
        raise ConfigError("--data is missing: name the source of real texts on which outputs are compared")
    return config


def _rows(config: ExportConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Any]]:
    """Token ids of the sources, and the references."""
    source = str((config.data or [""])[0])
    source = str(demo.resolve_data(source)) if demo.is_demo(source) else source
    split = next((name for name in ("val", "test", "train") if has_split(source, name)), "val")
    texts = load_split(source, split, src_lang=config.src_lang, tgt_lang=config.tgt_lang, limit=config.n)
    if not len(texts):
        raise DataError(f"{source}: no texts to compare outputs on: name another --data")
    languages = (config.src_lang, config.tgt_lang)
    prefix = default_prefix(model.config, str(config.task), config.prefix, languages)
    longest = min(filter(None, (config.max_source_length, families.max_positions(model.config)[0])))
    ids = encode_sources(tokenizer, texts["source"], prefix, longest)
    return {"ids": ids, "references": list(texts["target"])}


def _gate(
    config: ExportConfig,
    flag: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: GenerationSettings,
    sources: list[list[int]],
) -> dict[str, Parity]:
    """Greedy and beam outputs in float32 beside those of transformers. Raises ModelError where too many differ."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        whole = replace(config, quantization="float32")
        for name, beams in (("greedy", 1), ("beams", max(2, config.beams))):
            own = generation_config(model, replace(settings, beams=beams))
            folder = Path(place) / name
            folder.mkdir()
            _save(folder, whole, flag, model, tokenizer, own)
            engines = TransformersEngine(model, own, int(tokenizer.pad_token_id)), CTranslate2Engine(folder, own)
            found[name] = compare(*engines, sources, own.max_length)
            logger.info(
                "%s: %.1f%% of %d outputs equal those of transformers, scores differ by at most %.1g",
                name,
                100 * found[name].equal,
                found[name].sources,
                found[name].score_gap,
            )
    for name, parity in found.items():
        if not parity.passes:
            raise ModelError(
                f"{flag}: {parity.equal:.0%} of the outputs ({name}) equal those of --model {config.model}, rows "
                f"{list(parity.unequal_rows[:5])} do not: nothing was written; serve it with transformers"
            )
    return found


def _save(
    folder: Path,
    config: ExportConfig,
    flag: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Any,
) -> None:
    """The converted model, and beside it the tokenizer and the generation settings, which it does not hold."""
    spec = specification(model, tokenizer, flag)
    spec.validate()
    spec.optimize(quantization=config.quantization)
    spec.save(str(folder))
    tokenizer.save_pretrained(folder)
    settings.save_pretrained(folder)


def _scored(
    config: ExportConfig, engine: Engine, tokenizer: PreTrainedTokenizerBase, rows: dict[str, list[Any]]
) -> dict[str, float]:
    texts = [text_of(tokenizer, own[0].ids) for own in engine.decode(rows["ids"])]
    return score(str(config.task), texts, rows["references"], config.tgt_lang)
