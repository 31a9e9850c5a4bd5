"""Models beside each other: scores with their significance, cost, and the form of their outputs."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from datasets import Dataset

from seq2seq_distill import metrics
from seq2seq_distill.commands.evaluate.candidates import OpenModel
from seq2seq_distill.commands.evaluate.comet import comet_scores
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.evaluate.scores import corpus_scores, mean_scores
from seq2seq_distill.commands.evaluate.speed import measure_speed, peak_memory
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.metrics.degeneration import count_faults, output_statistics
from seq2seq_distill.training.output_folder import versions
from seq2seq_distill.utils.distributed import device_of

MEMORY_EXAMPLES = 8
"""Examples decoded one at a time to count the memory of tensors."""
SETTINGS = (
    *("generate", "max_source_length", "max_target_length", "batch_size"),
    *("n_speed", "resamples", "seed", "dtype", "rouge_tokenizer"),
)
"""Options that results.json repeats."""


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate, with its outputs once there are any."""

    name: str
    model: str
    """As `models` names it."""
    opened: OpenModel | None
    """None for a file of outputs."""
    texts: list[str]
    outputs: list[Hypothesis] | None


def describe_evaluation(config: EvaluateConfig, rows: Dataset, world: int) -> dict[str, Any]:
    """The head of results.json: the data, the machine, and the settings."""
    options = asdict(config)
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
        "settings": {name: options[name] for name in SETTINGS},
        "versions": versions(),
    }


def compare(
    config: EvaluateConfig, candidates: Sequence[Candidate], rows: Dataset, agreement: str | None = None
) -> dict[str, Any]:
    """The body of results.json: the metrics, and what each model scores and costs.

    Args:
        config: of the evaluation.
        candidates: with their outputs.
        rows: sources and targets.
        agreement: the model whose outputs the targets are, where the data has none; it has no score then, and the
            others' differences from it no p-value.
    """
    task, sources, references = str(config.task), rows["source"][:], rows["target"][:]
    texts = {candidate.name: candidate.texts for candidate in candidates}
    if task == "translation":
        language = metrics.bleu_language(config.tgt_lang, references)
        signatures = metrics.bleu_signature(language)
    else:
        language = None
        metrics.warn_of_dropped_text(references, config.rouge_tokenizer)
        signatures = {"ROUGE": metrics.signature(task, None, config.rouge_tokenizer)}
    scores = corpus_scores(task, texts, references, language, config.rouge_tokenizer, config.resamples, config.seed)
    if config.comet:
        comet = comet_scores(
            str(config.comet_python),
            config.comet,
            sources,
            list(texts.values()),
            references,
            config.batch_size,
            device_of(config.device).type == "cuda",
        )
        scores["COMET"] = mean_scores(dict(zip(texts, comet, strict=True)), config.resamples, config.seed)
        signatures["COMET"] = f"{config.comet}, times 100"
    if agreement is not None:
        scores = {
            metric: {name: replace(score, p=None) for name, score in by_name.items() if name != agreement}
            for metric, by_name in scores.items()
        }
    costs = _costs(config, candidates, sources)
    reference_faults = count_faults(references, sources, references)
    return {
        "metrics": list(scores),
        "agreement": agreement,
        "signatures": signatures,
        "references": {"gen_len": None, "length_ratio": 1.0, "faults": asdict(reference_faults)},
        "models": [
            {
                "name": candidate.name,
                "model": candidate.model,
                "scores": {
                    metric: asdict(by_name[candidate.name])
                    for metric, by_name in scores.items()
                    if candidate.name in by_name
                },
                **_form(candidate, sources, references),
                **costs[candidate.name],
            }
            for candidate in candidates
        ],
    }


def _form(candidate: Candidate, sources: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Lengths of the outputs, and what is wrong with them in form."""
    outputs = candidate.outputs
    cut = None if outputs is None else sum(output.at_limit for output in outputs) / len(outputs)
    return {
        "gen_len": None if outputs is None else sum(output.num_tokens for output in outputs) / len(outputs),
        "length_ratio": output_statistics(candidate.texts, references).length_ratio,
        "faults": {**asdict(count_faults(candidate.texts, sources, references)), "cut": cut},
    }


def _costs(config: EvaluateConfig, candidates: Sequence[Candidate], sources: Sequence[str]) -> dict[str, Any]:
    """Size, memory and speed by name; null for files of outputs, and for what was not to be measured."""
    models = {candidate.name: candidate.opened for candidate in candidates if candidate.opened is not None}
    speed = measure_speed(models, sources, config) if models and config.n_speed else {}
    costs = {}
    for candidate in candidates:
        model, measured = candidate.opened, candidate.name in speed
        costs[candidate.name] = {
            "engine": model.decoder.name if model else "outputs",
            "threads": model.decoder.resources if model else None,
            **{name: getattr(model, name, None) for name in ("parameters", "bytes", "beams")},
            "tensor_memory": model.tensor_memory(sources[:MEMORY_EXAMPLES]) if measured and model else None,
            "peak_memory": peak_memory(config, candidate.model, sources[: config.batch_size]) if measured else None,
            "speed": asdict(speed[candidate.name]) if measured else None,
        }
    return costs
