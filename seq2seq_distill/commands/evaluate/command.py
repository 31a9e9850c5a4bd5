"""`distill evaluate`: compare models on one data set by scores, cost and the form of their outputs."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from datasets import Dataset

from seq2seq_distill.commands.evaluate.candidates import decode_all, open_model, read_outputs
from seq2seq_distill.commands.evaluate.card import add_evaluation
from seq2seq_distill.commands.evaluate.comparison import Candidate, compare, describe_evaluation
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.evaluate.report import render_html
from seq2seq_distill.commands.evaluate.stress import stress_scores
from seq2seq_distill.commands.evaluate.tables import markdown, print_tables
from seq2seq_distill.commands.inputs import load_rows, with_run_defaults
from seq2seq_distill.config import validate
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.distributed import destroy_process_group, init_process_group
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.files import writable_file, write_json, write_jsonl, write_text

logger = logging.getLogger(__name__)

DECODING_TIMEOUT = timedelta(hours=6)
"""How long a process waits for the slowest one to decode its share."""


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate the models, write results.json, results.md and outputs.jsonl, and show the tables.

    Under torchrun the processes share the decoding; the first one does the rest. Returns the content of
    results.json; on the other processes nothing.

    Raises:
        UserError: in one line.
    """
    config = with_decoding_of_run(config)
    rank, world = init_process_group(DECODING_TIMEOUT)
    folder = _output_folder(config)
    html = None if config.html is None else writable_file(config.html, "html")  # an error comes before the decoding
    rows = _rows(config)
    has_references = "target" in rows.column_names
    whole = len(rows)
    rows = rows.select(range(min(config.n or whole, whole)))
    opened = [_opened(config, name, model, whole, len(rows)) for name, model in _named(config)]
    if config.stress and not any(candidate.opened for candidate in opened):
        raise ConfigError(f"`stress` {' '.join(config.stress)} needs a model, but all `models` are files: name one")
    candidates = [_decoded(config, candidate, rows, rank, world) for candidate in opened]
    description = describe_evaluation(config, rows, world)
    if not has_references:
        rows = rows.add_column("target", candidates[0].texts)

    def decode(candidate: Candidate, sources: list[str]) -> list[str]:
        assert candidate.opened is not None
        outputs = decode_all(candidate.opened.decoder, sources, config.batch_size, rank, world)
        return [output.text for output in outputs]

    stress = stress_scores(config, candidates, rows, decode) if config.stress else None
    destroy_process_group()
    if rank > 0:
        return {}
    agreement = None if has_references else candidates[0].name
    results = {**description, **compare(config, candidates, rows, agreement), "stress": stress}
    texts = {candidate.name: candidate.texts for candidate in candidates}
    _write(folder, results, texts, rows)
    for candidate in candidates:
        if has_references and Path(candidate.model).name == "best" and read_run_record(candidate.model):
            add_evaluation(Path(candidate.model).expanduser(), results, candidate.name)
    if html is not None:
        write_text(html, render_html(results, texts, rows))
    print_tables(results)
    for path in filter(None, (folder / "results.json", html)):
        logger.info("wrote %s", path)
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


def _rows(config: EvaluateConfig) -> Dataset:
    """All rows of the split; without references, where the data has none."""
    languages = (config.src_lang, config.tgt_lang)
    columns = Columns(config.source_column, config.target_column, *languages, group="", optional_target=True)
    rows = load_rows(config.data, config.split, columns)
    if "target" not in rows.column_names and len(config.models) < 2:
        raise ConfigError(
            f"`data` {' '.join(config.data)} has no references: add a model to `models`, to be compared with the "
            "outputs of the first, or give other data"
        )
    return rows


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


def _opened(config: EvaluateConfig, name: str, model: str, whole: int, wanted: int) -> Candidate:
    """A model ready to decode, or the outputs of a file; an error comes before hours of decoding."""
    opened = open_model(config, model)
    return Candidate(name, model, opened, [] if opened else read_outputs(model, whole, wanted), None)


def _decoded(config: EvaluateConfig, candidate: Candidate, rows: Dataset, rank: int, world: int) -> Candidate:
    if candidate.opened is None:
        return candidate
    outputs = decode_all(candidate.opened.decoder, rows["source"][:], config.batch_size, rank, world)
    if rank == 0:
        logger.info("%s: decoded %d examples", candidate.name, len(outputs))
    return replace(candidate, texts=[output.text for output in outputs], outputs=outputs)


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
