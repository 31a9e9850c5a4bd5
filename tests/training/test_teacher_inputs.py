"""Runs whose teacher reads other sources than the student: prefix, length, language, or another tokenizer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from seq2seq_distill.cli import main as cli
from seq2seq_distill.config import RunConfig, validate
from seq2seq_distill.data import encoded_splits
from seq2seq_distill.data.teacher_inputs import NAMES
from seq2seq_distill.metrics.corpus import score
from seq2seq_distill.modules import on_policy
from seq2seq_distill.modules.teacher_runner import TeacherRunner
from seq2seq_distill.training import final_test
from seq2seq_distill.training.build import make_module
from seq2seq_distill.training.components import RunComponents, build_components
from seq2seq_distill.training.preflight import preflight
from seq2seq_distill.training.run import run_config
from seq2seq_distill.utils.errors import ConfigError, ModelError
from tests.system.test_two_processes import assert_same_run, changes
from tests.tiny_runs import config, save_marian_with_own_sources, save_teacher

PREFIX = {"prefix": "the dog runs: "}
STILL = {"dropout": 0.0, "attention_dropout": 0.0}
WAYS = {
    "prefix": ("marian", PREFIX),
    "length": ("bart", {"max_length": 5}),
    "language": ("m2m_100", {"src_lang": "fra_Latn"}),
    "extras": ("led", PREFIX),
}
every_way = pytest.mark.parametrize(("model_type", "own"), WAYS.values(), ids=WAYS)


def apart(tmp_path: Path, model_type: str = "marian", own: dict[str, Any] = PREFIX, **changes: Any) -> RunConfig:
    """A run whose teacher has sources of its own."""
    changes["student"] = {"decoder_layers": 1, **STILL, **changes.get("student", {})}
    return config(tmp_path, model_type, teacher_source=own, **changes)


def other_tokenizer(tmp_path: Path, **changes: Any) -> RunConfig:
    """A run whose student has a source tokenizer of its own."""
    for name, pieces, seed in (("teacher", 60, 0), ("student", 40, 1)):
        if not (tmp_path / name).exists():
            save_marian_with_own_sources(tmp_path / name, pieces, seed=seed, max_position_embeddings=64)
    student = {"path": str(tmp_path / "student"), "decoder_layers": None, "freeze_encoder": False}
    return config(tmp_path, student=student, **changes)


def lines(run: RunConfig, split: str, side: str) -> list[str]:
    return (Path(run.data[0]) / f"{split}.{side}").read_text("utf-8").splitlines()


def tokenised(run: RunConfig, rows: list[int], prefix: str = "", length: int = 40, src_lang: str | None = None) -> Any:
    """Sources of training rows, as one would write it without any of this."""
    tokenizer = AutoTokenizer.from_pretrained(run.teacher, **({"src_lang": src_lang} if src_lang else {}))
    texts = [prefix + lines(run, "train", "source")[row] for row in rows]
    return tokenizer(texts, max_length=length, truncation=True, padding=True, return_tensors="pt")


def divergence(
    parts: RunComponents, ours: dict[str, Tensor], theirs: dict[str, Tensor], labels: Tensor, t: float
) -> float:
    """Sum of T^2 KL in float64, by the models' own forward passes, row by row so that nothing is padded."""
    total = 0.0
    for row in range(len(labels)):
        target = labels[row : row + 1, : int((labels[row] != -100).sum())]
        distributions = []
        for model, sources in ((parts.teacher.model, theirs), (parts.student, ours)):
            whole = {
                name: field[row : row + 1, : int(sources["attention_mask"][row].sum())]
                for name, field in sources.items()
            }
            logits = model.eval()(**whole, labels=target).logits.double()
            distributions.append((logits / t).log_softmax(-1))
        p, q = distributions
        total += t**2 * float((p.exp() * (p - q)).sum())
    return total


def teacher_reads_apart(parts: RunComponents) -> bool:
    return parts.tasks[0].teacher_view is not parts.tasks[0].student_view


def ce(run: RunConfig, parts: RunComponents, batch: Any) -> float:
    return float(make_module(run, parts).eval().compute_loss(batch).terms["ce_loss"].sum)


@torch.no_grad()
def test_a_teacher_with_global_attention_has_it_beside_a_student_without(tmp_path):
    """Batches of one tokenizer were made for the student alone."""
    save_teacher(tmp_path / "student", "bart")
    run = config(tmp_path, "led", student={"path": str(tmp_path / "student"), "decoder_layers": None})
    parts = build_components(run)
    batch = parts.data.collated("train", [0, 1, 2])
    assert not teacher_reads_apart(parts)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels, mask = batch["labels"], torch.zeros_like(batch["input_ids"])
    mask[:, 0] = 1
    logits = [
        parts.teacher.model.eval()(**inputs, labels=labels, global_attention_mask=mask).logits,
        parts.student.eval()(**inputs, labels=labels).logits,
    ]
    teacher, student = ((each / 2).log_softmax(-1) for each in logits)
    expected = 4 * (teacher.exp() * (teacher - student)).sum(-1)[labels != -100].sum()
    assert ce(run, parts, batch) == pytest.approx(float(expected), rel=1e-4)


class TestLosses:
    @every_way
    def test_they_are_of_batches_that_are_tokenised_apart(self, tmp_path, model_type, own):
        run = apart(tmp_path, model_type, own)
        parts = build_components(run)
        rows = [0, 1, 2, 3, 4]
        batch = parts.data.collated("train", rows)
        ours = tokenised(run, rows)
        theirs = tokenised(run, rows, own.get("prefix", ""), own.get("max_length", 40), own.get("src_lang"))
        fields = ("input_ids", "attention_mask")
        ours, theirs = ({name: given[name] for name in fields} for given in (ours, theirs))
        assert all(torch.equal(batch[name], ours[name]) for name in fields)
        assert all(torch.equal(batch[NAMES[name]], theirs[name]) for name in fields)
        if model_type == "led":
            for given in (ours, theirs):
                given["global_attention_mask"] = torch.zeros_like(given["input_ids"])
                given["global_attention_mask"][:, 0] = 1
        with torch.no_grad():
            expected = divergence(parts, ours, theirs, batch["labels"], run.loss.temperature)
            usual = divergence(parts, ours, ours, batch["labels"], run.loss.temperature)
            assert ce(run, parts, batch) == pytest.approx(expected, rel=1e-4)
        assert expected != pytest.approx(usual, rel=1e-3)

    @torch.no_grad()
    def test_padding_changes_nothing(self, tmp_path):
        run = apart(tmp_path)
        parts = build_components(run)
        batch = parts.data.collated("train", [0, 1, 2])
        wide, pad = dict(batch), parts.tokenizer.pad_token_id
        for name, value in (("input_ids", pad), ("attention_mask", 0)):
            wide[name] = torch.nn.functional.pad(batch[name], (0, 2), value=value)
            wide[NAMES[name]] = torch.nn.functional.pad(batch[NAMES[name]], (0, 5), value=value)
        alone = sum(ce(run, parts, parts.data.collated("train", [row])) for row in (0, 1, 2))
        assert ce(run, parts, wide) == pytest.approx(ce(run, parts, batch), rel=1e-5)
        assert alone == pytest.approx(ce(run, parts, batch), rel=1e-5)
        empty = parts.data.collated("train", [])
        assert empty[NAMES["attention_mask"]].sum() == 1 and ce(run, parts, empty) == 0

    @torch.no_grad()
    def test_further_teachers_read_as_the_first_does(self, tmp_path):
        run = apart(tmp_path)
        same = replace(run, ensemble=replace(run.ensemble, teachers=[run.teacher]))
        parts, others = build_components(run), build_components(same)
        batch = parts.data.training_batch(0)
        assert ce(same, others, batch) == pytest.approx(ce(run, parts, batch), rel=1e-5)

    @torch.no_grad()
    def test_states_of_the_decoder_can_be_compared(self, tmp_path):
        run = apart(
            tmp_path,
            own={"max_length": 5},
            matches=[{"layers": "last"}, {"layers": "last", "feature": "self_attention"}],
        )
        parts = build_components(run)
        batch = parts.data.training_batch(0)
        found = make_module(run, parts).eval().compute_loss(batch).terms
        usual = {name: field for name, field in batch.items() if name not in NAMES.values()}
        same = make_module(run, parts).eval().compute_loss(usual).terms
        for name in ("match_0_decoder_hidden_mse", "match_1_decoder_self_attention_mse"):
            assert found[name].count == same[name].count == int(batch["target_tokens"])
            assert float(found[name].sum) != pytest.approx(float(same[name].sum), rel=1e-3)

    def test_the_student_samples_from_its_own_sources_and_the_teacher_judges_by_its_own(self, tmp_path, monkeypatch):
        seen, judged = [], []
        sample, ask = on_policy.sampled_labels, TeacherRunner.run

        def sampled(student, batch, sampling):
            seen.append((dict(batch), sample(student, batch, sampling)))
            return seen[-1][1]

        def asked(self, batch, student, features, function):
            def recorded(outputs):
                judged.append((outputs.forward_pass.logits, self.models[0]))
                return function(outputs)

            return ask(self, batch, student, features, recorded if torch.is_grad_enabled() else function)

        monkeypatch.setattr(on_policy, "sampled_labels", sampled)
        monkeypatch.setattr(TeacherRunner, "run", asked)
        run_config(apart(tmp_path, loss={"on_policy": 1.0}, trainer={"max_steps": 1}, eval={"n_val": 2, "n_test": 2}))
        (batch, labels), (logits, teacher) = seen[0], judged[0]
        sources = {own: batch[name] for own, name in NAMES.items() if name in batch}
        with torch.no_grad():
            expected = teacher(**sources, labels=labels).logits[labels != -100]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


class TestNoDifference:
    def test_equal_options_give_the_same_batches_and_losses_at_no_cost(self, tmp_path, monkeypatch):
        encoded, encode = [], encoded_splits.encode_split

        def counted(*args: Any, **kwargs: Any) -> Any:
            encoded.append(kwargs)
            return encode(*args, **kwargs)

        monkeypatch.setattr(encoded_splits, "encode_split", counted)
        usual = config(tmp_path, student=STILL, encode={"prefix": "the "})
        equal = replace(usual, teacher_source=type(usual.teacher_source)("the ", 40, "en"))
        parts = [build_components(run) for run in (usual, equal)]
        assert len(encoded) == 2 * 3
        batches = [each.data.training_batch(0) for each in parts]
        assert batches[0].keys() == batches[1].keys() and not batches[0].keys() & set(NAMES.values())
        pairs = [[torch.as_tensor(batch[name]) for batch in batches] for name in batches[0]]
        assert all(torch.equal(*pair) for pair in pairs)
        modules = [make_module(run, own).eval() for run, own in zip((usual, equal), parts, strict=True)]
        assert all(module.shares_encoder for module in modules)
        terms = [module.compute_loss(batches[0]).terms for module in modules]
        assert all(torch.equal(terms[0][name].sum, terms[1][name].sum) for name in terms[0])

    def test_an_encoder_is_shared_only_where_both_read_the_same(self, tmp_path):
        usual, own = config(tmp_path), apart(tmp_path)
        assert make_module(usual, build_components(usual)).shares_encoder
        assert not make_module(own, build_components(own)).shares_encoder

    def test_a_language_that_the_tokenizer_does_not_read_changes_nothing(self, tmp_path):
        assert not teacher_reads_apart(build_components(apart(tmp_path, own={"src_lang": "fr"})))

    def test_a_length_beyond_the_models_positions_is_theirs(self, tmp_path):
        """Both have 48 positions."""
        run = apart(tmp_path, own={"max_length": 99}, encode={"max_source_length": 60})
        assert not teacher_reads_apart(build_components(run))

    def test_a_length_of_its_own_is_not_bound_by_the_students_positions(self, tmp_path):
        save_teacher(tmp_path / "short", "bart", max_position_embeddings=12)
        encode = {"prefix": "the dog runs " * 8}
        short = {"path": str(tmp_path / "short"), "decoder_layers": None}
        usual = build_components(config(tmp_path, "bart", encode=encode, student=short))
        assert not teacher_reads_apart(usual) and usual.data.training_batch(0)["input_ids"].shape[1] == 12
        own = build_components(
            config(tmp_path, "bart", encode=encode, student=short, teacher_source={"max_length": 30})
        )
        batch = own.data.training_batch(0)
        assert (batch["input_ids"].shape[1], batch[NAMES["input_ids"]].shape[1]) == (12, 30)

    def test_without_distillation_batches_have_one_view(self, tmp_path):
        parts = build_components(apart(tmp_path, method="sft"))
        assert not parts.data.training_batch(0).keys() & set(NAMES.values())
        assert teacher_reads_apart(parts)


class TestRuns:
    def test_the_teacher_is_tested_on_its_own_sources_with_each_method(self, tmp_path, monkeypatch):
        timed, measure = [], final_test.measure_decoding

        def measured(models: Any, inputs: Any, settings: Any) -> Any:
            timed.append({name: [batch["input_ids"].tolist() for batch in batches] for name, batches in inputs.items()})
            return measure(models, inputs, settings)

        monkeypatch.setattr(final_test, "measure_decoding", measured)
        short = {"trainer": {"max_steps": 1}}
        for_both = run_config(config(tmp_path, encode=PREFIX, output_dir=str(tmp_path / "both"), **short))
        usual = run_config(config(tmp_path, output_dir=str(tmp_path / "usual"), **short))
        scores = ("bleu", "chrf", "gen_len")
        assert any(for_both["teacher"][name] != usual["teacher"][name] for name in scores)
        for method in ("kd", "sft"):
            found = run_config(apart(tmp_path, method=method, output_dir=str(tmp_path / method), **short))
            assert [found["teacher"][name] for name in scores] == [for_both["teacher"][name] for name in scores]
            assert timed[-1] == {"student": timed[1]["student"], "teacher": timed[0]["teacher"]}
        assert timed[0]["student"] == timed[0]["teacher"] != timed[1]["teacher"]

    def test_preflight_judges_the_teacher_by_its_own_sources(self, tmp_path, caplog):
        caplog.set_level("INFO", "seq2seq_distill.training.preflight")
        found = {}
        runs = {"both": config(tmp_path, encode=PREFIX), "own": apart(tmp_path), "none": config(tmp_path)}
        for name, run in runs.items():
            caplog.clear()
            preflight(build_components(run), run)
            said = [record.getMessage() for record in caplog.records]
            found[name] = [line for line in said if line.startswith("pre-flight: the ")]
        assert found["own"] == [found["none"][0], found["both"][1]]
        assert found["none"][1] != found["both"][1]

    def test_a_cache_of_the_whole_vocabulary_gives_the_losses_of_the_teacher_itself(self, tmp_path):
        cache = {"teacher_cache": str(tmp_path / "cache"), "cache": {"top_k": 10_000, "precision": "float32"}}
        found = []
        for name, more in (("online", {}), ("cached", cache)):
            run = apart(tmp_path, output_dir=str(tmp_path / name), **more)
            teacher = run_config(run)["teacher"]
            metrics = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
            found.append((teacher["chrf"], metrics))
        assert found[0][0] == found[1][0] and len(found[0][1]) == 3
        for online, cached in zip(found[0][1], found[1][1], strict=True):
            for name in ("val_loss", "val_ce_loss"):
                assert cached[name] == pytest.approx(online[name], rel=1e-5)
        with pytest.raises(
            ConfigError, match="`teacher_cache` .*cache was made with `data`, `encode` or `teacher_source`"
        ):
            run_config(config(tmp_path, output_dir=str(tmp_path / "other"), **cache))
        parts = build_components(run)
        parts.data.cached = {"train": object()}
        assert not parts.data.batches("train")._teachers  # what is cached is not read once more

    def test_a_student_with_another_source_tokenizer_is_trained_judged_and_saved_with_its_own(self, tmp_path, caplog):
        caplog.set_level("INFO", "seq2seq_distill.training.views")
        run = other_tokenizer(tmp_path, eval={"beams": 2, "monitor": "loss"}, optim={"warmup_steps": 0})
        found = run_config(run)
        said = [record.getMessage() for record in caplog.records if record.name.endswith("training.views")]
        assert said == ["student and teacher read different sources, each by its own tokenizer; targets are the same"]
        sources, references = (lines(run, "test", side) for side in ("source", "target"))
        own = AutoTokenizer.from_pretrained(tmp_path / "run" / "best")
        given, teachers = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("student", "teacher"))
        assert own(sources)["input_ids"] == given(sources)["input_ids"] != teachers(sources)["input_ids"]
        assert AutoTokenizer.from_pretrained(tmp_path / "run" / "student_init").encoder == given.encoder
        before, after = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name) for name in ("student", "run/best"))
        assert not torch.equal(before.get_encoder().embed_tokens.weight, after.get_encoder().embed_tokens.weight)
        outputs = [json.loads(line) for line in (tmp_path / "run" / "test_generations.jsonl").read_text().splitlines()]
        for side, name, tokenizer in (("student", "run/best", own), ("teacher", "teacher", teachers)):
            model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name).eval()
            inputs = [tokenizer([source], return_tensors="pt") for source in sources]
            ids = [model.generate(**each, num_beams=2, max_length=7)[0] for each in inputs]
            texts = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
            assert texts == [line[side] for line in outputs]
            expected = score("translation", texts, references, "de")
            assert {key: found[side][key] for key in expected} == pytest.approx(expected)
            assert found[side]["latency_ms"] > 0
        alone = config(tmp_path, output_dir=str(tmp_path / "alone"), eval={"beams": 2}, trainer={"max_steps": 1})
        assert run_config(alone)["teacher"]["chrf"] == found["teacher"]["chrf"]

    def test_accumulated_batches_are_one_batch_however_rows_are_read(self, tmp_path):
        """Three rows in four parts, one of which is left without, read by a worker process."""
        groups = {"batch": {"size": 3, "workers": 1}, "loss": {"alpha_hid": 0.0}, "teacher_source": PREFIX}
        for name, parts in (("one", 1), ("many", 4)):
            trainer = {"accumulate_grad_batches": parts}
            run_config(config(tmp_path, **changes(tmp_path / name, **groups, trainer=trainer)))
        assert_same_run(tmp_path / "many", tmp_path / "one")

    def test_both_differences_together(self, tmp_path):
        """Another tokenizer and a prefix: the student has neither of the teacher's."""
        parts = build_components(other_tokenizer(tmp_path, teacher_source=PREFIX))
        batch, texts = parts.data.collated("train", [0]), lines(config(tmp_path), "train", "source")
        own, teachers = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("student", "teacher"))
        assert batch["input_ids"][0].tolist() == own(texts[0])["input_ids"]
        assert batch[NAMES["input_ids"]][0].tolist() == teachers(PREFIX["prefix"] + texts[0])["input_ids"]


class TestCommandLine:
    def arguments(self, tmp_path: Path, model_type: str, *own: str) -> list[str]:
        run = config(tmp_path, model_type)
        given = {
            "--task": "translation",
            "--teacher": run.teacher,
            "--data": run.data[0],
            "--src_lang": run.src_lang,
            "--tgt_lang": run.tgt_lang,
            "--output_dir": str(tmp_path / "run"),
            "--logger": "csv",
            "--student.decoder_layers": "1",
            "--batch.size": "8",
            "--eval.max_target_length": "6",
            "--eval.n_speed": "1",
            "--trainer.max_steps": "1",
            "--trainer.accelerator": "cpu",
            "--trainer.enable_progress_bar": "false",
        }
        return [*(word for pair in given.items() for word in pair), *own]

    def test_a_run_with_each_flag(self, tmp_path):
        own = ["--teacher_source.prefix", "a b: ", "--teacher_source.max_length", "9"]
        own += ["--teacher_source.src_lang", "fra_Latn"]
        assert cli.main(self.arguments(tmp_path, "m2m_100", *own)) == 0
        run = cli.parse("run", ["--config", str(tmp_path / "run" / "run.yaml")])
        assert (run.teacher_source.prefix, run.teacher_source.max_length) == ("a b: ", 9)
        assert run.teacher_source.src_lang == "fra_Latn"

    def test_the_other_verbs(self, tmp_path, capsys):
        arguments = self.arguments(tmp_path, "marian", "--teacher_source.prefix", "the ")
        assert cli.main(["plan", *arguments, "--repeats", "1", "--output_length", "3", "--speedup", "0.01"]) == 0
        assert cli.main(["budget", *arguments]) == 0
        assert cli.main(["cache", *arguments, "--teacher_cache", str(tmp_path / "cache")]) == 0
        assert (tmp_path / "cache" / "train").is_dir()


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"loss": {"alpha_hid": 1.0}},
                "^`loss.alpha_hid` 1.0 compares source positions.*`matches` with side decoder$",
            ),
            (
                {"matches": [{"layers": "last", "side": "encoder"}]},
                "^`matches` entry 0, side encoder .*choose side decoder$",
            ),
            (
                {"matches": [{"layers": "last", "feature": "cross_attention"}]},
                "^`matches` entry 0, feature cross_attention .*choose hidden or self_attention$",
            ),
        ],
    )
    def test_what_compares_source_positions(self, tmp_path, changes, message):
        with pytest.raises(ConfigError, match=message):
            validate(apart(tmp_path, **changes))
        with pytest.raises(ConfigError, match=message):
            build_components(other_tokenizer(tmp_path / "tokenizer", **changes))
        validate(apart(tmp_path, method="sft", loss=changes.get("loss", {})))

    def test_the_flags_alone_are_no_difference_where_they_say_the_same(self, tmp_path):
        validate(apart(tmp_path, own={"prefix": "", "max_length": 40, "src_lang": "en"}, loss={"alpha_hid": 1.0}))

    def test_without_a_teacher(self, tmp_path):
        run = replace(apart(tmp_path), teacher=None)
        run = replace(run, student=replace(run.student, path="a", decoder_layers=None))
        with pytest.raises(
            ConfigError, match="^`teacher_source.prefix` the dog .* is given without `teacher`: name one"
        ):
            validate(run)

    def test_a_length_too_small(self, tmp_path):
        with pytest.raises(ConfigError, match="^`teacher_source.max_length` 1 is too small: choose 2 or more$"):
            validate(apart(tmp_path, own={"max_length": 1}))

    def test_a_language_that_the_teacher_does_not_know(self, tmp_path):
        with pytest.raises(
            ConfigError, match="^`teacher_source.src_lang` xx: `teacher` .* does not know this language: choose one of"
        ):
            build_components(apart(tmp_path, "m2m_100", {"src_lang": "xx"}))

    def test_other_target_tokens(self, tmp_path):
        save_teacher(tmp_path / "teacher")
        save_teacher(tmp_path / "student", "bart")
        run = config(tmp_path, student={"path": str(tmp_path / "student"), "decoder_layers": None})
        with pytest.raises(
            ModelError, match=r"^`student.path`: its tokenizer differs from the teacher's: .*`distill label`"
        ):
            build_components(run)
