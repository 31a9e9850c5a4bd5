"""The test at the end of a run: the best student and its teacher on the test split of a task."""

from dataclasses import replace
from typing import Any

from pytorch_lightning import Trainer
from transformers import PreTrainedModel

from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.metrics.corpus import bleu_language, score, signature
from seq2seq_distill.training.build import MODULES
from seq2seq_distill.training.components import TaskComponents, WholeTeacher, teacher_of
from seq2seq_distill.training.results import build_results, measure_models, test_model, with_whole_teacher


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
            scores[name], outputs[name] = test_model(module, trainer, views[name].data)
        if not trainer.is_global_zero:
            return {}, []
        data = {name: view.data for name, view in views.items()}
        costs, speed = measure_models(models, data, GenerationSettings.of_run(config), config.eval.n_speed)
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
