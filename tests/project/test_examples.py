"""Every script in examples/ does what it says, in a few steps."""

import runpy
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM

from tests.tiny_runs import save_teacher, write_data

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, **arguments: object) -> dict[str, float]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**arguments)


def test_every_example_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"extensions", "lightning", "trainer", "adaptor", "server"}


def test_extensions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, data = str(save_teacher(tmp_path / "teacher")), str(write_data(tmp_path / "data"))
    results = run("extensions", output_dir=str(tmp_path / "run"), max_steps=2, rows=24, teacher=teacher, data=data)
    assert results["student"]["parameters"] < results["teacher"]["parameters"]
    assert "teachers_choice" in (tmp_path / "run" / "metrics.jsonl").read_text()
    told = capsys.readouterr().out
    assert f"step 0: the best student so far is in {tmp_path / 'run' / 'best'}" in told
    assert "the longest source had" in told


def test_lightning(tmp_path: Path) -> None:
    teacher, data = str(save_teacher(tmp_path / "teacher")), str(write_data(tmp_path / "data"))
    metrics = run("lightning", output_dir=str(tmp_path / "run"), max_steps=2, rows=24, teacher=teacher, data=data)
    assert {"val_loss", "val_bleu", "val_chrf"} <= metrics.keys()
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run").config.decoder_layers == 1


def test_trainer(tmp_path: Path) -> None:
    """On the demo: it trains, goes on from its checkpoint, and evaluates."""
    for steps in (2, 4):
        metrics = run("trainer", output_dir=str(tmp_path), max_steps=steps, rows=32)
        assert {"eval_loss", "eval_bleu", "eval_ce_loss", "eval_hid_loss_dec"} <= metrics.keys()
        assert (tmp_path / f"checkpoint-{steps}").is_dir()
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path).config.decoder_layers == 1


def test_adaptor() -> None:
    results = run("adaptor", steps=60)
    assert results["agreement"] > results["agreement_before"] + 0.1


def test_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("fastapi.testclient", reason="needs fastapi, which is not installed")
    monkeypatch.setenv("MODEL", str(save_teacher(tmp_path / "model", "bart")))
    with client.TestClient(runpy.run_path(str(EXAMPLES / "server.py"))["app"]) as server:
        outputs = server.post("/generate", json={"texts": ["a dog runs", ""]}).json()["outputs"]
        assert len(outputs) == 2 and outputs[1] == ""
        assert server.post("/generate", json={"texts": "a"}).status_code == 422
