"""`distill evaluate`: models beside each other on one data set, in scores, cost and behaviour."""

import logging
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from seq2seq_distill import metrics
from seq2seq_distill.commands.evaluate.candidates import OpenModel, decode_all, device_of, open_model, read_outputs
from seq2seq_distill.commands.evaluate.card import add_evaluation
from seq2seq_distill.commands.evaluate.comet import comet_scores
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.evaluate.report import render_html
from seq2seq_distill.commands.evaluate.scores import corpus_scores, mean_scores
from seq2seq_distill.commands.evaluate.speed import measure_speed, peak_memory
from seq2seq_distill.commands.evaluate.tables import markdown, print_tables
from seq2seq_distill.commands.inputs import load_rows, with_run_defaults
from seq2seq_distill.config import validate
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.metrics.degeneration import count_faults, output_statistics
from seq2seq_distill.training.output_folder import OutputFolder, versions
from seq2seq_distill.utils.distributed import destroy_process_group, init_process_group
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import write_json, write_jsonl, write_text

logger = logging.getLogger(__name__)

TRIED = 8
"""Examples decoded one at a time to count the memory of tensors."""


DECODING_TIMEOUT = timedelta(hours=6)
"""How long a process waits for the slowest one to decode its share."""


@dataclass(frozen=True)
class Candidate:
    """A model that is judged, with its outputs as soon as there are any."""

    name: str
    model: str
    """As it was given to `--models`."""
    opened: OpenModel | None
    """None of a file of outputs."""
    texts: list[str]
    outputs: list[Hypothesis] | None


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Judge the models, write results.json, results.md and outputs.jsonl, and show the tables.

    Under torchrun the processes share the decoding; the first one does the rest. Returns what results.json holds, on
    the other processes nothing.

    Raises:
        UserError: in one line.
    """
    config = with_decoding_of_run(config)
    rank, world = init_process_group(DECODING_TIMEOUT)
    folder, html = _output_folder(config), _page(config)
    columns = Columns(config.source_column, config.target_column, config.src_lang, config.tgt_lang)
    rows = load_rows(config.data, config.split, columns)
    whole = len(rows)
    rows = rows.select(range(min(config.n or whole, whole)))
    opened = [_opened(config, name, model, whole, len(rows)) for name, model in _named(config)]
    candidates = [_decoded(config, candidate, rows, rank, world) for candidate in opened]
    destroy_process_group()
    if rank > 0:
        return {}
    results = {**_about(config, rows, world), **_evaluate(config, candidates, rows)}
    texts = {candidate.name: candidate.texts for candidate in candidates}
    _write(folder, results, texts, rows)
    for candidate in candidates:
        if Path(candidate.model).name == "best" and read_run_record(candidate.model):
            add_evaluation(Path(candidate.model).expanduser(), results, candidate.name)
    if html is not None:
        write_text(html, render_html(results, texts, rows))
    print_tables(results)
    logger.info("wrote %s", folder / "results.json")
    return results


def with_decoding_of_run(config: EvaluateConfig) -> EvaluateConfig:
    """The config with what it leaves out filled in from the run of the first model that is of one.

    Unlike a command about a single model, all models decode as that run does, its teacher too.
    """
    record = next(filter(None, map(read_run_record, config.models)), {})
    config = with_run_defaults(config, record, "name the source of the examples")
    decode = record.get("eval") or {}
    config = replace(
        config,
        beams=config.beams or decode.get("beams"),
        length_penalty=decode.get("length_penalty") if config.length_penalty is None else config.length_penalty,
        generate=config.generate or decode.get("generate") or {},
        max_source_length=config.source_limit,
        max_target_length=config.target_limit,
    )
    if config.task is None:
        raise ConfigError("`task` is missing: choose summarization or translation")
    validate(config)
    return config


def _named(config: EvaluateConfig) -> list[tuple[str, str]]:
    """Each model with its name, after the run, folder or file; a number tells equal ones apart."""
    if config.names:
        return list(zip(config.names, config.models, strict=True))
    seen: Counter[str] = Counter()
    named = []
    for model in config.models:
        path = Path(model).expanduser()
        name = path.resolve().parent.name if path.name == "best" else path.stem if path.is_file() else path.name
        seen[name] += 1
        named.append((name if seen[name] == 1 else f"{name} ({seen[name]})", model))
    return named


def _output_folder(config: EvaluateConfig) -> Path:
    folder = OutputFolder(config.folder)
    if folder.run_yaml.exists():
        raise ConfigError(f"`output_dir` {config.output_dir} holds a run, whose results.json it is: choose another")
    folder.create()
    return folder.path


def _page(config: EvaluateConfig) -> Path | None:
    """Where `--html` is written, if anywhere; told before hours of decoding when that cannot be."""
    if config.html is None:
        return None
    path = Path(config.html).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"`html` {config.html}: {error.strerror}; choose a file that can be written") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"`html` {config.html} cannot be written: choose a file, in a folder that can be written")
    return path


def _opened(config: EvaluateConfig, name: str, model: str, whole: int, wanted: int) -> Candidate:
    """A model ready to decode, or the outputs of a file: told before hours of decoding when it cannot be read."""
    opened = open_model(config, model)
    return Candidate(name, model, opened, [] if opened else read_outputs(model, whole, wanted), None)


def _decoded(config: EvaluateConfig, candidate: Candidate, rows: Dataset, rank: int, world: int) -> Candidate:
    if candidate.opened is None:
        return candidate
    outputs = decode_all(candidate.opened.decoder, rows["source"][:], config.batch_size, rank, world)
    if rank == 0:
        logger.info("%s: decoded %d examples", candidate.name, len(outputs))
    return replace(candidate, texts=[output.text for output in outputs], outputs=outputs)


def _about(config: EvaluateConfig, rows: Dataset, world: int) -> dict[str, Any]:
    """What was judged, and how."""
    given = asdict(config)
    settings = (
        *("generate", "max_source_length", "max_target_length", "batch_size"),
        *("n_speed", "resamples", "seed", "dtype"),
    )
    device = device_of(config.device)
    return {
        "task": config.task,
        "data": config.data,
        "split": config.split,
        "examples": len(rows),
        "data_fingerprint": fingerprint(rows),
        "src_lang": config.src_lang,
        "tgt_lang": config.tgt_lang,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU",
        "processes": world,
        "settings": {name: given[name] for name in settings},
        "versions": versions(),
    }


def _evaluate(config: EvaluateConfig, candidates: Sequence[Candidate], rows: Dataset) -> dict[str, Any]:
    task, sources, references = str(config.task), rows["source"][:], rows["target"][:]
    texts = {candidate.name: candidate.texts for candidate in candidates}
    scores = corpus_scores(task, texts, references, config.tgt_lang, config.resamples, config.seed)
    how = (
        metrics.bleu_signature(config.tgt_lang)
        if task == "translation"
        else {"ROUGE": metrics.signature(task, config.tgt_lang)}
    )
    if config.comet:
        found = comet_scores(
            str(config.comet_python),
            config.comet,
            sources,
            list(texts.values()),
            references,
            config.batch_size,
            device_of(config.device).type == "cuda",
        )
        scores["COMET"] = mean_scores(dict(zip(texts, found, strict=True)), config.resamples, config.seed)
        how["COMET"] = f"{config.comet}, times 100"
    costs = _costs(config, candidates, sources)
    usual = count_faults(references, sources, references)
    return {
        "metrics": list(scores),
        "signatures": how,
        "references": {"gen_len": None, "length_ratio": 1.0, "faults": asdict(usual)},
        "models": [
            {
                "name": candidate.name,
                "model": candidate.model,
                "scores": {metric: asdict(own[candidate.name]) for metric, own in scores.items()},
                **_behaviour(candidate, sources, references),
                **costs[candidate.name],
            }
            for candidate in candidates
        ],
    }


def _behaviour(candidate: Candidate, sources: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    outputs = candidate.outputs
    cut = None if outputs is None else sum(output.at_limit for output in outputs) / len(outputs)
    return {
        "gen_len": None if outputs is None else sum(output.num_tokens for output in outputs) / len(outputs),
        "length_ratio": output_statistics(candidate.texts, references).length_ratio,
        "faults": {**asdict(count_faults(candidate.texts, sources, references)), "cut": cut},
    }


def _costs(config: EvaluateConfig, candidates: Sequence[Candidate], sources: Sequence[str]) -> dict[str, Any]:
    """By name: size, memory and speed; null of files, and of what was not to be measured."""
    models = {own.name: own.opened for own in candidates if own.opened is not None}
    speed = measure_speed(models, sources, config) if models and config.n_speed else {}
    costs = {}
    for own in candidates:
        measured = own.name in speed
        costs[own.name] = {
            "engine": own.opened.decoder.name if own.opened else "outputs",
            "threads": own.opened.decoder.resources if own.opened else None,
            **{name: getattr(own.opened, name, None) for name in ("parameters", "bytes", "beams")},
            "tensor_memory": own.opened.tensor_memory(sources[:TRIED]) if measured and own.opened else None,
            "peak_memory": peak_memory(config, own.model, sources[: config.batch_size]) if measured else None,
            "speed": asdict(speed[own.name]) if measured else None,
        }
    return costs


def _write(folder: Path, results: Mapping[str, Any], texts: Mapping[str, Sequence[str]], rows: Dataset) -> None:
    records = (
        {"row": row, "source": source, "reference": reference, "outputs": dict(zip(texts, outputs, strict=True))}
        for row, (source, reference, *outputs) in enumerate(
            zip(rows["source"], rows["target"], *texts.values(), strict=True)
        )
    )
    write_jsonl(folder / "outputs.jsonl", records)
    write_text(folder / "results.md", "\n".join(markdown(results)) + "\n")
    write_json(folder / "results.json", results)
