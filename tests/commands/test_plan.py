"""`distill plan`: layouts measured beside the teacher, and a config that trains the chosen one."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from seq2seq_distill.cli import main as cli
from seq2seq_distill.commands.plan.command import make_plan
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_runs import config


def planned(tmp_path: Path, run: RunConfig | None = None, **wishes: object) -> PlanConfig:
    run = run or config(tmp_path)
    fields = {name: getattr(run, name) for name in asdict(run)}
    return PlanConfig(**fields, repeats=2, output_length=5, **wishes)


def test_the_chosen_layout_is_written_and_trains(tmp_path, capsys):
    wish = planned(tmp_path, speedup=0.01, write=str(tmp_path / "plan.yaml"))
    validate(wish)
    report = make_plan(wish)
    assert json.loads(capsys.readouterr().out) == report
    names = [f"{each['encoder_layers']}-{each['decoder_layers']}" for each in report["layouts"]]
    assert names == ["2-2", "2-1", "1-2", "1-1"]
    teacher, *others = report["layouts"]
    assert all(each["parameters"] < teacher["parameters"] for each in others)
    assert all(each["memory_bytes"] > each["bytes"] > 0 for each in report["layouts"])
    assert report["chosen"] == "2-1"  # every one is fast enough, and this one keeps the whole encoder
    assert report["training"]["memory_bytes"] > teacher["bytes"]
    assert report["output_length"] == 5
    run = cli.parse("run", ["--config", str(tmp_path / "plan.yaml")])
    assert run == config(tmp_path, student={"encoder_layers": 2})
    run_config(run)
    written = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert (written["encoder_layers"], written["decoder_layers"]) == (2, 1)


def test_a_teacher_alone_is_enough(tmp_path):
    run = config(tmp_path)
    alone = planned(tmp_path, RunConfig(task="translation", teacher=run.teacher, src_lang="en", tgt_lang="de"))
    validate(alone)
    report = make_plan(alone)
    assert report["source_length"] == 48  # 256, if the teacher had as many positions
    assert report["chosen"] is None and report["training"] is None


def test_the_beams_and_the_length_are_those_asked_for(tmp_path, monkeypatch):
    seen = []

    def generate_batch(model, batch, settings):
        seen.append((settings.num_beams, settings.max_length, settings.min_length, *batch["input_ids"].shape))
        return [[1] * 5] * len(batch["input_ids"])

    monkeypatch.setattr("seq2seq_distill.metrics.cost.generate_batch", generate_batch)
    make_plan(planned(tmp_path, config(tmp_path, eval={"beams": 3}), rows=2, source_length=7))
    assert set(seen) == {(3, 6, 5, 2, 7)}


def test_what_is_too_fast_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"`speedup` 900.*: no layout is as fast, .* times the teacher's speed"):
        make_plan(planned(tmp_path, speedup=900.0))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"write": "x"}, "`write` x needs a speed target: add `speedup` or `max_latency_ms`"),
        ({"speedup": 0.0}, "`speedup` 0.0 is too small: choose more than 0"),
        ({"decoder_depths": [3]}, "`decoder_depths` 3"),
        ({"source_length": 99}, "`source_length` 99 exceeds the teacher's 48: choose less"),
    ],
)
def test_mistakes(tmp_path, wishes, message):
    wish = planned(tmp_path, **wishes)
    with pytest.raises(Exception, match=message):
        validate(wish)
        make_plan(wish)
