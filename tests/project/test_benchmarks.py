"""The benchmarks run, at a size that says nothing about speed."""

import json
from dataclasses import replace

import pytest

from benchmarks import (
    cache,
    cpu_precision,
    encoder,
    generate,
    gpu,
    labels,
    layouts,
    padding,
    served,
    server,
    shortlist,
    shrinking,
    timing,
    translate_file,
    trimming,
)
from benchmarks.pooled import PooledScores
from benchmarks.step import Shape
from benchmarks.trial import built, demo_config
from seq2seq_distill import demo
from seq2seq_distill.commands.budget import propose
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer
from seq2seq_distill.metrics import score
from seq2seq_distill.models.loading import load_pretrained

SMALL = {"encode": {"n_train": 60}, "eval": {"n_val": 4, "n_test": 4}}


def test_students_are_compared_with_the_whole_one_of_their_form():
    def model(name, scores, size, time):
        metrics = {metric: {"score": value} for metric, value in zip(("bleu", "chrf"), scores, strict=True)}
        return {"name": name, "scores": metrics, "bytes": size, "speed": {"latency_ms": time}}

    models = [model(served.TEACHER, (40.0, 60.0), 30e6, 90)]
    settings = ["whole", "narrow"]
    for index, setting in enumerate(settings):
        for form, factor in zip((served.PLAIN, *served.EXPORTS), (4, 2, 1), strict=True):
            for seed in (1, 2):
                bleu = 38 - index + seed / 2
                models.append(
                    model(served.name_of(setting, seed, form), (bleu, 57.0), 5e6 * factor / (index + 1), factor)
                )
    rows = served.table(models, settings, [1, 2]).split("\n")
    assert rows[2] == "| teacher | | 40.00 |  | 60.00 |  | 30.0 | | 90.0 | |"
    assert rows[3].startswith("| whole | transformers | 38.75 | 96.9% | 57.00 | 95.0% | 20.0 | 1.00 | 4.0 | 1.00 |")
    assert rows[-1].endswith("| int8, shortlist | 37.75 | 94.4% | 57.00 | 95.0% | 2.5 | 0.50 | 1.0 | 1.00 |")


def test_sides_take_turns_and_the_first_round_does_not_count():
    calls = []
    seconds = timing.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert [len(times) for times in seconds.values()] == [2, 2]
    assert timing.ratio({"a": [2.0, 4.0, 9.0], "b": [1.0, 1.0, 3.0]}, "a", "b") == 3.0


@pytest.mark.parametrize(
    ("task", "metric"), [("summarization", "rougeL"), ("translation", "bleu"), ("translation", "chrf")]
)
def test_pooled_seeds_have_the_scores_of_the_corpus_and_copies_are_no_more_evidence(task, metric):
    references = [
        f"the {name} runs over the green field {i}" for i in range(4) for name in ("cat", "dog", "fox", "cow")
    ]
    worse = [text.replace("green field", "old road") for text in references]
    a, b = [*worse[:9], *references[9:]], [*references[:5], *worse[5:]]
    scores = PooledScores(metric, references)
    assert scores.score([b]) == scores.score([b] * 3) == pytest.approx(score(task, b, references)[metric])
    kept = scores.kept([b], [a])
    assert kept.share == pytest.approx(score(task, b, references)[metric] / score(task, a, references)[metric])
    assert kept.low < kept.share < kept.high and scores.kept([b] * 3, [a] * 3) == pytest.approx(kept)
    assert 0 < scores.p([b], [a]) == scores.p([b] * 3, [a] * 3) < scores.p([a], [a]) == 1


def test_padding():
    config = demo_config("summarization", **SMALL)
    line = padding.compare(config, max_tokens=400, count=1, rounds=1)
    assert 0 < line["padding_grouped"] < line["padding_shuffled"] < 1


def test_cpu_precision():
    line = cpu_precision.compare("translation", count=1, rounds=1, rows=20)
    assert line["float32_over_bfloat16_seconds"] > 0 and line["fused_over_unfused_seconds"] > 0


@pytest.mark.parametrize("shared", [True, False])
def test_cache(shared):
    line = cache.compare("translation", shared, rows=20, count=1, rounds=1)
    assert line["one_encoder_pass"] is shared and line["cached_over_online_tokens_per_second"] > 0


def test_trimming(monkeypatch, tmp_path):
    """The built-in teacher: a text whose pieces are kept is segmented as before, and outputs are the same."""
    monkeypatch.setattr(trimming, "ROWS", 3)
    path = demo.model_source("demo:translation")
    model, tokenizer = load_pretrained(path), load_tokenizer(path, None, None)
    for split in ("train", "val", "test"):
        rows = load_split(demo.data_source("demo:translation"), split, limit=120 if split == "train" else 20)
        for side in ("source", "target"):
            (tmp_path / f"{split}.{side}").write_text("\n".join(rows[side]) + "\n", "utf-8")
    line = trimming.compare(model, tokenizer, str(tmp_path), 0.99, is_random=False)
    assert line["after"] < line["before"] and 0 < line["lost_mass"] < 1
    for side in ("source", "target"):
        assert 0 < line[side]["covered"] == line[side]["identical"] < line[side]["texts"]
        assert line[side]["coverage"] < 1 < line[side]["length_growth"]
    assert line["equal_outputs"] == line["outputs"] == 3


def test_encoder():
    line = encoder.compare(Shape(60, 2, 9, 3, 64), rounds=1)
    assert 1 <= line["possible"] <= 2


def test_layouts():
    assert layouts.spearman([1.0, 2.0, 3.0], [0.1, 5.0, 9.0]) == pytest.approx(1.0)
    assert layouts.spearman([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0]) == pytest.approx(0.6)
    assert layouts.SHAPES["short"].layers((6, 6)) == (3, 2) and layouts.SHAPES["small"].layers((1, 2)) == (1, 1)


def test_shrinking():
    records = shrinking.measure(shrinking.parse(["--fractions", "0.25", "--rows", "20", "--n_val", "20"]))
    assert [record["how"] for record in records] == ["whole", "sliced", "repaired"]
    whole, sliced, repaired = (record["loss"] for record in records)
    assert whole < repaired < sliced


def test_shortlist():
    sizes = ["--pairs", "300", "--n", "6", "--single", "2", "--rounds", "1", "--vocabulary", "2000", "--length", "3"]
    lines = list(shortlist.compare(shortlist.parse(sizes)))
    assert [line["shortlist"].split(" ")[-1] for line in lines[:5]] == [
        "none",
        "50+50",
        "100+100",
        "500+200",
        "(chosen)",
    ]
    assert [line["shortlist"] for line in lines[5:]] == ["none", "50+50", "100+100", "500+200", "chosen"]
    none, smallest, *_ = lines
    assert smallest["candidates"] < none["candidates"] and none["unchanged_1"] == 1
    assert all(line["equal_to_new_translators"] == 1 for line in lines[:5]) and all(line["ms"] > 0 for line in lines)


def test_generate():
    line = generate.compare("translation", n=4, batch_size=2, rounds=1)
    assert line["equal_outputs"] == 4


def test_labels():
    config = LabelConfig(model="demo:translation", data=["demo:translation"], src_lang="en", tgt_lang="de", beams=1)
    line = labels.compare(replace(config, engine="ctranslate2"), n=4, batch_size=2, rounds=1)
    assert line["equal_outputs"] == 1 and line["label_over_loop_rows_per_second"] > 0


def test_server():
    line = server.measure(rows=20, latency=0.01, concurrency=8)
    assert line["rows"] == 20 and line["least"] == pytest.approx(0.025) and line["ratio"] > 1


def test_translate_file(tmp_path):
    generator = translate_file.open_model(None, tmp_path / "model", beams=1)
    line = translate_file.compare(generator, tmp_path, n=4, rounds=1)
    assert line["equal_outputs"] == 1 and line["generate_over_translate_file_lines_per_second"] > 0


def test_gpu_at_the_size_of_a_cpu(monkeypatch, capsys):
    line = gpu.compare(gpu.TINY, "cpu", rounds=1, tiny=True)
    assert line["tokens_per_second"] > 0 and line["share_of_peak"] > 0
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cuda"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    gpu.main()
    assert json.loads(capsys.readouterr().out) == {"benchmark": "gpu", "skipped": "no GPU here"}


def test_a_larger_memory_has_a_larger_budget():
    config = replace(demo_config("translation", **SMALL))
    parts = built(config)
    budgets = [propose(parts, config, gib * 2**30) for gib in (8, 16)]
    assert 0 < budgets[0].max_tokens < budgets[1].max_tokens
    assert all(budget.bytes_per_token > 0 and len(budget.tried) > 1 for budget in budgets)
