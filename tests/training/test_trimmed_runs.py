"""Runs whose teacher gets a smaller vocabulary first: the same run, on other tokens."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from seq2seq_distill.config import TrimConfig
from seq2seq_distill.models.loading import load_pretrained
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.run import run_config
from seq2seq_distill.training.trimming import REPORT, with_trimmed_teacher
from tests.processes import Job
from tests.system import two_processes
from tests.tiny_runs import config

TRIM = {"trim": {"coverage": 0.9}, "eval": {"beams": 1, "max_target_length": 6, "batch_size": 8, "n_speed": 2}}
STEPS = {"max_steps": 3, "val_check_interval": 1}


def trained(tmp_path: Path, name: str, **changes) -> tuple[Path, dict]:
    """A run in a folder of this name, and its results."""
    run = config(tmp_path, output_dir=str(tmp_path / name), **{**TRIM, "trainer": STEPS, **changes})
    return tmp_path / name, run_config(run)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trimmed")


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, dict]:
    return trained(place, "run")


def test_everything_works_on_the_trimmed_teacher(place, finished):
    run, results = finished
    whole = load_pretrained(place / "teacher")
    sizes = {}
    for name in ("trimmed", "student_init", "best"):
        model, tokenizer = load_pretrained(run / name), AutoTokenizer.from_pretrained(run / name)
        sizes[name] = model.config.vocab_size
        assert len(tokenizer) == sizes[name]
        assert model.config.trimmed_vocabulary == [whole.config.vocab_size] * 2
    assert len(set(sizes.values())) == 1 and sizes["best"] < whole.config.vocab_size
    report = json.loads((run / "trimmed" / REPORT).read_text("utf-8"))
    assert report["vocabulary"]["after"]["target"] == sizes["best"]
    assert report["parameters"] == {
        "before": results["whole_teacher"]["parameters"],
        "after": results["teacher"]["parameters"],
    }
    assert report["bytes"]["after"] < report["bytes"]["before"]
    assert 0 < report["held_out"]["lost_mass"] < 1


def test_results_compare_with_the_whole_teacher_too(finished):
    run, results = finished
    assert results["kept_of_whole"].keys() == results["kept"].keys() == {"bleu", "chrf"}
    assert results["whole_teacher"]["parameters"] > results["teacher"]["parameters"]
    assert results["speedup_over_whole"] == pytest.approx(
        results["whole_teacher"]["ms_per_token"] / results["student"]["ms_per_token"]
    )
    lines = [json.loads(line) for line in (run / "test_generations.jsonl").read_text("utf-8").splitlines()]
    assert all({"student", "teacher", "whole_teacher"} <= line.keys() for line in lines)
    assert "whole teacher" in (run / "best" / "README.md").read_text("utf-8")


def test_a_resumed_run_reads_the_trimmed_teacher_and_ends_alike(place, finished):
    run, _ = finished
    halted = place / "halted"
    changes = {**TRIM, "trainer": STEPS, "output_dir": str(halted)}
    two_processes.run(place, {**changes, "extra": {"stop": 2}})
    (halted / "trimmed" / "mark").touch()  # goes with the folder if it is made anew
    resumed, _ = trained(place, "halted")
    assert (resumed / "trimmed" / "mark").exists()
    for file in ("best/model.safetensors", "metrics.jsonl", "test_generations.jsonl"):
        assert (resumed / file).read_bytes() == (run / file).read_bytes()


def test_two_processes_trim_once_and_give_the_student_of_one(place, finished):
    changes = {**TRIM, "student": {"decoder_layers": 1, "dropout": 0.0}, "optim": {"eps": 1e-2}}
    one, _ = trained(place, "one", **{name: value for name, value in changes.items() if name not in TRIM})
    both = {**changes, "trainer": {**STEPS, "devices": 2}, "output_dir": str(place / "two")}
    Job(two_processes.run_all, place, [both], log=place / "log", processes=2).succeed()
    assert (place / "two" / "trimmed" / "model.safetensors").read_bytes() == (
        one / "trimmed" / "model.safetensors"
    ).read_bytes()
    weights = {name: load_file(place / name / "best" / "model.safetensors") for name in ("one", "two")}
    for name, weight in weights["one"].items():
        torch.testing.assert_close(weights["two"][name], weight, rtol=1e-5, atol=1e-5)


def test_other_options_make_it_anew(place):
    run = config(place, output_dir=str(place / "options"), **TRIM)
    small, large = ({"target": None}, {"target": None})
    for found, coverage in ((small, 0.5), (large, 1.0)):
        trimmed = with_trimmed_teacher(replace(run, trim=TrimConfig(coverage)))
        assert trimmed.trim == TrimConfig() and trimmed.teacher == str(place / "options" / "trimmed")
        found["target"] = load_pretrained(trimmed.teacher).config.vocab_size
    assert small["target"] < large["target"]


def test_a_run_with_checkpoints_goes_on_with_its_trimmed_teacher(place, finished):
    """Other data are refused later; until then nothing is written."""
    run, _ = finished
    before = (run / "trimmed" / REPORT).read_bytes()
    changed = config(place, output_dir=str(run), **{**TRIM, "eval": {**TRIM["eval"], "n_val": 1}})
    assert with_trimmed_teacher(changed).teacher == str(run / "trimmed")
    assert (run / "trimmed" / REPORT).read_bytes() == before


def test_caches_do_not_survive_a_trim(place):
    """Encoded data and the teacher's outputs are of other tokens: their keys change with tokenizer and weights."""
    prints = []
    for number, trim in enumerate((TrimConfig(), TrimConfig(0.9))):
        parts = build_components(replace(config(place, output_dir=str(place / f"cache-{number}")), trim=trim))
        prints.append((parts.teacher.fingerprint(), parts.data.encoded["train"]["labels"][:4]))
    assert prints[0][0] != prints[1][0] and list(prints[0][1]) != list(prints[1][1])


@pytest.mark.parametrize("model_type", ["m2m_100", "mbart", "t5"])
def test_with_languages_and_a_cache(model_type, tmp_path):
    cached = {"teacher_cache": str(tmp_path / "cache")} if model_type == "t5" else {}
    languages = {"languages": ["eng_Latn"]} if model_type == "m2m_100" else {}
    run = config(tmp_path, model_type, trim={"size": 60, **languages}, trainer={"max_steps": 1}, **cached)
    results = run_config(replace(run, eval=replace(run.eval, n_speed=0)))
    assert results["speedup_over_whole"] is None
    assert 0 < results["student"]["parameters"] < results["whole_teacher"]["parameters"]
