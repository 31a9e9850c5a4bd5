"""`distill plan`: layouts measured beside the teacher, and a config that trains the chosen one."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from seq2seq_distill.cli import main as cli
from seq2seq_distill.commands.plan.command import make_plan, write_config
from seq2seq_distill.commands.plan.options import PlanConfig
from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_runs import config


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is spent on making figures exact."""
    monkeypatch.setattr("seq2seq_distill.commands.plan.measuring.SECONDS", 0.0)
    monkeypatch.setattr("seq2seq_distill.commands.plan.command.PROBE_STEPS", 1)


def planned(tmp_path: Path, run: RunConfig | None = None, **wishes: Any) -> PlanConfig:
    run = run or config(tmp_path)
    fields = {name: getattr(run, name) for name in asdict(run)}
    return PlanConfig(**fields, **{"repeats": 2, "output_length": 5, "trial_steps": 2, **wishes})


def test_the_chosen_layout_is_written_and_trains(tmp_path, capsys):
    options = {"ffn": [0.5], "vocabulary": [1.0, 0.75], "decoder_depths": [1], "contenders": 2}
    wish = planned(tmp_path, speedup=0.01, write=str(tmp_path / "plan.yaml"), **options)
    validate(wish)
    report = make_plan(wish)
    assert json.loads(capsys.readouterr().out) == report
    names = [each["name"] for each in report["layouts"]]
    assert names == [
        "2-1, feed-forward 16",
        "2-1, feed-forward 16, vocabulary 61",
        "1-1, feed-forward 16",
        "1-1, feed-forward 16, vocabulary 61",
    ]
    teacher = report["teacher"]
    assert all(each["parameters"] < teacher["parameters"] for each in report["layouts"])
    assert [each["dimension"] for each in report["alone"]] == [
        *("encoder layers", "decoder layers", "feed-forward", "vocabulary")
    ]
    assert report["alone"][-1]["length_growth"] > 1 and report["alone"][-1]["loss"] > 0
    # Every one is fast enough, and this one is larger than the others.
    assert report["chosen"] == "2-1, feed-forward 16"
    (largest,) = (each for each in report["layouts"] if each["loss"] is not None)
    assert largest["name"] == report["chosen"]
    assert largest["measured"]["memory_bytes"] > largest["measured"]["bytes"] == largest["bytes"]
    assert report["training"]["memory_bytes"] > teacher["bytes"]
    assert not (tmp_path / "run").exists()

    run = cli.parse("run", ["--config", str(tmp_path / "plan.yaml")])
    width = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    assert run == config(tmp_path, student={"encoder_layers": 2, **width})
    run_config(run)
    written = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert (written["encoder_layers"], written["decoder_layers"], written["decoder_ffn_dim"]) == (2, 1, 16)


def test_a_small_vocabulary_is_chosen_by_size_and_written(tmp_path):
    """Also through CTranslate2, whose 8-bit weights are those that must be small."""
    pytest.importorskip("ctranslate2", reason="needs ctranslate2, which is not installed")
    options = {"ffn": [1.0], "encoder_depths": [2], "decoder_depths": [2], "vocabulary": [1.0, 60.0, 50.0]}
    int8 = make_plan(planned(tmp_path, engine="ctranslate2", **options))
    assert int8["teacher"]["bytes"] < 2 * int8["teacher"]["parameters"]
    sizes = {each["vocabulary"]: each["bytes"] for each in int8["layouts"]}
    assert [*sizes] == [60, 50]
    wish = {"max_mb": (sizes[60] + 1) / 1e6, "trial_steps": 0, "write": str(tmp_path / "plan.yaml")}
    report = make_plan(planned(tmp_path, engine="ctranslate2", **options, **wish))
    assert report["chosen"] == "2-2, vocabulary 60"
    assert [each["loss"] is not None for each in report["layouts"]] == [True, False]
    run = cli.parse("run", ["--config", str(tmp_path / "plan.yaml")])
    assert (run.trim.size, run.student.encoder_ffn_dim, run.student.decoder_layers) == (60, None, 2)


def test_a_vocabulary_that_keeps_too_little_is_tried_only_if_asked_for(tmp_path, caplog):
    """A plan for the built-in teacher chose a quarter of its tokens, which cannot write a third of the texts."""
    caplog.set_level("INFO")
    small = {"ffn": [1.0], "encoder_depths": [1], "decoder_depths": [1], "trial_steps": 0}
    tried = {each["vocabulary"] for each in make_plan(planned(tmp_path, **small))["layouts"]}
    left_out = {int(size) for size in re.findall(r"a vocabulary of (\d+) tokens is left out", caplog.text)}
    assert left_out and not left_out & tried
    asked = make_plan(planned(tmp_path, **small, vocabulary=[1.0, float(max(left_out))]))
    assert max(left_out) in {each["vocabulary"] for each in asked["layouts"]}


def test_what_the_run_sets_is_the_only_step(tmp_path):
    run = config(tmp_path, "t5", student={"encoder_ffn_dim": 0.5, "decoder_ffn_dim": 0.5}, trim={"coverage": 0.9})
    report = make_plan(planned(tmp_path, run, decoder_depths=[1], encoder_depths=[1]))
    found = {(each["encoder_ffn_dim"], each["num_heads"], each["vocabulary"]) for each in report["layouts"]}
    teacher = report["teacher"]
    ((ffn, _, tokens), *_) = found
    assert found == {(ffn, teacher["num_heads"], tokens), (ffn, teacher["num_heads"] // 2, tokens)}
    assert ffn == teacher["encoder_ffn_dim"] // 2 and tokens < teacher["vocabulary"]
    assert not (tmp_path / "run").exists()


def test_a_teacher_alone_is_enough(tmp_path):
    run = config(tmp_path)
    alone = planned(tmp_path, RunConfig(task="translation", teacher=run.teacher, src_lang="en", tgt_lang="de"))
    validate(alone)
    report = make_plan(alone)
    assert report["source_length"] == 48  # 256, if the teacher had as many positions
    assert report["chosen"] is None and report["training"] is None
    assert {each["vocabulary"] for each in report["layouts"]} < {report["teacher"]["vocabulary"], *range(60)}
    assert {each["loss"] for each in report["layouts"]} == {None}


def test_the_beams_and_the_length_are_those_asked_for(tmp_path, monkeypatch):
    seen = []

    def generate_batch(model, batch, settings):
        seen.append((settings.num_beams, settings.max_length, settings.min_length, *batch["input_ids"].shape))
        return [[1] * 5] * len(batch["input_ids"])

    monkeypatch.setattr("seq2seq_distill.metrics.cost.generate_batch", generate_batch)
    make_plan(planned(tmp_path, config(tmp_path, eval={"beams": 3}), rows=2, source_length=7, vocabulary=[1.0]))
    assert set(seen) == {(3, 6, 5, 2, 7)}


def test_what_is_too_fast_is_refused_with_what_there_is(tmp_path):
    with pytest.raises(ConfigError, match=r"`speedup` 900.*: no layout is as fast .* times the teacher's speed"):
        make_plan(planned(tmp_path, speedup=900.0, vocabulary=[1.0], ffn=[1.0]))


def test_several_divergences_are_written(tmp_path):
    """A default that is a text beside a value that is a mapping ended in a traceback, after all measuring."""
    run = config(tmp_path, loss={"divergence": {"forward_kl": 1.0, "reverse_kl": 0.5}})
    write_config(tmp_path / "plan.yaml", run)
    assert cli.parse("run", ["--config", str(tmp_path / "plan.yaml")]) == run


def test_a_plan_that_cannot_be_written_is_refused_before_the_measuring(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="^`write` .*: File exists; choose a file that can be written$"):
        make_plan(planned(tmp_path, speedup=1.0, write=str(tmp_path / "file" / "plan.yaml")))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"write": "x"}, "`write` x needs a target: add `speedup`, `max_latency_ms` or `max_mb`"),
        ({"speedup": 0.0}, "`speedup` 0.0 is too small: choose more than 0"),
        ({"decoder_depths": [3]}, "`decoder_depths` 3"),
        ({"source_length": 99}, "`source_length` 99 exceeds the teacher's 48: choose less"),
        ({"heads": [1]}, "`heads` 1: the heads of marian models divide their width and cannot be removed alone"),
        ({"ffn": [1.0, 2.0]}, "`ffn` 1.0 2.0: choose more than 0 and at most 1 for every value"),
        ({"vocabulary": [1.5]}, "`vocabulary` 1.5: choose fractions above 0 and up to 1, or numbers of tokens"),
        ({"vocabulary": [8.0]}, "`vocabulary`: `trim.size` 8 is too small for .*: choose at least"),
        ({"quantization": "int8"}, "`quantization` int8 needs `engine` ctranslate2: add it"),
    ],
)
def test_mistakes(tmp_path, wishes, message):
    wish = planned(tmp_path, **wishes)
    with pytest.raises(Exception, match=message):
        validate(wish)
        make_plan(wish)


@pytest.mark.parametrize(
    ("changes", "wishes", "message"),
    [
        ({"student": {"num_heads": 2}}, {"heads": [2]}, "`heads` 2 and `student.num_heads` 2 both say what is tried"),
        ({"trim": {"size": 99}}, {"vocabulary": [0.5]}, "`vocabulary` 0.5 and `trim.size` 99 both say what is tried"),
        ({"student": {"d_model": 8}}, {}, "`student.d_model` 8: a plan does not change the width"),
        ({"trim": {"separate": True}, "method": "sft"}, {}, None),
    ],
)
def test_options_of_the_run_that_do_not_go_together_with_those_of_the_plan(tmp_path, changes, wishes, message):
    wish = planned(tmp_path, config(tmp_path, **changes), **wishes)
    if message is None:
        validate(wish)
        return
    with pytest.raises(ConfigError, match=message):
        validate(wish)
