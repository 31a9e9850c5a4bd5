"""The test at the end of a run: the best student and its teacher on the test split of a task."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytorch_lightning import Trainer
from transformers import PreTrainedModel

from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.metrics.corpus import bleu_language, score, signature
from seq2seq_distill.metrics.cost import count_parameters, measure_decoding, model_bytes, speedup
from seq2seq_distill.modules.datamodule import Seq2SeqData
from seq2seq_distill.modules.evaluation import Generations
from seq2seq_distill.modules.summarization import SummarizationModule
from seq2seq_distill.training.build import MODULES
from seq2seq_distill.training.components import TaskComponents, WholeTeacher, teacher_of
from seq2seq_distill.training.results import build_results, with_whole_teacher

logger = logging.getLogger(__name__)


def test_task(
    task: TaskComponents, student: PreTrainedModel, trainer: Trainer, whole: WholeTeacher | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Decode, score and time student and teacher, and the teacher with its whole vocabulary if the run trimmed it.

    Without a teacher, the outputs of the one that labelled the test split stand for it: their score against references,
    where the label set has any; else the student's score is its agreement with them.

    Returns the content of results.json for the task, and the lines of test_generations.jsonl; both are empty except on
    process 0.
    """
    config, kind = task.config, str(task.config.task)
    models, views = {"student": student}, {"student": task.student_view}
    # The one in memory may be of lower precision, or released by a run with a teacher cache.
    teacher = task.teacher if config.trainer.teacher_precision == "32" else None
    teacher = teacher or teacher_of(config, task.teacher_view.tokenizer)
    if teacher is not None:
        models["teacher"], views["teacher"] = teacher.model, task.teacher_view
    if whole is not None:
        models["whole_teacher"], views["whole_teacher"] = whole.teacher.model, whole.view
    scores, outputs = {}, {}
    with replace(task, teacher=teacher).generating_as_for_task(student):
        for name, model in models.items():
            module = MODULES[kind](model, views[name].tokenizer, config, 0)
            module.role = " of ".join(filter(None, [name.replace("_", " "), task.name]))
            scores[name], outputs[name] = _test_model(module, trainer, views[name].data)
        if not trainer.is_global_zero:
            return {}, []
        data = {name: view.data for name, view in views.items()}
        costs, speed = _measure_models(models, data, GenerationSettings.of_run(config), config.eval.n_speed)
    sides = {name: {**scores[name], **costs[name]} for name in models}
    texts, references = {name: outputs[name].texts for name in models}, data["student"].references("test")
    scored_by = signature(kind, bleu_language(config.tgt_lang, references), config.eval.rouge_tokenizer)
    written = None if "teacher" in models else data["student"].teacher_targets("test")
    if written == references:
        scored_by += "; against the targets of the label set, which its teacher wrote"
    elif written is not None:
        texts["teacher"] = written
        sides["teacher"] = score(kind, written, references, config.tgt_lang, config.eval.rouge_tokenizer)
    columns = zip(references, *texts.values(), strict=True)
    names, place = ("reference", *texts), {"task": task.name} if task.name else {}
    records = [{**place, "row": row, **dict(zip(names, line, strict=True))} for row, line in enumerate(columns)]
    results = build_results(kind, sides["student"], sides.get("teacher"), speed, scored_by)
    return with_whole_teacher(results, sides.get("whole_teacher")), records


def _test_model(
    module: SummarizationModule, trainer: Trainer, data: EncodedSplits
) -> tuple[dict[str, float], Generations]:
    """Decode the test split with a module's model: scores with gen_len, and the outputs."""
    if trainer.is_global_zero:
        logger.info("testing the %s on %d examples", module.role, len(data.encoded["test"]))
    metrics = trainer.test(module, datamodule=Seq2SeqData(data), verbose=False)[0]
    scores = {name.removeprefix("test_"): value for name, value in metrics.items()}
    assert module.generations is not None
    return scores, module.generations


def _measure_models(
    models: Mapping[str, PreTrainedModel], data: Mapping[str, EncodedSplits], settings: GenerationSettings, n: int
) -> tuple[dict[str, dict[str, Any]], float | None]:
    """Parameters, bytes and, on the first `n` test inputs one at a time, decoding speed; and student over teacher.

    `data` has the same rows for each model, as it reads them.
    """
    figures: dict[str, dict[str, Any]] = {
        name: {
            "parameters": count_parameters(model),
            "bytes": model_bytes(model),
            "latency_ms": None,
            "ms_per_token": None,
        }
        for name, model in models.items()
    }
    rows = range(min(n, len(data["student"].encoded["test"])))
    if not rows:
        return figures, None
    logger.info("timing %s on %d examples", " and ".join(models).replace("_", " "), len(rows))
    inputs = {name: [own.collated("test", [row]) for row in rows] for name, own in data.items()}
    timed = measure_decoding(models, inputs, settings)
    for name, decoding in timed.items():
        figures[name] |= {"latency_ms": decoding.latency_ms, "ms_per_token": decoding.ms_per_token}
    return figures, speedup(timed["teacher"], timed["student"]) if "teacher" in timed else None
