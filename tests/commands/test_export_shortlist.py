"""`distill export --shortlist true`, and the commands that use such a folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSeq2SeqLM

from seq2seq_distill import load_decoder
from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.evaluate.candidates import open_model
from seq2seq_distill.commands.evaluate.options import EvaluateConfig
from seq2seq_distill.commands.evaluate.scores import loss_of_main_score
from seq2seq_distill.commands.export.shortlist import training_pairs
from seq2seq_distill.data.sources import ANY_COLUMNS, load_split
from seq2seq_distill.decoding.conversion import FIRST_IDS
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.shortlist.vmap import VMAP
from tests.tiny_runs import save_teacher, write_data


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A model that has learned nothing, but writes this and that, and data."""
    monkeypatch.setattr("seq2seq_distill.decoding.parity.LEAST_EQUAL", 0.0)
    monkeypatch.setattr("seq2seq_distill.commands.export.shortlist.FREQUENT", (5, 10, 20, 40, 60, 80))
    monkeypatch.setattr("seq2seq_distill.commands.export.shortlist.BEST", (0, 1, 2))
    folder = save_teacher(tmp_path / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    # PyTorch draws other numbers on a processor with other vector instructions.
    random = np.random.default_rng(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.from_numpy(random.normal(scale=0.3, size=parameter.shape)).float()
    model.get_decoder().embed_positions.weight.data.mul_(3)
    model.final_logits_bias[0, model.config.eos_token_id] = -100.0
    model.save_pretrained(folder)
    return folder, write_data(tmp_path / "data", 40)


def command(things: tuple[Path, Path], *more: str) -> list[str]:
    model, data = things
    given = ["export", "--model", str(model), "--data", str(data), "--task", "translation", "--tgt_lang", "de"]
    options = ["--output_dir", str(model.parent / "out"), "--max_target_length", "8", "--n", "4", "--beams", "1"]
    return [*given, *options, "--shortlist", "true", "--shortlist_max_loss", "100", *more]


def test_the_folder_and_those_who_use_it(things, tmp_path, capsys):
    assert main(command(things, "--shortlist_coverage", "0.6")) == 0
    out = things[0].parent / "out"
    report = json.loads((out / "export.json").read_text())["shortlist"]
    assert report["pairs"] == 40 and report["texts"] == 10 and report["metric"] == "bleu"
    assert 0.6 <= report["coverage"] <= 1 and 0 <= report["unchanged"] < 1
    assert 1 < report["mean_candidates"] < report["vocabulary"]
    assert report["low"] <= report["loss"] <= report["high"]
    tokens = json.loads((out / "shared_vocabulary.json").read_text())
    assert json.loads((out / FIRST_IDS).read_text()) == [0, 1, len(tokens) - 1]
    assert tokens[:3] == ["</s>", "<unk>", "<pad>"]
    key, candidates = (out / VMAP).read_text("utf-8").splitlines()[0].split("\t")
    assert key == "" and candidates.split(" ")[:3] == tokens[:3]
    generator = load_decoder(out)
    decoder = generator.decoder
    assert isinstance(decoder, CTranslate2Decoder) and decoder.shortlist
    inputs = decoder.encode((things[1] / "val.source").read_text().splitlines())
    whole = CTranslate2Decoder(out, generator.loaded, batch_size=1, shortlist=False).decode(inputs)
    short = CTranslate2Decoder(out, generator.loaded, batch_size=1).decode(inputs)
    equal = sum(a.ids == b.ids for (a, *_), (b, *_) in zip(whole, short, strict=True)) / len(inputs)
    assert equal == report["unchanged"] < 1
    opened = open_model(EvaluateConfig(models=[str(out)], task="translation", device="cpu"), str(out))
    assert opened is not None and isinstance(opened.decoder, CTranslate2Decoder) and opened.decoder.shortlist
    places = ["--data", str(things[1]), "--output_dir", str(tmp_path / "made")]
    assert main(["label", "--model", str(out), *places, "--split", "val", "--max_tokens", "1"]) == 0
    labels = load_split(str(tmp_path / "made"), "val")
    assert labels["target"] == [best.text for best, *_ in short]


@pytest.mark.parametrize("name", ["label", "evaluate", "generate"])
def test_options_that_it_breaks_are_refused(things, tmp_path, capsys, name):
    assert main(command(things)) == 0
    capsys.readouterr()
    out, refused = str(things[0].parent / "out"), ["--generate", '{"no_repeat_ngram_size": 3}']
    places = ["--data", str(things[1]), "--output_dir", str(tmp_path / "made")]
    source = str(things[1] / "val.source")
    more = {
        "label": ["--model", out, *places],
        "evaluate": ["--models", out, *places, "--task", "translation"],
        "generate": ["--model", out, "--input", source],
    }[name]
    assert main([name, *more, *refused]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"distill: --generate: no_repeat_ngram_size 3 cannot be used with the shortlist of {out}: set --generate "
        "'{\"no_repeat_ngram_size\": 0}', or export the model without it"
    )


def test_another_language_is_refused(things, capsys):
    assert main(command(things)) == 0
    out = str(things[0].parent / "out")
    assert main(["generate", "--model", out, "--input", str(things[1] / "val.source"), "--tgt_lang", "fr"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"distill: --tgt_lang fr: --model {out} has a shortlist for de: export it again for this language, or without "
        "a shortlist"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--generate", '{"repetition_penalty": 1.5}'],
            "--generate: repetition_penalty 1.5 cannot be used with --shortlist: set --generate "
            "'{\"repetition_penalty\": 1.0}', or leave --shortlist out",
        ),
        (["--format", "onnx"], "--shortlist needs --format ctranslate2, not onnx: leave it out"),
        (["--shortlist_coverage", "0"], "--shortlist_coverage 0"),
        (["--shortlist_coverage", "1.5"], "--shortlist_coverage 1.5"),
        (["--shortlist_max_loss", "-1"], "--shortlist_max_loss -1"),
    ],
)
def test_mistakes(things, capsys, more, words):
    arguments = command(things)
    if more[0] in arguments:
        place = arguments.index(more[0])
        del arguments[place : place + 2]
    assert main([*arguments, *more]) == 2
    assert words in capsys.readouterr().err
    assert not (things[0].parent / "out").exists()


def test_without_a_task_there_is_no_score(things, capsys):
    arguments = command(things)
    place = arguments.index("--task")
    del arguments[place : place + 2]
    assert main(arguments) == 2
    assert "--task is missing: --shortlist needs it" in capsys.readouterr().err


def test_a_loss_above_the_limit_leaves_nothing(things, capsys):
    references = things[1] / "val.target"
    assert main(command(things)) == 0
    generator = load_decoder(things[0].parent / "out")
    whole = CTranslate2Decoder(generator.decoder.folder, generator.loaded, shortlist=False)
    outputs = whole.decode(whole.encode((things[1] / "val.source").read_text().splitlines()))
    references.write_text("".join(f"{best.text or 'x'}\n" for best, *_ in outputs))
    arguments = command(things, "--shortlist_coverage", "0.01")
    arguments[arguments.index("--shortlist_max_loss") + 1] = "0.1"
    arguments[arguments.index("--output_dir") + 1] = str(things[0].parent / "other")
    assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("distill: --shortlist_max_loss 0.1: the shortlist costs ") and "points of BLEU (95% " in line
    assert line.endswith("raise --shortlist_coverage 0.01 or this limit; nothing was written")
    assert not (things[0].parent / "other").exists()


def test_a_run_is_compared_on_val_and_learned_from_what_the_teacher_wrote(things, tmp_path):
    """Of [labels, data], the sentences of the label set's train split once chose the shortlist that they had taught;
    and the labels of a run with `targets: teacher` were passed over."""
    model, data = things
    explicit, of_run = tmp_path / "explicit", tmp_path / "run"
    for run, labels in ((explicit, tmp_path / "labels"), (of_run, of_run / "labels")):
        shutil.copytree(model, run / "best")
        write_data(labels, 12, seed=1)
        for split in ("val", "test"):
            for side in ("source", "target"):
                (labels / f"{split}.{side}").unlink()
        (labels / "label.json").write_text("{}")
    record = {"task": "translation", "tgt_lang": "de", "provenance": {}}
    for run, targets, sources in (
        (explicit, "reference", [str(tmp_path / "labels"), str(data)]),
        (of_run, "teacher", [str(data)]),
    ):
        (run / "run.yaml").write_text(yaml.safe_dump({**record, "targets": targets, "data": sources}))
        out = run / "out"
        options = ("--max_target_length", "8", "--n", "4", "--beams", "1", "--shortlist_max_loss", "100")
        assert main(["export", "--model", str(run), "--output_dir", str(out), "--shortlist", "true", *options]) == 0
        report = json.loads((out / "export.json").read_text())
        assert report["shortlist"]["pairs"] == 12 and report["shortlist"]["texts"] == 10
        assert report["data"] == sources


def test_the_loss_of_summaries_in_another_script_is_measured():
    """ROUGE's default tokenizer drops Cyrillic letters: every shortlist passed."""
    references = ["мама мыла раму", "кошка сидит дома"]
    loss = loss_of_main_score("summarization", references, ["рама", "кошка сидит"], references, "ru", 100, 0)
    assert loss.loss > 20


def test_pairs_are_those_of_label_sets_where_there_are_some(tmp_path):
    original, labels = write_data(tmp_path / "data", 8), write_data(tmp_path / "labels", 12, seed=1)
    assert len(training_pairs([str(original), str(labels)], ANY_COLUMNS)) == 20
    (labels / "label.json").write_text("{}")
    assert len(training_pairs([str(original), str(labels)], ANY_COLUMNS)) == 12
