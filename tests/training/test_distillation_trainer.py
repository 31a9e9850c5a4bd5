"""Distillation inside transformers' trainer: the losses of the Lightning module, however a step is dealt out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from seq2seq_distill.config import FeatureLossConfig, LossConfig, RunConfig, ScheduleConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.losses.logits import Term
from seq2seq_distill.models import architectures
from seq2seq_distill.models.freezing import freeze_parts
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.modules.extensions import CustomLoss
from seq2seq_distill.modules.forward_pass import ForwardPass
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training.distillation_trainer import DistillationTrainer
from seq2seq_distill.utils.errors import ConfigError, ModelError
from tests.processes import Job
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_tokenizers import plain_tokenizer

LOSS = LossConfig(alpha_hid=1.0, label_smoothing=0.1, divergence="jsd")
MATCHES = [
    FeatureLossConfig(layers="last", loss="cosine"),
    FeatureLossConfig(side="encoder", layers="last", loss="mmd"),
]
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


def models(model_type: str = "bart", **overrides: Any) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Student and teacher."""
    teacher = tiny_model(model_type, **overrides)
    return create_student(teacher, 1, 1), teacher


def arguments(folder: Path, **options: Any) -> Seq2SeqTrainingArguments:
    defaults = {"max_steps": 4, "use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    return Seq2SeqTrainingArguments(str(folder), **{**defaults, "remove_unused_columns": False, **options})


def data(rows: int = 12, seed: int = 0) -> Dataset:
    """Rows of unequal lengths."""
    chance = torch.Generator().manual_seed(seed)

    def ids(longest: int) -> list[list[int]]:
        lengths = torch.randint(2, longest, (rows,), generator=chance).tolist()
        return [torch.randint(5, 60, (length,), generator=chance).tolist() for length in lengths]

    return Dataset.from_dict({"input_ids": ids(9), "labels": ids(7), "row": list(range(rows))})


def trainer(folder: Path, student: PreTrainedModel, teacher: Any, **options: Any) -> DistillationTrainer:
    """`options` that the class does not name are arguments of training."""
    names = (
        "loss",
        "matches",
        "terms",
        "train_dataset",
        "eval_dataset",
        "callbacks",
        "compute_metrics",
        "model_init",
        "data_collator",
    )
    own = {name: options.pop(name) for name in names if name in options}
    own = {"loss": LOSS, "train_dataset": data(), "eval_dataset": data(5, seed=1), **own}
    pad = Collator(architectures.stack_configs(student.config)[0].pad_token_id)

    def without_rows(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: field for name, field in pad(rows).items() if name != "row"}

    args = arguments(folder, **options)
    own = {"data_collator": without_rows, "processing_class": plain_tokenizer(), **own}
    return DistillationTrainer(student, args, teacher=teacher, **own)


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


class TestLoss:
    @pytest.mark.parametrize("model_type", ["bart", "t5", "marian", "led"])
    def test_it_is_that_of_the_lightning_module(self, tmp_path: Path, model_type: str) -> None:
        student, teacher = models(model_type)
        matches = MATCHES[:1] if model_type == "led" else MATCHES
        batch = tiny_batch(student)
        config = RunConfig(task="summarization", loss=LOSS, matches=matches)
        module = SummarizationDistiller(student, Teacher(teacher), plain_tokenizer(), config, 4).eval()
        expected = module.compute_loss({**batch, "row": torch.arange(3)}).loss
        own = trainer(tmp_path, student, teacher, matches=matches)
        loss, outputs = own.compute_loss(student.eval(), batch, return_outputs=True)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6) and outputs["loss"] is loss
        assert "forward" not in vars(student)  # left as it was

    def test_schedules_follow_the_trainers_steps(self, tmp_path: Path) -> None:
        student, teacher = models(**STILL)
        schedule = ScheduleConfig(alpha_ce="linear_growth", temperature="linear", temperature_end=1.0)
        config = LossConfig(alpha_mlm=0.0, schedule=schedule)
        own, batch = trainer(tmp_path, student, teacher, loss=config), tiny_batch(student)
        own.state.max_steps = 5
        assert own.compute_loss(student.train(), batch) == 0  # in step 0 the one weight is 0
        for step, weight, temperature in ((2, 0.4, 1.5), (4, 0.8, 1.0)):
            own.state.global_step = step
            plain = trainer(tmp_path, student, teacher, loss=LossConfig(weight, 0.0, temperature=temperature))
            expected, found = (each.compute_loss(student.train(), batch).item() for each in (plain, own))
            assert found == pytest.approx(expected, rel=1e-6)

    def test_a_frozen_encoder_is_shared(self, tmp_path: Path) -> None:
        teacher = tiny_model("bart")
        student = create_student(teacher, decoder_layers=1)
        freeze_parts(student, encoder=True, embeddings=True)
        before = weights(student)
        own = trainer(tmp_path, student, teacher)
        assert own.distiller.shares_encoder
        own.train()
        moved = {name for name, weight in student.state_dict().items() if not torch.equal(weight, before[name])}
        assert moved and all(".decoder.layers." in name or "layernorm_embedding" in name for name in moved)


class TestTraining:
    def test_accumulated_batches_are_one_batch_and_terms_are_logged(self, tmp_path: Path) -> None:
        found, logs = [], []
        for rows, accumulated in ((12, 1), (3, 4)):
            student, teacher = models(**STILL)
            own = trainer(
                tmp_path,
                student,
                teacher,
                matches=MATCHES,
                per_device_train_batch_size=rows,
                gradient_accumulation_steps=accumulated,
                optim="sgd",
                learning_rate=0.01,
                max_grad_norm=0.0,  # clipping would hide a gradient of the wrong scale
                logging_steps=2,
            )
            own.train()
            found.append(weights(student))
            logs.append([entry for entry in own.state.log_history if "loss" in entry])
        for name, weight in found[0].items():
            torch.testing.assert_close(found[1][name], weight, rtol=1e-5, atol=1e-6)
        assert not torch.equal(found[0]["lm_head.weight"], weights(models(**STILL)[0])["lm_head.weight"])
        assert len(logs[0]) == 2
        for one, other in zip(*logs, strict=True):
            assert other == pytest.approx(one, rel=1e-4)
            hidden = one["hid_loss_enc"] + one["hid_loss_dec"]
            matched = one["match_0_decoder_hidden_cosine"] + one["match_1_encoder_hidden_mmd"]
            total = 0.8 * one["ce_loss"] + 0.2 * one["mlm_loss"] + hidden + matched
            assert one["loss"] == pytest.approx(total, rel=1e-4)

    def test_a_resumed_run_ends_with_the_same_bits(self, tmp_path: Path) -> None:
        class Leave(TrainerCallback):
            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                control.should_training_stop = state.global_step == 2

        options = {"save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 3}
        options["loss"] = LossConfig(schedule=ScheduleConfig(temperature="cosine"))
        ends = []
        for folder, callbacks in (("whole", []), ("stopped", [Leave()])):
            student, teacher = models()  # with dropout
            own = trainer(tmp_path / folder, student, teacher, callbacks=callbacks, **options)
            own.train()
            ends.append(weights(student))
        assert own.state.global_step == 2
        student, teacher = models()
        trainer(tmp_path / "stopped", student, teacher, **options).train(resume_from_checkpoint=True)
        ends.append(weights(student))
        same = [all(torch.equal(end[name], weight) for name, weight in ends[0].items()) for end in ends]
        assert same == [True, False, True]

    def test_what_is_saved_is_a_plain_student(self, tmp_path: Path) -> None:
        student, teacher = models()
        own = trainer(tmp_path, student, teacher, max_steps=1)
        own.train()
        own.save_model()
        loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
        assert architectures.depths(loaded.config) == (1, 1)
        assert all(torch.equal(weights(loaded)[name], weight) for name, weight in student.state_dict().items())


class TestEvaluation:
    def test_losses_are_means_over_all_tokens_however_batched(self, tmp_path: Path) -> None:
        student, teacher = models()
        found = [trainer(tmp_path, student, teacher, per_device_eval_batch_size=size).evaluate() for size in (5, 2)]
        names = ("eval_loss", "eval_ce_loss", "eval_mlm_loss", "eval_hid_loss_enc", "eval_teacher_entropy")
        assert [found[1][name] for name in names] == pytest.approx([found[0][name] for name in names], rel=1e-5)

    def test_generated_ids_go_to_compute_metrics(self, tmp_path: Path) -> None:
        student, teacher = models()
        seen: dict[str, Any] = {}

        def keep(outputs: Any) -> dict[str, float]:
            seen.update(ids=outputs.predictions, labels=outputs.label_ids)
            return {"score": 1.0}

        collate = DataCollatorForSeq2Seq(plain_tokenizer(), model=student)
        rows = data(5, seed=1).remove_columns("row")
        assert "decoder_input_ids" in collate(list(rows))  # from which generation must not begin
        options = {"predict_with_generate": True, "generation_max_length": 8, "per_device_eval_batch_size": 2}
        given = {"compute_metrics": keep, "data_collator": collate, "eval_dataset": rows}
        metrics = trainer(tmp_path, student, teacher, **given, **options).evaluate()
        assert metrics["eval_score"] == 1.0 and metrics["eval_ce_loss"] > 0
        for row, expected in enumerate(rows):
            assert seen["labels"][row][seen["labels"][row] != -100].tolist() == expected["labels"]
            ids = torch.tensor([expected["input_ids"]])
            alone = student.generate(input_ids=ids, max_length=8)[0].tolist()
            assert seen["ids"][row][: len(alone)].tolist() == alone


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"label_smoothing_factor": 0.1}, r"label_smoothing_factor 0.1: set LossConfig\(label_smoothing"),
            ({"compute_metrics": len}, "compute_metrics needs generated ids here: set predict_with_generate=True"),
            ({"model_init": len}, "model_init: leave it out"),
            ({"loss": LossConfig(on_policy=0.5)}, r"LossConfig\(on_policy=0.5\).*use run_config"),
            ({"loss": LossConfig(alpha_chunk=9.0)}, r"LossConfig\(alpha_chunk=9.0\).*use run_config"),
            (
                {"matches": [FeatureLossConfig(layers="last", projection="tanh")]},
                "entry 0, projection tanh: use run_config",
            ),
            ({"matches": [FeatureLossConfig(student=0)]}, "`matches` entry 0 lacks teacher"),
            ({"loss": LossConfig(temperature=0.0)}, "`loss.temperature` 0.0"),
        ],
    )
    def test_what_means_nothing_here_is_refused(self, tmp_path: Path, options: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            trainer(tmp_path, *models(), **options)

    def test_a_teacher_of_another_vocabulary_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="the student has 64 output tokens, the teacher 60: choose"):
            trainer(tmp_path, models()[0], tiny_model("bart", vocab_size=60))


def lengths(student: ForwardPass, teacher: ForwardPass | None, batch: Any) -> Term:
    """The mean square of the encoder's last state."""
    mask = batch["attention_mask"]
    return Term((student.encoder_state.square().mean(-1) * mask).sum(), mask.sum())


def steps(folder: Path, rows: int) -> None:
    """A short training, whose weights and logs process 0 writes into the folder."""
    student, teacher = models(**STILL)
    own = trainer(
        folder,
        student,
        teacher,
        matches=MATCHES,
        terms={"lengths": CustomLoss(lengths, over="source")},
        per_device_train_batch_size=rows,
        max_steps=2,
        gradient_accumulation_steps=2,
        optim="sgd",
        learning_rate=0.01,
        logging_steps=2,
        max_grad_norm=0.0,  # clipping would hide a gradient of the wrong scale
    )
    own.train()
    if own.is_world_process_zero():
        torch.save(weights(student), folder / "weights.pt")
        logs = [{k: v for k, v in each.items() if "loss" in k} for each in own.state.log_history]
        (folder / "log.json").write_text(json.dumps(logs[0]))


def test_two_processes_are_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    steps(one, 6)
    Job(steps, two, 3, log=two / "log", processes=2).succeed()
    ours, theirs = (torch.load(folder / "weights.pt", weights_only=True) for folder in (two, one))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)
    logs = [json.loads((folder / "log.json").read_text()) for folder in (two, one)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
