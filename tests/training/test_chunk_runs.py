"""Runs that learn from the log-probabilities of a label set, with tokens of their own and without its teacher."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from pytorch_lightning import Callback

from seq2seq_distill.config import RunConfig
from seq2seq_distill.data.readers.parquet import text_hash
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.decoding.generation import GenerationSettings, generation_config
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.decoding.token_logprobs import token_logprobs
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.modules.extensions import Extensions
from seq2seq_distill.training.build import build
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError, DataError
from tests.processes import Job
from tests.system import two_processes
from tests.tiny_runs import config, save_teacher, write_data

STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
CHANGES: dict[str, Any] = {
    "method": "sft",
    "teacher": None,
    "loss": {"alpha_chunk": 20.0, "label_smoothing": 0.1},
    "batch": {"size": 3},
    # As in tests/system/test_two_processes.py: no step is made of rounding alone.
    "optim": {"lr": 0.02, "eps": 1e-2, "warmup_steps": 0},
    "eval": {"beams": 1, "max_target_length": 24, "batch_size": 3, "n_speed": 0},
}
TRAINER = {"max_steps": 4, "val_check_interval": 2, "gradient_clip_val": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`tmp_path` with the teacher's label set as data, and a student with other tokens; a row of it has no columns."""
    write_data(tmp_path / "texts", rows=16)
    save_teacher(tmp_path / "teacher", "marian")
    save_teacher(tmp_path / "student", "bart", **STILL)
    label(tmp_path, "train", "val", "test")
    return tmp_path


def label(folder: Path, *splits: str) -> None:
    model, tokenizer = load_pretrained(str(folder / "teacher")), load_tokenizer(folder / "teacher", "en", "de")
    generation = generation_config(model, GenerationSettings(beams=1))
    loaded = LoadedModel(model.eval(), tokenizer, "", None, generation)
    (folder / "data").mkdir(exist_ok=True)
    for split in splits:
        columns: dict[str, Any] = {
            side: (folder / "texts" / f"{split}.{side}").read_text("utf-8").splitlines()
            for side in ("source", "target")
        }
        columns["source_sha256"] = [text_hash(text) for text in columns["source"]]
        rows = token_logprobs(loaded, loaded.encode(columns["source"]), columns["target"])
        rows[0] = None
        for name, kind in (("token_logprobs", pa.float32()), ("token_ends", pa.int32())):
            cells = [None if row is None else getattr(row, name).tolist() for row in rows]
            columns[name] = pa.array(cells, pa.list_(kind))
        pyarrow.parquet.write_table(pa.table(columns), folder / "data" / f"{split}.parquet")


def run(folder: Path, name: str, **changes: Any) -> RunConfig:
    return config(folder, **altered(folder, name, **changes))


def altered(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    trainer = {**TRAINER, **changes.pop("trainer", {})}
    student = {"path": str(folder / "student"), "decoder_layers": None}
    return {**CHANGES, "student": student, "output_dir": str(folder / name), "trainer": trainer, **changes}


def validations(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_run(got: Path, expected: Path) -> None:
    for name, weight in weights(expected).items():
        torch.testing.assert_close(weights(got)[name], weight, rtol=1e-5, atol=1e-5, msg=name)
    for line, reference in zip(validations(got), validations(expected), strict=True):
        assert line == pytest.approx(reference, abs=1e-4)


def test_accumulated_batches_and_two_processes_are_one(folder):
    """Steps of 3 rows, one of which may have no chunks: means over their chunks would differ."""
    run_config(run(folder, "one"))
    run_config(run(folder, "accumulated", trainer={"accumulate_grad_batches": 2}))
    Job(
        two_processes.run_all,
        folder,
        [altered(folder, "two", trainer={"devices": 2, "strategy": "ddp"})],
        log=folder / "log",
        processes=2,
    ).succeed()
    for name in ("accumulated", "two"):
        assert_same_run(folder / name, folder / "one")
    first, *_, last = validations(folder / "one")
    assert 0 < last["val_chunk_loss"] < first["val_chunk_loss"]
    assert first["val_loss"] == pytest.approx(first["val_mlm_loss"] + 20 * first["val_chunk_loss"], rel=1e-5)


class Stop(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            raise KeyError("stopped")


def test_a_run_that_was_stopped_goes_on_exactly(folder):
    run_config(run(folder, "whole"))
    with pytest.raises(KeyError, match="stopped"):
        run_config(run(folder, "stopped"), [Stop()])
    run_config(run(folder, "stopped"))
    whole = weights(folder / "whole")
    assert all(torch.equal(weight, whole[name]) for name, weight in weights(folder / "stopped").items())


def test_batches_bring_chunks_and_the_number_of_the_step(folder):
    _, data = build(run(folder, "run", batch={"size": 16}))
    batch = data.splits.training_batch(0)
    chunk, labels = batch["chunk"], batch["labels"]
    assert chunk.shape == labels.shape and len(batch["chunk_logprobs"]) == batch["chunks"] == int(chunk.max()) + 1
    assert bool((chunk[labels == -100] == -1).all())
    [without] = [index for index, row in enumerate(batch["row"].tolist()) if row == 0]
    assert bool((chunk[without] == -1).all())
    words = [len(text.split()) + 1 for text in data.splits.references("train")]  # and the end of the sequence
    assert batch["chunks"] == sum(words[1:])


def test_it_is_added_to_what_a_teacher_says(folder):
    """Of the student's vocabulary; other data besides has no chunks."""
    changes = {
        "method": "kd",
        "teacher": str(folder / "teacher"),
        "data": [str(folder / name) for name in ("data", "texts")],
    }
    student = {"path": None, "decoder_layers": 1}
    run_config(run(folder, "run", student=student, **changes))
    assert validations(folder / "run")[-1].keys() >= {"val_ce_loss", "val_mlm_loss", "val_chunk_loss"}


def test_of_several_tasks_one_may_have_chunks(folder):
    tasks = [{"name": name, "data": [str(folder / name)]} for name in ("texts", "data")]
    _, data = build(run(folder, "run", tasks=tasks))
    counts = {0: 0, 1: 0}
    for step in range(4):
        batch = data.splits.training_batch(step)
        counts[batch["task"]] += batch["chunks"]
    assert counts[0] == 0 < counts[1]


def test_a_batch_processor_keeps_the_chunks_and_cannot_change_the_labels(folder):
    def plain(batch: Any) -> dict[str, Any]:
        names = ("input_ids", "attention_mask", "labels", "row", "source_tokens", "target_tokens")
        return {name: batch[name] for name in names}

    run_config(run(folder, "plain"))
    run_config(run(folder, "processed"), extensions=Extensions(batch_processor=plain))
    assert_same_run(folder / "processed", folder / "plain")

    def cut(batch: Any) -> dict[str, Any]:
        return {**plain(batch), "labels": batch["labels"][:, :-1]}

    with pytest.raises(ConfigError, match=r"`loss.alpha_chunk` 20.0 is for the labels of the data"):
        run_config(run(folder, "cut"), extensions=Extensions(batch_processor=cut))


def test_a_split_without_columns_has_no_such_term(folder):
    (folder / "data" / "val.parquet").unlink()
    data = [str(folder / "data"), str(folder / "texts")]
    run_config(run(folder, "run", data=data, data_weights=[1.0, 0.0]))
    assert "val_chunk_loss" not in validations(folder / "run")[-1]


def test_data_without_columns_is_refused(folder):
    with pytest.raises(DataError, match=r"`loss.alpha_chunk` 20.0 needs log-probabilities of labels"):
        run_config(run(folder, "run", data=[str(folder / "texts")]))


@pytest.mark.parametrize(
    ("logprobs", "ends", "line"),
    [
        ([-1.0, -2.0], [3], "row 2: token_logprobs has 2 entries, token_ends 1: label it again"),
        ([-1.0, float("nan")], [2, 3], "row 2: token_logprobs is not a list of finite numbers of at most 0"),
        ([-1.0, 0.5], [2, 3], "row 2: token_logprobs is not a list of finite numbers of at most 0"),
        ([-1.0, -2.0], [3, 2], "row 2: token_ends is not a list of ascending numbers of at least 0"),
        ([-1.0, -2.0], [3, 9999], r"row 2: token_ends goes to 9999, and the target has \d+ bytes"),
    ],
)
def test_a_damaged_label_set_is_refused(folder, logprobs, ends, line):
    file = folder / "data" / "train.parquet"
    rows = pyarrow.parquet.read_table(file).to_pylist()
    rows[1] |= {"token_logprobs": logprobs, "token_ends": ends}
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    with pytest.raises(DataError, match=rf"train\.parquet: {line}"):
        build(run(folder, "run"))
