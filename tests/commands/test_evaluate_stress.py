"""`distill evaluate --stress`, and data without references."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from seq2seq_distill import metrics
from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.evaluate import command
from seq2seq_distill.data.noise.kinds import KINDS
from tests.tiny_runs import save_teacher, write_data

ROWS = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, data of 40 rows, 10 of them to test on, and outputs from elsewhere."""
    folder = tmp_path_factory.mktemp("stress")
    save_teacher(folder / "first")
    save_teacher(folder / "second", seed=5)
    write_data(folder / "data", ROWS)
    for side in ("source", "target"):  # the vocabulary lacks the stop, so that leaving it out is no loss
        file = folder / "data" / f"test.{side}"
        file.write_text(file.read_text("utf-8").replace("\n", ".\n"), "utf-8")
    (folder / "mono.txt").write_text((folder / "data" / "test.source").read_text("utf-8"), "utf-8")
    (folder / "outputs.txt").write_text("ein hund\n" * (ROWS // 4), "utf-8")
    return folder


def evaluate(place: Path, out: Path, models: list[str], data: str, *more: str) -> tuple[int, Path]:
    own = ["--data", str(place / data), "--task", "translation", "--src_lang", "en", "--tgt_lang", "de"]
    names = [str(place / model) for model in models]
    options = ["--max_target_length", "8", "--resamples", "100", "--n_speed", "0", "--output_dir", str(out)]
    return main(["evaluate", "--models", *names, *own, *options, *more]), out


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text("utf-8"))


def test_scores_on_noisy_sources_stand_beside_each_other(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[list[str]] = []
    decode_all = command.decode_all

    def recorded(decoder: Any, texts: list[str], *args: Any) -> Any:
        decoded.append(list(texts))
        return decode_all(decoder, texts, *args)

    monkeypatch.setattr(command, "decode_all", recorded)
    stress = ["--stress", "upper", "typos", "no_stop"]
    code, out = evaluate(place, tmp_path / "out", ["first", "outputs.txt", "second"], "data", *stress)
    assert code == 0
    found = results(out)
    assert list(found["stress"]) == ["clean", "typos", "no_stop"]
    assert "stress upper is left out: the vocabulary of first cannot write it" in caplog.text
    assert all(list(by_name) == ["first", "second"] for by_name in found["stress"].values())
    for model in ("first", "second"):
        [own] = [each for each in found["models"] if each["name"] == model]
        assert found["stress"]["clean"][model]["chrf"] == pytest.approx(own["scores"]["chrf"]["score"])
    sources = (place / "mono.txt").read_text("utf-8").splitlines()
    clean, without_stops = decoded[0], decoded[-1]
    assert clean == sources and without_stops == [source[:-1] for source in sources]
    typos = [KINDS["typos"]((s, ""), Random(f"typos 12345 {n}"), ("en", "de"))[0] for n, s in enumerate(sources)]
    assert decoded[2] == decoded[3] == typos != sources
    table = (out / "results.md").read_text("utf-8")
    assert "| metric | model | clean | typos | no_stop |" in table


def test_without_references_models_are_compared_with_the_first(place: Path, tmp_path: Path) -> None:
    page = str(tmp_path / "page.html")
    code, out = evaluate(place, tmp_path / "out", ["first", "second", "outputs.txt"], "mono.txt", "--html", page)
    assert code == 0
    found = results(out)
    records = [json.loads(line) for line in (out / "outputs.jsonl").read_text("utf-8").splitlines()]
    texts = {name: [record["outputs"][name] for record in records] for name in ("first", "second", "outputs")}
    assert found["agreement"] == "first" and found["models"][0]["scores"] == {}
    for model in found["models"][1:]:
        expected = metrics.score("translation", texts[model["name"]], texts["first"], "de")
        assert {name: score["score"] for name, score in model["scores"].items()} == pytest.approx(expected)
        assert all(score["p"] is None for score in model["scores"].values())
    table = (out / "results.md").read_text("utf-8")
    assert "Scores against the outputs of first" in table and "| references |" not in table


def test_mistakes_are_told_in_one_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(place, tmp_path / "1", ["first"], "mono.txt")[0] == 2
    assert "has no references: add a model to --models" in capsys.readouterr().err
    assert evaluate(place, tmp_path / "2", ["outputs.txt"], "data", "--stress", "upper")[0] == 2
    assert "--stress upper needs a model, but all --models are files: name one" in capsys.readouterr().err
