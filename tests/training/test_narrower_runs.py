"""Runs with narrower students: cut once, read again by a resumed run, trained and tested like any other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from seq2seq_distill.config import RunConfig
from seq2seq_distill.models.fingerprint import model_fingerprint
from seq2seq_distill.training import student as students
from seq2seq_distill.training.build import make_module
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.student import calibration_batches
from seq2seq_distill.utils import locks
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_runs import config
from tests.training.test_run import FailAfterStep, Fault

NARROW: dict[str, Any] = {"encoder_ffn_dim": 0.5, "decoder_ffn_dim": 8, "calibration_rows": 10}


def narrow(folder: Path, model_type: str = "marian", **changes: Any) -> RunConfig:
    """A run of a narrower student, on its losses alone."""
    student = {"decoder_layers": 1, **NARROW, **changes.pop("student", {})}
    return config(folder, model_type, student=student, eval={"monitor": "loss", "n_speed": 0}, **changes)


def test_a_run_trains_the_narrower_student_and_says_what_was_cut(tmp_path: Path) -> None:
    results = run_config(narrow(tmp_path, loss={"alpha_hid": 1.0}))
    for name in ("student_init", "best"):
        saved = json.loads((tmp_path / "run" / name / "config.json").read_text())
        assert (saved["encoder_ffn_dim"], saved["decoder_ffn_dim"], saved["decoder_layers"]) == (16, 8, 1)
        assert saved["distilled_widths"] == {"encoder_ffn_dim": [16, 32], "decoder_ffn_dim": [8, 32]}
        card = (tmp_path / "run" / name / "README.md").read_text()
        assert "encoder layers 0 1, decoder layers 0, encoder_ffn_dim 16 of 32, decoder_ffn_dim 8 of 32." in card
        generation = json.loads((tmp_path / "run" / name / "generation_config.json").read_text())
        assert generation["max_length"] == 7
        assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / name).num_parameters() > 0
    assert results["student"]["parameters"] < 0.8 * results["teacher"]["parameters"]


def test_a_stopped_run_goes_on_with_the_student_that_it_has_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = narrow(tmp_path)
    with pytest.raises(Fault):
        run_config(run, [FailAfterStep(3)])
    start = (tmp_path / "run" / "student_init" / "model.safetensors").read_bytes()
    whole = replace(run, output_dir=str(tmp_path / "undisturbed"))
    run_config(whole)
    monkeypatch.setattr(students, "cut_student", lambda *args: pytest.fail("it was cut again"))
    run_config(run)
    assert (tmp_path / "run" / "student_init" / "model.safetensors").read_bytes() == start
    first, second = (load_file(Path(each.output_dir) / "best" / "model.safetensors") for each in (run, whole))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    configs = [(Path(each.output_dir) / "best" / "config.json").read_text() for each in (run, whole)]
    assert configs[0] == configs[1]


def test_other_options_or_data_cut_another_student(tmp_path: Path) -> None:
    run, folder = narrow(tmp_path), tmp_path / "init"
    first = build_components(run, folder).student
    assert model_fingerprint(build_components(run, folder).student) == model_fingerprint(first)
    for changes in ({"calibration_rows": 5}, {"repair": False}, {"decoder_ffn_dim": 16}):
        other = build_components(replace(run, student=replace(run.student, **changes)), folder)
        assert model_fingerprint(other.student) != model_fingerprint(first)
        assert other.student.config.distilled_calibration != first.config.distilled_calibration
    (tmp_path / "data" / "train.source").write_text("ein haus\n" * 24)
    assert build_components(run, folder).student.config.distilled_calibration != first.config.distilled_calibration


def test_other_processes_read_what_process_0_has_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, folder = narrow(tmp_path), tmp_path / "init"
    stale = build_components(replace(run, student=replace(run.student, repair=False)), folder).student
    waits: list[float] = []

    def cut_meanwhile(seconds: float) -> None:
        waits.append(seconds)
        with monkeypatch.context() as as_process_0:
            as_process_0.delenv("LOCAL_RANK")
            build_components(run, folder)

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(locks.time, "sleep", cut_meanwhile)
    read = build_components(run, folder).student
    assert len(waits) == 1
    assert read.config.distilled_calibration != stale.config.distilled_calibration
    cut = build_components(replace(run, output_dir=str(tmp_path / "other"))).student
    born = [[weight.requires_grad for weight in student.parameters()] for student in (read, cut)]
    assert born[0] == born[1]
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(read.state_dict()[name], weight) for name, weight in saved.items())


@pytest.mark.parametrize(
    ("widths", "shared"), [({"encoder_ffn_dim": None}, True), ({}, False)], ids=["decoder", "both"]
)
def test_an_encoder_that_is_narrower_is_trained(tmp_path: Path, widths: dict[str, Any], shared: bool) -> None:
    run = narrow(tmp_path, "bart", student=widths)
    module: Any = make_module(run, build_components(run))
    assert module.shares_encoder == shared
    encoder = [weight.requires_grad for weight in module.student.get_encoder().layers.parameters()]
    assert not any(encoder) if shared else all(encoder)


def test_calibration_rows_are_spread_evenly_over_the_training_data(tmp_path: Path) -> None:
    data = build_components(narrow(tmp_path)).data
    batches = calibration_batches(data, 6)
    assert sorted(row for batch in batches for row in batch["row"].tolist()) == [0, 4, 8, 12, 16, 20]
    assert sum(len(batch["row"]) for batch in calibration_batches(data, 1000)) == 24


def test_widths_need_a_student_that_is_cut(tmp_path: Path) -> None:
    run = narrow(tmp_path, student={"decoder_layers": None, "path": str(tmp_path / "teacher")})
    with pytest.raises(ConfigError, match="`student.encoder_ffn_dim` 0.5 narrows a student that is cut from a teacher"):
        run_config(run)


def test_fewer_hidden_dimensions_learn_through_projections(tmp_path: Path) -> None:
    """Inner states of unlike widths are refused by name, and compared where a match has a projection."""
    student = {"encoder_ffn_dim": None, "decoder_ffn_dim": None, "d_model": 8}
    run = narrow(tmp_path, "bart", student=student, matches=[{"layers": "last", "projection": "linear"}])
    run_config(run)
    saved = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert saved["d_model"] == 8 and saved["distilled_widths"] == {"d_model": [8, 16]}
    with pytest.raises(ConfigError, match="student's encoder is 8 wide and the teacher's 16: set `loss.alpha_hid` 0"):
        run_config(narrow(tmp_path, "bart", student=student, loss={"alpha_hid": 1.0}, output_dir=str(tmp_path / "2")))
