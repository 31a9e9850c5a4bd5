"""Runs that learn from cached teacher outputs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.cache import fill_cache
from seq2seq_distill.config import RunConfig
from seq2seq_distill.data import teacher_cache
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError
from tests.processes import Job
from tests.tiny_runs import config

STEPS = {"max_steps": 20, "val_check_interval": 5, "log_every_n_steps": 1}
WHOLE = {"top_k": 10_000, "precision": "float32"}


def losses(run: RunConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(run.folder) / "metrics.jsonl").read_text().splitlines()]


def shards(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.safetensors")}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD_ROWS", 5)


@pytest.mark.parametrize(("model_type", "temperature"), [("marian", 1.0), ("bart", 2.0), ("t5", 2.0)])
def test_with_the_whole_vocabulary_losses_are_those_of_the_teacher_itself(tmp_path, model_type, temperature):
    """For 20 steps, each of whose students comes of all steps before."""
    common = {"model_type": model_type, "trainer": STEPS, "loss": {"temperature": temperature}, "method": "kd"}
    online = config(tmp_path, **common, output_dir=str(tmp_path / "online"))
    cached = config(
        tmp_path, **common, output_dir=str(tmp_path / "cached"), teacher_cache=str(tmp_path / "cache"), cache=WHOLE
    )
    results = [run_config(run) for run in (online, cached)]
    assert len(losses(online)) == 5
    for own, other in zip(losses(cached), losses(online), strict=True):
        for name in ("val_loss", "val_ce_loss", "val_mlm_loss"):
            assert own[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5)
    assert results[0]["teacher"]["chrf"] == results[1]["teacher"]["chrf"]


@pytest.mark.parametrize("cache", [{"top_k": 5}, {"draws": 5}])
def test_a_run_learns_without_its_teacher(tmp_path, cache, small_shards):
    """Only the student is there, and the cache."""
    run = config(tmp_path, teacher_cache=str(tmp_path / "cache"), cache=cache, trainer={"max_steps": 4})
    fill_cache(run)
    run_config(run)
    shutil.move(tmp_path / "teacher", tmp_path / "gone")
    alone = replace(run, teacher=None, output_dir=str(tmp_path / "alone"))
    alone = replace(
        alone, student=replace(run.student, path=str(tmp_path / "run" / "student_init"), decoder_layers=None)
    )
    alone = replace(alone, student=replace(alone.student, freeze_encoder=True, freeze_embeds=True))
    results = run_config(alone)
    assert results["teacher"] is None
    assert [line["val_ce_loss"] for line in losses(alone)] == [line["val_ce_loss"] for line in losses(run)]


def test_interrupted_filling_goes_on_to_the_same_bytes(tmp_path, small_shards):
    run = config(tmp_path, teacher_cache=str(tmp_path / "cache"), cache={"draws": 5})
    fill_cache(run)
    whole = shards(tmp_path / "cache")
    assert len(whole) == 7
    for name in list(whole)[::2]:
        (tmp_path / "cache" / name).unlink()
    fill_cache(run)
    assert shards(tmp_path / "cache") == whole


def test_two_processes_share_the_work(tmp_path):
    """As torchrun starts them, on one machine or on several with a common disk."""
    alone = config(tmp_path, teacher_cache=str(tmp_path / "alone"))
    fill_cache(alone)
    command = ["cache", "--task", "translation", "--src_lang", "en", "--tgt_lang", "de"]
    command += ["--teacher", alone.teacher, "--data", *alone.data, "--teacher_cache", str(tmp_path / "shared")]
    command += ["--encode.max_source_length", "40", "--encode.max_target_length", "24"]
    command += ["--eval.max_target_length", "6", "--student.decoder_layers", "1"]
    Job(main, command, log=tmp_path / "log", processes=2).succeed()
    assert shards(tmp_path / "shared").keys() == shards(tmp_path / "alone").keys()
    assert (tmp_path / "shared" / "cache.json").read_text() == (tmp_path / "alone" / "cache.json").read_text()


class Fail(Callback):
    """Ends the run after its third step."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            raise RuntimeError("enough")


def test_a_run_with_a_cache_is_resumed_exactly(tmp_path):
    common = {"teacher_cache": str(tmp_path / "cache"), "trainer": {"max_steps": 6, "save_every_n_steps": 1}}
    whole, half = (config(tmp_path, **common, output_dir=str(tmp_path / name)) for name in ("whole", "half"))
    run_config(whole)
    with pytest.raises(RuntimeError, match="enough"):
        run_config(half, [Fail()])
    run_config(half)
    assert losses(half) == losses(whole)


def test_hidden_states_are_not_cached(tmp_path):
    run = config(tmp_path, teacher_cache=str(tmp_path / "cache"), loss={"alpha_hid": 1.0})
    with pytest.raises(ConfigError, match="`loss.alpha_hid` 1.0 needs hidden states, which `teacher_cache`"):
        run_config(run)


def test_a_cache_that_is_not_full_needs_its_teacher(tmp_path, small_shards):
    run = config(tmp_path, teacher_cache=str(tmp_path / "cache"))
    fill_cache(run)
    (tmp_path / "cache" / "val" / "00000000.safetensors").unlink()
    alone = replace(run, teacher=None, student=replace(run.student, path=run.teacher, decoder_layers=None))
    with pytest.raises(ConfigError, match="lacks 1 of 7 shards: fill it by `distill cache`, or add `teacher`"):
        run_config(alone)


def test_eight_bits_cost_less_than_a_hundredth_of_the_loss(tmp_path):
    found = {}
    for precision in ("8bit", "float32"):
        run = config(
            tmp_path,
            teacher_cache=str(tmp_path / precision),
            cache={"top_k": 50, "precision": precision},
            output_dir=str(tmp_path / f"run-{precision}"),
            trainer={"max_steps": 1},
        )
        run_config(run)
        found[precision] = losses(run)[0]["val_ce_loss"]
    assert found["8bit"] == pytest.approx(found["float32"], rel=0.01)
    assert found["8bit"] != found["float32"]
    assert torch.isfinite(torch.tensor(list(found.values()))).all()
