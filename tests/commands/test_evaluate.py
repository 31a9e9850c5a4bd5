"""`distill evaluate` from the command line: figures that others can check, whole files, mistakes in one line."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from rouge_score.rouge_scorer import RougeScorer

from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.evaluate import command, comparison, speed
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.inputs import load_rows
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.decoding.loading import LoadedModel, load_model
from seq2seq_distill.utils.constants import SPLITS
from tests.processes import Job
from tests.tiny_runs import save_teacher, write_data

ROWS = 404
"""Of which 101 are the test split."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def outputs(folder: Path, name: str) -> list[str]:
    lines = (folder / "outputs.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["outputs"][name] for line in lines]


class Place:
    """A tiny model, data with 101 test examples, and the command for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = save_teacher(folder / "model")
        self.data = write_data(folder / "data", ROWS)
        references = (self.data / "test.target").read_text("utf-8").splitlines()
        good = [line if row % 5 else "anything else" for row, line in enumerate(references)]
        (folder / "good.txt").write_text("\n".join(good) + "\n", "utf-8")

    def command(self, *more: str, models: list[str] | None = None, task: str = "translation") -> list[str]:
        chosen = models or [str(self.model), str(self.model), str(self.folder / "good.txt")]
        own = ["--data", str(self.data), "--task", task, "--src_lang", "en", "--tgt_lang", "de"]
        return ["evaluate", "--models", *chosen, *own, "--max_target_length", "8", "--resamples", "200", *more]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def judged(place: Place) -> Path:
    """The folder of an evaluation of a model, the model again, and a file; with speed, memory and page."""
    out = place.folder / "out"
    page = str(place.folder / "page" / "report.html")
    known: dict[str, int | None] = {}

    def peak_memory(config: Any, model: str, texts: Any) -> int | None:
        """The same model's need not be measured twice."""
        if model not in known:
            known[model] = speed.peak_memory(config, model, texts)
        return known[model]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "peak_memory", peak_memory)
        assert main(place.command("--output_dir", str(out), "--n_speed", "12", "--beams", "2", "--html", page)) == 0
    return out


class TestFigures:
    def test_bleu_and_chrf_are_those_of_the_sacrebleu_command(self, place, judged, tmp_path):
        results = read(judged / "results.json")
        assert [model["name"] for model in results["models"]] == ["model", "model (2)", "good"]
        for model in results["models"]:
            system = tmp_path / "system.txt"
            system.write_text("\n".join(outputs(judged, model["name"])) + "\n", "utf-8")
            command = [sys.executable, "-m", "sacrebleu", str(place.data / "test.target"), "-i", str(system)]
            done = subprocess.run([*command, "-m", "bleu", "chrf", "-w", "2"], capture_output=True, check=True)
            for found in json.loads(done.stdout):
                key = {"BLEU": "bleu", "chrF2": "chrf"}[found["name"]]
                assert round(model["scores"][key]["score"], 2) == found["score"]
                assert found["signature"] == results["signatures"][key]

    def test_rouge_is_that_of_the_rouge_score_package(self, place, tmp_path):
        models = [str(place.folder / "good.txt")]
        assert main(place.command("--output_dir", str(tmp_path), models=models, task="summarization")) == 0
        references = (place.data / "test.target").read_text("utf-8").splitlines()
        scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
        pairs = zip(references, outputs(tmp_path, "good"), strict=True)
        wanted = [scorer.score(reference, text) for reference, text in pairs]
        [model] = read(tmp_path / "results.json")["models"]
        for key in ("rouge1", "rouge2", "rougeL"):
            assert model["scores"][key]["score"] == pytest.approx(100 * fmean(own[key].fmeasure for own in wanted))

    def test_a_model_equals_itself_and_a_better_one_does_not(self, judged):
        first, same, good = read(judged / "results.json")["models"]
        for metric in ("bleu", "chrf"):
            assert first["scores"][metric]["p"] is None
            assert same["scores"][metric] == {**first["scores"][metric], "p": 1.0}
            assert good["scores"][metric]["p"] < 0.01
            assert good["scores"][metric]["low"] > first["scores"][metric]["high"]

    def test_costs_are_measured_and_files_have_none(self, place, judged):
        first, same, good = read(judged / "results.json")["models"]
        assert first["bytes"] == (place.model / "model.safetensors").stat().st_size
        assert first["parameters"] == same["parameters"] > 1000 and first["beams"] == 2
        assert first["speed"]["speedup"] == 1 and 0.2 < same["speed"]["speedup"] < 5
        for model in (first, same):
            speed = model["speed"]
            assert 0 < speed["latency_ms"] <= speed["p95_ms"] and speed["examples_per_second"] > 0
            assert 1_000_000 < model["peak_memory"] < 1_000_000_000
            assert (model["tensor_memory"] is None) == (model["engine"] == "ctranslate2")
            assert model["threads"] == "1 thread"
        unknown = ("parameters", "bytes", "tensor_memory", "peak_memory", "beams", "threads", "speed", "gen_len")
        assert good["engine"] == "outputs" and all(good[name] is None for name in unknown)

    def test_behaviour_is_counted(self, judged):
        first, _, good = read(judged / "results.json")["models"]
        assert good["faults"]["empty"] == 0 and good["faults"]["cut"] is None
        assert 0 <= first["faults"]["cut"] <= 1 and first["gen_len"] <= 8

    def test_two_processes_give_what_one_gives(self, place, judged, tmp_path):
        """101 examples: neither by two nor by the batch do they come out even."""
        command = place.command("--output_dir", str(tmp_path / "two"), "--n_speed", "0", "--beams", "2")
        Job(main, command, log=tmp_path / "log", processes=2).succeed()
        assert (tmp_path / "two" / "outputs.jsonl").read_bytes() == (judged / "outputs.jsonl").read_bytes()
        one, two = read(judged / "results.json"), read(tmp_path / "two" / "results.json")
        assert (one["processes"], two["processes"], two["examples"]) == (1, 2, 101)
        for own, other in zip(one["models"], two["models"], strict=True):
            assert [own[key] for key in ("scores", "faults", "gen_len")] == [
                other[key] for key in ("scores", "faults", "gen_len")
            ]


class TestFiles:
    def test_markdown_and_page_have_the_figures(self, place, judged):
        results = read(judged / "results.json")
        shown = f"{results['models'][2]['scores']['bleu']['score']:.2f}"
        page = (place.folder / "page" / "report.html").read_text("utf-8")
        assert f"| BLEU | good | {shown} |" in (judged / "results.md").read_text("utf-8")
        assert f'<td class="n">{shown}</td>' in page and "Where good differs most from model" in page

    def test_a_run_s_best_model_knows_its_data_and_its_card_gets_the_scores(self, place, tmp_path):
        run = tmp_path / "student"
        save_teacher(run / "best")
        (run / "best" / "README.md").write_text("---\ntags:\n- translation\n---\n\n# A student\n\nText.\n")
        about = {"task": "translation", "data": [str(place.data)], "src_lang": "en", "tgt_lang": "de"}
        about |= {"encode": {"max_source_length": 40, "prefix": None}, "eval": {"max_target_length": 6, "beams": 3}}
        (run / "run.yaml").write_text(json.dumps(about))
        out = tmp_path / "out"
        command = ["evaluate", "--models", str(run / "best"), "--n_speed", "0", "--output_dir", str(out)]
        for n in ("20", "30"):
            assert main([*command, "--n", n]) == 0
        [model] = read(out / "results.json")["models"]
        assert (model["name"], model["beams"]) == ("student", 3)
        card = ModelCard.load(run / "best" / "README.md")
        assert card.text.count("## Evaluation") == 1 and "30 examples of" in card.text and "Text." in card.text
        assert card.data.tags == ["translation"] and card.data.model_name == "student"
        found = {result.metric_type: result for result in card.data.eval_results}
        assert list(found) == ["bleu", "chrf"] and found["bleu"].dataset_name == "data"
        assert found["bleu"].metric_value == round(model["scores"]["bleu"]["score"], 2)
        assert str(tmp_path) not in str(card.data)

    def test_an_exported_model_is_judged_beside_its_origin(self, place, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)  # this model has learned nothing
        served = tmp_path / "served"
        own = ["--data", str(place.data), "--task", "translation", "--tgt_lang", "de", "--n", "2"]
        export = ["export", "--model", str(place.model), "--output_dir", str(served), "--quantization", "float32"]
        assert main([*export, *own, "--max_target_length", "8"]) == 0
        options = ["--output_dir", str(tmp_path / "out"), "--beams", "1", "--n", "40", "--n_speed", "2"]
        command = place.command(*options, models=[str(place.model), str(served)])
        monkeypatch.setattr("seq2seq_distill.commands.evaluate.comparison.peak_memory", lambda *_: None)
        assert main(command) == 0
        first, exported = read(tmp_path / "out" / "results.json")["models"]
        assert (exported["engine"], exported["beams"]) == ("ctranslate2", 1)
        assert exported["parameters"] == first["parameters"]
        assert exported["bytes"] == (served / "model.bin").stat().st_size
        assert outputs(tmp_path / "out", "served") == outputs(tmp_path / "out", "model")
        assert exported["gen_len"] == first["gen_len"] and exported["faults"] == first["faults"]
        assert exported["speed"]["speedup"] > 0  # how much is no matter of a test: machines are busy
        assert main([*command, *TestGenerate.OPTIONS]) == 0
        assert outputs(tmp_path / "out", "served") == outputs(tmp_path / "out", "model")
        capsys.readouterr()
        assert main([*command, "--generate", '{"encoder_no_repeat_ngram_size": 2}']) == 2
        refusal = f"--models {served} is an exported model, and CTranslate2 has no encoder_no_repeat_ngram_size of"
        assert refusal in capsys.readouterr().err
        (served / "export.json").unlink()
        assert main(command) == 2


class TestGenerate:
    OPTIONS = ("--generate", '{"no_repeat_ngram_size": 2}')

    def test_it_is_as_if_every_model_had_it_in_its_own_config(self, place, tmp_path):
        own = Path(shutil.copytree(place.model, tmp_path / "own"))
        path = own / "generation_config.json"
        path.write_text(json.dumps(read(path) | {"no_repeat_ngram_size": 2}))
        command = place.command("--n_speed", "0", "--n", "20", models=[str(place.model), str(own)])
        assert main([*command, "--output_dir", str(tmp_path / "plain")]) == 0
        assert main([*command, "--output_dir", str(tmp_path / "out"), *self.OPTIONS]) == 0
        plain, unrepeated = (outputs(tmp_path / "plain", name) for name in ("model", "own"))
        assert plain != unrepeated
        assert outputs(tmp_path / "out", "model") == outputs(tmp_path / "out", "own") == unrepeated
        assert read(tmp_path / "out" / "results.json")["settings"]["generate"] == {"no_repeat_ngram_size": 2}

    def test_by_default_it_is_the_run_s(self, tmp_path):
        (tmp_path / "best").mkdir()
        about = {"task": "translation", "data": ["x"], "eval": {"generate": {"no_repeat_ngram_size": 3}}}
        (tmp_path / "run.yaml").write_text(json.dumps(about))
        config = EvaluateConfig(models=[str(tmp_path / "best")])
        assert command.with_decoding_of_run(config).generate == {"no_repeat_ngram_size": 3}
        other = {"repetition_penalty": 2.0}
        assert command.with_decoding_of_run(replace(config, generate=other)).generate == other

    def test_a_misspelt_option_is_told_before_anything_is_decoded(self, place, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(command, "decode_all", None)
        assert main(place.command("--output_dir", str(tmp_path), "--generate", '{"no_repeat_ngrams": 3}')) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("distill: ")]
        assert lines == ["distill: --generate no_repeat_ngrams=3 is no option of decoding a text: remove it"]


class TestLoading:
    @pytest.fixture
    def model(self, tmp_path):
        """One whose config has settings of its own for a task."""
        folder = save_teacher(tmp_path / "run" / "best")
        path = folder / "config.json"
        params = {"summarization": {"num_beams": 3, "prefix": "short: "}}
        path.write_text(json.dumps(read(path) | {"task_specific_params": params}))
        return folder

    def load(self, model: Path, **settings: Any) -> LoadedModel:
        return load_model(str(model), "--models", EvaluateConfig(task="summarization"), GenerationSettings(**settings))

    def test_what_the_config_says_of_the_task_counts(self, model):
        loaded = self.load(model)
        assert (loaded.generation.num_beams, loaded.prefix) == (3, "short: ")
        assert self.load(model, beams=2).generation.num_beams == 2

    def test_a_run_has_settled_it_already(self, model):
        (model.parent / "run.yaml").write_text("task: summarization\n")
        assert self.load(model).generation.num_beams == 1
        assert read_run_record(str(model)) == {"task": "summarization"} and read_run_record("no/such/model") == {}

    def test_sources_have_the_prefix_and_are_cut(self, model):
        loaded = self.load(model)
        ids = replace(loaded, max_length=4, prefix="").encode(["the dog", "the dog runs over the field"])
        assert len(ids[0]) <= 4 and len(ids[1]) == 4 and ids[1][-1] == loaded.tokenizer.eos_token_id
        plain, prefixed = (replace(loaded, prefix=text).encode(["the dog"])[0] for text in ("", "the "))
        assert len(prefixed) > len(plain)

    def test_sources_are_joined_where_they_have_the_split(self, place, tmp_path):
        more = write_data(tmp_path / "more", 8)
        for side in ("source", "target"):
            (more / f"val.{side}").unlink()
        sources = [str(place.data), str(more)]
        count = {split: len(load_rows(sources, split)) for split in SPLITS}
        assert count == {"train": ROWS + 8, "val": 101, "test": 103}

    def test_a_single_file_is_the_data_whatever_the_split(self, place, tmp_path):
        pairs = [{"source": f"the dog {n}", "target": f"der hund {n}"} for n in range(3)]
        file, other = tmp_path / "pairs.jsonl", tmp_path / "more.jsonl"
        for path in (file, other):
            path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))

        def rows(*sources: Path, split: str) -> list[dict[str, str]]:
            return load_rows([str(source) for source in sources], split).to_list()

        for split in SPLITS:
            assert rows(file, split=split) == pairs and rows(file, other, split=split) == 2 * pairs
        # Beside a folder, as in the data of a run, it is more to train on.
        assert rows(place.data, file, split="test") == rows(place.data, split="test")
        assert len(rows(place.data, file, split="train")) == ROWS + 3


class TestComet:
    @pytest.fixture
    def fake(self, tmp_path, monkeypatch):
        """A package of that name whose score is the share of the reference's length."""
        (tmp_path / "comet.py").write_text(
            "from types import SimpleNamespace\n"
            "def download_model(name):\n    assert name == 'Some/model'\n    return name\n"
            "def load_from_checkpoint(path):\n    return SimpleNamespace(predict=predict)\n"
            "def predict(segments, batch_size, gpus, progress_bar):\n"
            "    scores = [len(s['mt']) / max(1, len(s['ref'])) for s in segments if s['src']]\n"
            "    return SimpleNamespace(scores=scores)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def command(self, place: Place, out: Path, python: str) -> list[str]:
        models = [str(place.folder / "good.txt")] * 2
        return place.command(
            *("--output_dir", str(out), "--comet", "Some/model", "--comet_python", python), models=models
        )

    def test_scores_of_another_python_stand_beside_the_others(self, place, tmp_path, fake):
        assert main(self.command(place, tmp_path / "out", sys.executable)) == 0
        results = read(tmp_path / "out" / "results.json")
        references = (place.data / "test.target").read_text("utf-8").splitlines()
        texts = outputs(tmp_path / "out", "good")
        shares = [len(own) / len(reference) for own, reference in zip(texts, references, strict=True)]
        first, second = (model["scores"]["COMET"] for model in results["models"])
        assert first["score"] == pytest.approx(100 * fmean(shares)) and second["p"] == 1
        assert results["signatures"]["COMET"] == "Some/model, times 100"

    def test_a_python_without_it_is_told(self, place, tmp_path, capsys):
        assert main(self.command(place, tmp_path / "out", sys.executable)) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "(ModuleNotFoundError: No module named 'comet'): pip install unbabel-comet there, or leave" in line
        assert main(self.command(place, tmp_path / "out", str(tmp_path / "python"))) == 2
        assert "No such file or directory: name an interpreter" in capsys.readouterr().err


class TestMistakes:
    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--names", "a"], "--names a does not fit 3 models: give one for each"),
            (["--names", "a", "a", "b"], "--names a a b: give each model a different name"),
            (["--comet", "x"], "--comet x needs --comet_python"),
            (["--comet_python", "x"], "--comet_python x is given without --comet"),
            (["--n_speed", "-1"], "--n_speed -1 is too small: choose 0 or more"),
            (["--batch_size", "0"], "--batch_size 0 is too small: choose 1 or more"),
            (["--seed", "0"], "--seed 0 is too small: choose 1 to 4294967295"),
            (["--split", "all"], "--split all: expected one of train, val, test"),
            (["--html", "FOLDER/good.txt/x.html"], "choose a file that can be written"),
            (["--html", "FOLDER"], "cannot be written: choose a file"),
            (["--output_dir", "FOLDER/good.txt"], "choose a folder that can be written"),
            pytest.param(
                ["--device", "cuda"],
                "--device cuda: torch sees no GPU here: choose cpu, or auto",
                marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
            ),
        ],
    )
    def test_are_told_in_one_line(self, place, tmp_path, capsys, more, words):
        own = [] if "--output_dir" in more else ["--output_dir", str(tmp_path)]
        more = [part.replace("FOLDER", str(place.folder)) for part in more]
        assert main(place.command(*own, *more)) == 2
        assert words in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_models_are_needed_and_must_be_there(self, place, tmp_path, capsys):
        assert main(["evaluate", "--output_dir", str(tmp_path)]) == 2
        assert "--models is missing: name one" in capsys.readouterr().err
        models = [str(tmp_path / "nothing")]
        assert main(place.command("--output_dir", str(tmp_path), models=models)) == 2
        assert "--models" in capsys.readouterr().err

    def test_all_models_are_looked_at_before_the_first_decodes(self, place, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(command, "decode_all", None)
        (tmp_path / "few.txt").write_text("one\ntwo\n")
        (tmp_path / "empty").mkdir()
        wrong = {
            "nofile.txt": "no such folder",
            "few.txt": "has 2 lines for 101",
            "empty": "no config.json and therefore no model",
        }
        for name, words in wrong.items():
            models = [str(place.model), str(tmp_path / name)]
            assert main(place.command("--output_dir", str(tmp_path / "out"), models=models)) == 2
            [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("distill: ")]
            assert line.startswith(f"distill: --models {tmp_path / name}") and words in line

    def test_task_and_data_are_needed(self, place, tmp_path, capsys):
        command = ["evaluate", "--models", str(place.model), "--output_dir", str(tmp_path)]
        assert main([*command, "--data", str(place.data)]) == 2
        assert "--task is missing: choose summarization or translation" in capsys.readouterr().err
        assert main([*command, "--task", "translation"]) == 2
        assert "--data is missing: name the source of the examples" in capsys.readouterr().err

    def test_a_file_must_fit_the_data(self, place, tmp_path, capsys):
        (tmp_path / "few.txt").write_text("one\ntwo\n")
        (tmp_path / "bytes.txt").write_bytes(b"\xff\n" * 101)
        for name, words in (("few.txt", "has 2 lines for 101 examples"), ("bytes.txt", "not UTF-8")):
            models = [str(tmp_path / name)]
            assert main(place.command("--output_dir", str(tmp_path / "out"), models=models)) == 2
            assert words in capsys.readouterr().err
        models = [str(place.folder / "good.txt")]
        assert main(place.command("--output_dir", str(tmp_path / "out"), "--n", "7", models=models)) == 0

    def test_a_run_keeps_its_results(self, place, tmp_path, capsys):
        (tmp_path / "run.yaml").write_text("task: translation\n")
        assert main(place.command("--output_dir", str(tmp_path), "--n_speed", "0")) == 2
        assert "holds a run, whose results.json it is: choose another" in capsys.readouterr().err
