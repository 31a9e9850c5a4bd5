"""Runs with several tasks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq_distill.commands.evaluate.command import evaluate, with_decoding_of_run
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.data.encoded_splits import concat_tasks
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.training.build import make_module
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError, ModelError, UserError
from tests.tiny_runs import config, save_teacher, write_data

STILL = {"student": {"dropout": 0.0, "attention_dropout": 0.0, "overrides": {"activation_dropout": 0.0}}}


def two_tasks(
    folder: Path, model_type: str = "marian", second: dict[str, Any] | None = None, **changes: Any
) -> RunConfig:
    """A run on two folders of data, of 24 and of 8 rows, the second with a teacher of its own."""
    config(folder, model_type)
    write_data(folder / "few", rows=8, seed=5)
    if not (folder / "second").exists():
        save_teacher(folder / "second", model_type, seed=3)
    tasks = [
        {"name": "first", "data": [str(folder / "data")]},
        {"name": "second", "data": [str(folder / "few")], "teacher": str(folder / "second"), **(second or {})},
    ]
    return config(folder, model_type, tasks=tasks, **{"output_dir": str(folder / "tasks"), **changes})


def test_a_batch_has_rows_of_one_task_as_that_task_alone_would_encode_them(tmp_path):
    run = two_tasks(tmp_path, second={"prefix": "Tier: "})
    parts = build_components(run)
    seen = set()
    for step in range(parts.data.plan.total_steps):
        batch = parts.data.training_batch(step)
        own, first = parts.tasks[batch["task"]].student_view.data, 24 * batch["task"]
        alone = own.collated("train", [row - first for row in batch["row"].tolist()])
        assert all(torch.equal(batch[name], alone[name]) for name in ("input_ids", "attention_mask", "labels"))
        seen.add(batch["task"])
    assert seen == {0, 1}
    plain = build_components(replace(run, tasks=[replace(run.tasks[1], prefix=None)])).data.collated("train", [0])
    assert parts.tasks[1].student_view.data.collated("train", [0])["input_ids"].shape[1] > plain["input_ids"].shape[1]


def test_each_task_has_its_teacher(tmp_path):
    run = two_tasks(tmp_path, **STILL)
    parts = build_components(run)
    module = make_module(run, parts).eval()
    found, alone = [], []
    for number, own in enumerate(run.each_task()):
        batch = parts.data.collated("train", [24 * number, 24 * number + 3])
        assert batch["task"] == number
        found.append(float(module.compute_loss({**batch, "source_tokens": 1, "target_tokens": 1}).terms["ce_loss"].sum))
        single = build_components(own)
        judge = make_module(own, replace(single, student=parts.student)).eval()
        batch = single.data.collated("train", [0, 3])
        alone.append(float(judge.compute_loss({**batch, "source_tokens": 1, "target_tokens": 1}).terms["ce_loss"].sum))
    assert found == pytest.approx(alone, rel=1e-6)
    assert abs(found[0] - found[1]) > 0.1


def test_a_run_is_validated_and_judged_task_by_task(tmp_path):
    run = two_tasks(tmp_path)
    results = run_config(run)
    folder = tmp_path / "tasks"
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ("bleu", "chrf"):
        assert last[f"val_{name}"] == pytest.approx((last[f"val_first/{name}"] + last[f"val_second/{name}"]) / 2)
    # 6 and 2 rows to validate: the loss of all is between those of each.
    assert min(last["val_first/loss"], last["val_second/loss"]) < last["val_loss"]
    assert last["val_loss"] < max(last["val_first/loss"], last["val_second/loss"])
    assert results == json.loads((folder / "results.json").read_text())
    tasks = results["tasks"]
    assert list(tasks) == ["first", "second"]
    assert results["student"]["chrf"] == pytest.approx(sum(own["student"]["chrf"] for own in tasks.values()) / 2)
    teachers = [
        run_config(replace(own, output_dir=str(tmp_path / f"alone-{i}"))) for i, own in enumerate(run.each_task())
    ]
    for own, single in zip(tasks.values(), teachers, strict=True):
        assert own["teacher"]["chrf"] == single["teacher"]["chrf"]
    lines = [json.loads(line) for line in (folder / "test_generations.jsonl").read_text().splitlines()]
    assert [line["task"] for line in lines] == ["first"] * 6 + ["second"] * 2
    card = (folder / "best" / "README.md").read_text()
    assert "### second" in card and f"- {tmp_path / 'second'}" in card
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("student.") for name in state)


@pytest.mark.parametrize(("model_type", "language"), [("m2m_100", "fra_Latn"), ("mbart", "fr_XX")])
def test_each_task_has_its_target_language(tmp_path, model_type, language):
    own = {"tgt_lang": language, "teacher": None}
    run = two_tasks(tmp_path, model_type, second=own, loss={"on_policy": 0.5})
    parts = build_components(run)
    module = make_module(run, parts)
    assert len(parts.teachers) == 1  # one model serves both
    ids = [parts.tokenizer.convert_tokens_to_ids(code) for code in (run.tgt_lang, language)]
    key = "forced_bos_token_id" if model_type == "m2m_100" else "decoder_start_token_id"
    assert [getattr(task.generation, key) for task in module.tasks] == ids
    assert [getattr(sampling, key) for sampling in module._sampler.generations] == ids
    for task, token in zip(parts.tasks, ids, strict=True):
        assert token in task.student_view.data.collated("train", [0])["labels"][0]
    results = run_config(run)
    alone = run_config(replace(run.each_task()[1], output_dir=str(tmp_path / "alone")))
    assert results["tasks"]["second"]["teacher"]["gen_len"] == alone["teacher"]["gen_len"]
    texts = [(tmp_path / name / "test_generations.jsonl").read_text().splitlines()[-2:] for name in ("tasks", "alone")]
    assert [json.loads(line)["teacher"] for line in texts[0]] == [json.loads(line)["teacher"] for line in texts[1]]


def test_tasks_of_two_kinds_are_judged_each_by_its_scores(tmp_path):
    run = two_tasks(tmp_path, "t5", second={"task": "summarization", "teacher": None, "prefix": "summarize: "})
    assert run.monitor == "loss"
    validate(run)
    results = run_config(run)
    assert results["task"] == "translation and summarization"
    assert "bleu" in results["tasks"]["first"]["student"] and "rougeL" in results["tasks"]["second"]["student"]
    assert "bleu" not in results["student"] and results["student"]["gen_len"] > 0


def test_all_teachers_are_compared_layer_by_layer_if_they_have_one_shape(tmp_path):
    run = two_tasks(tmp_path, loss={"alpha_hid": 1.0}, matches=[{"layers": "last", "loss": "cosine"}])
    run_config(run)
    save_teacher(tmp_path / "deep", decoder_layers=3)
    other = replace(run, tasks=[run.tasks[0], replace(run.tasks[1], teacher=str(tmp_path / "deep"))])
    with pytest.raises(ConfigError, match=r"`tasks`: inner states are compared, but the teachers differ in layers"):
        make_module(other, build_components(other))


def test_a_teacher_of_other_tokens_is_refused(tmp_path):
    run = two_tasks(tmp_path, second={"teacher": str(save_teacher(tmp_path / "other", "bart"))})
    with pytest.raises(ModelError, match=r"`tasks` second: `teacher` .*other: its tokenizer differs from"):
        build_components(run)


def test_a_single_task_is_the_run_without_tasks(tmp_path):
    plain = config(tmp_path)
    entry = two_tasks(tmp_path).tasks[0]
    run = config(tmp_path, tasks=[vars(entry)], output_dir=str(tmp_path / "tasks"))
    results = run_config(run)
    expected = run_config(plain)
    assert results["tasks"]["first"]["student"]["chrf"] == expected["student"]["chrf"]
    weights = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("run", "tasks")]
    assert weights[0] == weights[1]


def test_a_batch_processor_cannot_lose_the_task_or_the_teachers_sources(tmp_path):
    """A batch of the second task was given to the first one's teacher, which read the student's sources."""
    run = two_tasks(tmp_path, teacher_source={"prefix": "Tier: "})
    kept = ("input_ids", "attention_mask", "labels", "row", "source_tokens", "target_tokens")
    own = Extensions(batch_processor=lambda batch: {name: batch[name] for name in kept})
    batch = build_components(run).data.collated("train", [25])
    assert same_tensors(own.processed(batch), batch)


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


def test_names_of_tasks_are_told_from_names_of_losses(tmp_path):
    """The loss of a task named ce was logged as ce_loss, which is another one."""
    run = two_tasks(tmp_path)
    run = replace(run, tasks=[replace(run.tasks[0], name="ce"), replace(run.tasks[1], name="mlm")])
    run_config(run)
    last = json.loads((tmp_path / "tasks" / "metrics.jsonl").read_text().splitlines()[-1])
    assert len({last[name] for name in ("val_ce/loss", "val_mlm/loss", "val_ce_loss", "val_mlm_loss")}) == 4


def test_evaluate_knows_the_task_by_its_data(tmp_path):
    run = two_tasks(tmp_path, "t5", second={"task": "summarization", "teacher": None, "prefix": "summarize: "})
    results = run_config(run)
    folder = tmp_path / "tasks"
    own = with_decoding_of_run(EvaluateConfig(models=[str(folder / "best")], data=run.tasks[1].data))
    assert (own.task, own.prefix) == ("summarization", "summarize: ")
    judged = evaluate(replace(own, output_dir=str(tmp_path / "judged"), n_speed=0))
    expected = results["tasks"]["second"]["student"]["rougeL"]
    assert judged["models"][0]["scores"]["rougeL"]["score"] == pytest.approx(expected)
    with pytest.raises(ConfigError, match=r"`data` is missing: the model learned several tasks: name the data of one"):
        with_decoding_of_run(EvaluateConfig(models=[str(folder / "best")]))


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ({"teacher": "gone/x/y"}, r"`tasks` second: `teacher` gone/x/y: no such folder"),
        ({"data": ["/gone"]}, r"`tasks` second: `data` /gone: no such folder"),
        ({"data": [""]}, r"`tasks` entry 1, data '' is empty"),
    ],
)
def test_a_mistake_names_its_task(tmp_path, second, line):
    with pytest.raises(UserError, match=line):
        run_config(two_tasks(tmp_path, second=second))


def test_sampling_follows_the_size(tmp_path):
    run = two_tasks(tmp_path, task_exponent=0.0, batch={"size": 4}, trainer={"max_steps": -1, "max_epochs": 1.0})
    parts = build_components(run)
    data = concat_tasks(run, [task.student_view.data for task in parts.tasks])
    counts = [0, 0]
    for step in range(data.plan.total_steps):
        batch = data.training_batch(step)
        counts[batch["task"]] += len(batch["row"])
    assert counts == [16, 16]


def test_teachers_of_tasks_may_read_sources_of_their_own(tmp_path):
    run = two_tasks(tmp_path, teacher_source={"prefix": "Tier: "}, loss={"on_policy": 0.5})
    parts = build_components(run)
    for number, task in enumerate(parts.tasks):
        batch, theirs = parts.data.collated("train", [24 * number]), task.teacher_view.data.collated("train", [0])
        assert batch["teacher_input_ids"].tolist() == theirs["input_ids"].tolist() != batch["input_ids"].tolist()
    results = run_config(run)
    alone = run_config(replace(run.each_task()[1], output_dir=str(tmp_path / "alone")))
    assert results["tasks"]["second"]["teacher"]["chrf"] == alone["teacher"]["chrf"]
