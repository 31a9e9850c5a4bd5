"""The verbs beside a run: student, average, convert, through the command itself."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.average.command import mean_weights
from seq2seq_distill.training.run import run_config
from tests.tiny_models import tiny_batch, tiny_model
from tests.tiny_runs import config, save_teacher, write_data
from tests.tiny_tokenizers import plain_tokenizer


def load(folder: Path, **options):
    return AutoModelForSeq2SeqLM.from_pretrained(folder, **options).eval()


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(**tiny_batch(model)).logits


def fails(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that the command prints on its way to exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr().err.splitlines()
    lines = [line for line in printed if line.startswith("distill: ")]
    assert len(lines) == 1
    assert not any("Traceback" in line for line in printed)
    return lines[0].removeprefix("distill: ")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("models") / "teacher", "bart", encoder_layers=3, decoder_layers=6)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with several checkpoints."""
    tmp_path = tmp_path_factory.mktemp("run")
    run_config(config(tmp_path, "bart", eval={"save_top_k": -1, "monitor": "loss", "n_speed": 0}))
    return tmp_path / "run"


class TestStudent:
    def test_is_cut_and_saved_with_the_tokenizer(self, teacher, tmp_path):
        out = tmp_path / "deep" / "student"
        arguments = ["student", "--teacher", str(teacher), "--output_dir", str(out), "--student.decoder_layers", "3"]
        assert main([*arguments, "--student.dropout", "0.0"]) == 0
        student, whole = load(out), load(teacher)
        assert (student.config.encoder_layers, student.config.decoder_layers) == (3, 3)
        assert student.config.dropout == 0.0  # H12
        assert list(student.config.distilled_decoder_layers) == [0, 2, 5]
        for own, origin in enumerate((0, 2, 5)):
            ours, theirs = (m.model.decoder.layers[i].state_dict() for m, i in ((student, own), (whole, origin)))
            assert all(value.equal(theirs[name]) for name, value in ours.items())
        text = "a dog runs over the green field"
        assert AutoTokenizer.from_pretrained(out)(text) == AutoTokenizer.from_pretrained(teacher)(text)

    def test_by_default_has_a_quarter_of_the_decoder_rounded_up(self, teacher, tmp_path):
        """H14: the default was 12 layers, for any teacher."""
        assert main(["student", "--teacher", str(teacher), "--output_dir", str(tmp_path / "s")]) == 0
        student = load(tmp_path / "s")
        assert (student.config.encoder_layers, student.config.decoder_layers) == (3, 2)

    def test_by_ids(self, teacher, tmp_path):
        arguments = ["student", "--teacher", str(teacher), "--output_dir", str(tmp_path / "s")]
        arguments += ["--student.encoder_layer_ids", "0", "2", "--student.decoder_layer_ids", "5"]
        assert main(arguments) == 0
        student = load(tmp_path / "s")
        assert list(student.config.distilled_encoder_layers) == [0, 2]
        assert list(student.config.distilled_decoder_layers) == [5]

    def test_mistakes(self, teacher, tmp_path, capsys):
        out = tmp_path / "s"
        start = ("student", "--teacher", teacher, "--output_dir")
        deep = fails(capsys, *start, out, "--student.decoder_layers", 13)
        assert deep == "--student.decoder_layers 13 exceeds the teacher's 6 layers: choose 1 to 6"
        narrow = fails(capsys, *start, out, "--student.encoder_ffn_dim", 0.5)
        assert narrow.startswith(
            "--student.encoder_ffn_dim 0.5 is calibrated on training data, which `distill student`"
        )
        frozen = fails(capsys, *start, out, "--student.freeze_encoder", "true")  # it was passed over
        assert frozen == "--student.freeze_encoder True is an option of runs: leave it out"
        missing = fails(capsys, "student", "--teacher", tmp_path / "no", "--output_dir", out)
        assert missing.startswith(f"--teacher {tmp_path}/no: ")
        assert not out.exists()
        taken = fails(capsys, *start, teacher)
        assert taken == f"--output_dir {teacher} is there already: choose a new folder, or remove it"
        assert (teacher / "model.safetensors").exists()

    @pytest.mark.parametrize("family", ["bart", "t5", "marian"])
    def test_a_teacher_without_a_tokenizer(self, tmp_path, capsys, family):
        tiny_model(family).save_pretrained(tmp_path / "bare")
        line = fails(capsys, "student", "--teacher", tmp_path / "bare", "--output_dir", tmp_path / "s")
        assert line.startswith(f"--teacher {tmp_path}/bare: ")
        assert "no tokenizer" in line and line.endswith("save one in the same folder")
        assert not (tmp_path / "s").exists()


class TestTrim:
    @pytest.fixture(scope="class")
    def data(self, tmp_path_factory):
        return write_data(tmp_path_factory.mktemp("data"))

    def test_writes_a_model_that_says_what_it_lost(self, teacher, data, tmp_path):
        out = tmp_path / "small"
        arguments = ["trim", "--model", str(teacher), "--data", str(data), "--output_dir", str(out)]
        assert main([*arguments, "--task", "translation", "--trim.coverage", "0.9"]) == 0
        model, tokenizer = load(out), AutoTokenizer.from_pretrained(out)
        report = json.loads((out / "trimming.json").read_text("utf-8"))
        assert model.config.vocab_size == len(tokenizer) == report["vocabulary"]["after"]["source"]
        assert model.config.vocab_size < load(teacher).config.vocab_size
        assert report["made_of"]["trim"]["coverage"] == 0.9
        assert report["pieces"]["source"]["coverage"] >= 0.9
        assert report["parameters"]["after"] == model.num_parameters() < report["parameters"]["before"]
        assert report["held_out"]["target"]["length_growth"] == 1.0  # whole words are known or not
        assert 0 < report["held_out"]["lost_mass"] < 1

    def test_keeps_the_precision(self, teacher, data, tmp_path):
        half = tmp_path / "half"
        load(teacher, dtype=torch.bfloat16).save_pretrained(half)
        AutoTokenizer.from_pretrained(teacher).save_pretrained(half)
        arguments = ["trim", "--model", str(half), "--data", str(data), "--output_dir", str(tmp_path / "small")]
        assert main([*arguments, "--trim.size", "40"]) == 0
        assert load(tmp_path / "small", dtype="auto").dtype == torch.bfloat16

    def test_mistakes(self, teacher, data, tmp_path, capsys):
        start = ("trim", "--model", teacher, "--data", data, "--output_dir", tmp_path / "small")
        missing = fails(capsys, *start)
        assert missing.startswith("--trim.coverage and --trim.size are missing: give one")
        small = fails(capsys, *start, "--trim.size", "16", "--trim.languages", "de")
        assert small.startswith("--trim.languages de: the model has no tokens for languages")
        save_teacher(tmp_path / "fsmt", "fsmt")
        refused = fails(capsys, "trim", "--model", tmp_path / "fsmt", *start[3:], "--trim.size", "40")
        assert refused.startswith(f"--model {tmp_path}/fsmt: the vocabulary of fsmt models cannot be trimmed")
        assert not (tmp_path / "small").exists()

    def test_characters_that_can_no_longer_be_written_are_warned_of(self, data, tmp_path, caplog):
        save_teacher(tmp_path / "teacher", "marian")
        few = tmp_path / "few"
        few.mkdir()
        for side in ("source", "target"):
            (few / f"train.{side}").write_text("a\n", "utf-8")
        arguments = ["trim", "--model", str(tmp_path / "teacher"), "--data", str(few), "--trim.coverage", "1.0"]
        assert main([*arguments, "--output_dir", str(tmp_path / "small")]) == 0
        [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "characters can no longer be written" in warning.getMessage()
        report = json.loads((tmp_path / "small" / "trimming.json").read_text("utf-8"))
        assert report["held_out"] is None and report["lost_characters"]["count"] > 10


class TestConvert:
    def test_a_checkpoint_becomes_the_model_it_was(self, finished, tmp_path):
        metrics = finished / "metrics.jsonl"
        assert '"step": 4' in metrics.read_text().splitlines()[-1]  # the last is the best: its weights are known
        for name in ("last.ckpt", next(path.name for path in (finished / "checkpoints").glob("step=4*.ckpt"))):
            out = tmp_path / name
            arguments = ["convert", "--checkpoint", str(finished / "checkpoints" / name), "--output_dir", str(out)]
            assert main(arguments) == 0
            assert logits(load(out)).equal(logits(load(finished / "best")))
            assert load(out).generation_config == load(finished / "best").generation_config
            assert AutoTokenizer.from_pretrained(out)("a dog") == AutoTokenizer.from_pretrained(finished / "best")(
                "a dog"
            )

    def test_an_earlier_checkpoint_is_another_model(self, finished, tmp_path):
        earlier = next((finished / "checkpoints").glob("step=2*.ckpt"))
        assert main(["convert", "--checkpoint", str(earlier), "--output_dir", str(tmp_path / "out")]) == 0
        assert not logits(load(tmp_path / "out")).allclose(logits(load(finished / "best")))

    @pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-2), ("bfloat16", 2e-1)])
    def test_half_precision(self, finished, tmp_path, dtype, tolerance):
        arguments = ["convert", "--checkpoint", str(finished / "best"), "--output_dir", str(tmp_path / "out")]
        assert main([*arguments, "--dtype", dtype]) == 0
        assert load(tmp_path / "out", dtype="auto").dtype == getattr(torch, dtype)
        same = load(tmp_path / "out", dtype=torch.float32)
        torch.testing.assert_close(logits(same), logits(load(finished / "best")), atol=tolerance, rtol=tolerance)
        sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path / "out", finished / "best")]
        assert sizes[0] < 0.75 * sizes[1]

    @pytest.mark.parametrize("damage", ["empty", "text", "half", "another", "list"])
    def test_a_damaged_checkpoint_is_one_line(self, finished, tmp_path, capsys, damage):
        whole = (finished / "checkpoints" / "last.ckpt").read_bytes()
        path = finished / "checkpoints" / f"{damage}.ckpt"
        match damage:
            case "empty":
                path.write_bytes(b"")
            case "text":
                path.write_text("no checkpoint at all")
            case "half":
                path.write_bytes(whole[: len(whole) // 2])
            case "another":
                torch.save({"state_dict": {"student.weight": torch.zeros(2)}}, path)
            case "list":
                torch.save([1, 2], path)
        line = fails(capsys, "convert", "--checkpoint", path, "--output_dir", tmp_path / "out")
        path.unlink()
        assert line.startswith(f"--checkpoint {path} cannot be read as a checkpoint of its run (")
        assert line.endswith("): choose another one")
        assert not (tmp_path / "out").exists()

    def test_a_flipped_bit_is_noticed(self, finished, tmp_path, capsys):
        """torch.load reads over it; the hash beside the checkpoint was not looked at."""
        last, path = finished / "checkpoints" / "last.ckpt", finished / "checkpoints" / "flipped.ckpt"
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        path.with_name("flipped.ckpt.sha256").write_text(last.with_name("last.ckpt.sha256").read_text())
        line = fails(capsys, "convert", "--checkpoint", path, "--output_dir", tmp_path / "out")
        path.unlink()
        path.with_name("flipped.ckpt.sha256").unlink()
        assert line == f"--checkpoint {path} is damaged (its SHA-256 differs): choose another one"

    def test_a_pickle_that_runs_code_is_refused(self, finished, tmp_path, capsys):
        """H30: nothing that a user points to is unpickled."""
        path = finished / "checkpoints" / "evil.ckpt"
        torch.save({"state_dict": Trap(tmp_path / "sprung")}, path)
        line = fails(capsys, "convert", "--checkpoint", path, "--output_dir", tmp_path / "out")
        path.unlink()
        assert line.startswith(f"--checkpoint {path} cannot be read")
        assert not (tmp_path / "sprung").exists()

    def test_other_mistakes(self, finished, tmp_path, capsys):
        out = tmp_path / "out"
        missing = fails(capsys, "convert", "--checkpoint", tmp_path / "no.ckpt", "--output_dir", out)
        assert missing == f"--checkpoint {tmp_path}/no.ckpt: no such checkpoint or folder; check the path"
        stray = tmp_path / "stray.ckpt"
        stray.write_bytes((finished / "checkpoints" / "last.ckpt").read_bytes())
        assert "student_init" in fails(capsys, "convert", "--checkpoint", stray, "--output_dir", out)
        assert fails(capsys, "convert", "--checkpoint", stray, "--output_dir", finished) == (
            f"--output_dir {finished} is there already: choose a new folder, or remove it"
        )
        wrong = fails(capsys, "convert", "--checkpoint", stray, "--output_dir", out, "--dtype", "int8")
        assert wrong == "--dtype int8: expected one of float32, float16, bfloat16"


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


class TestAverage:
    def test_is_the_mean_of_the_checkpoints(self, finished, tmp_path):
        paths = sorted((finished / "checkpoints").glob("step=*.ckpt"))
        assert len(paths) == 2
        out = tmp_path / "out"
        assert main(["average", "--checkpoints", *map(str, paths), "--output_dir", str(out)]) == 0
        weights = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
        averaged = load(out).state_dict()
        assert {f"student.{name}" for name in averaged} == weights[0].keys()
        for name, value in averaged.items():
            first, second = (each[f"student.{name}"] for each in weights)
            torch.testing.assert_close(value, (first + second) / 2, atol=1e-7, rtol=1e-6)
        assert any(not w.equal(weights[1][name]) for name, w in weights[0].items())
        assert AutoTokenizer.from_pretrained(out)("a dog")["input_ids"] == plain_tokenizer()("a dog")["input_ids"]

    def test_folders_and_checkpoints_mix(self, finished, tmp_path):
        paths = [finished / "best", finished / "student_init", next((finished / "checkpoints").glob("step=4*.ckpt"))]
        assert main(["average", "--checkpoints", *map(str, paths), "--output_dir", str(tmp_path / "out")]) == 0
        best, start, mean = (load(p).lm_head.weight for p in (paths[0], paths[1], tmp_path / "out"))
        torch.testing.assert_close(mean, (2 * best + start) / 3)

    def test_integer_buffers_stay_integers(self):
        """H29: averaging turned integer buffers into floats."""
        states = [
            {"w": torch.tensor([1.0, 2.0]), "ids": torch.arange(3)},
            {"w": torch.zeros(2), "ids": torch.arange(3)},
        ]
        mean = mean_weights(states)
        assert mean["w"].tolist() == [0.5, 1.0]
        assert mean["ids"].equal(torch.arange(3)) and mean["ids"].dtype == torch.int64

    def test_is_summed_wide(self):
        weights = [{"w": torch.tensor([value])} for value in (2.0**25, 1.0, -(2.0**25))]
        assert math.isclose(mean_weights(weights)["w"].item(), 1 / 3, rel_tol=1e-6)

    def test_is_kept_in_its_own_type(self):
        halves = [{"w": torch.tensor([value], dtype=torch.float16)} for value in (60000.0, 60000.0, 0.0)]
        mean = mean_weights(halves)["w"]
        assert mean.dtype == torch.float16
        assert math.isclose(mean.item(), 40000.0, rel_tol=1e-3)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"w": torch.zeros(3), "ids": torch.arange(3)}, "w is not the same in all of them"),
            ({"ids": torch.arange(3)}, "w is not the same in all of them"),
            ({"w": torch.zeros(2), "ids": torch.ones(3, dtype=torch.int64)}, "the integer buffer ids differs"),
        ],
        ids=["shape", "name", "integers"],
    )
    def test_what_differs_is_named(self, other, message):
        with pytest.raises(ValueError, match=message):
            mean_weights([{"w": torch.zeros(2), "ids": torch.arange(3)}, other])

    def test_models_of_two_shapes_are_refused(self, finished, teacher, tmp_path, capsys):
        best, out = finished / "best", tmp_path / "out"
        line = fails(capsys, "average", "--checkpoints", best, teacher, "--output_dir", out)
        assert line.startswith(f"--checkpoints {best} {teacher}: ")
        assert line.endswith("is not the same in all of them; average models of one shape")
        assert not out.exists()

    def test_a_missing_one_is_named(self, finished, tmp_path, capsys):
        arguments = ("--checkpoints", finished / "best", tmp_path / "no.ckpt", "--output_dir", tmp_path / "out")
        assert fails(capsys, "average", *arguments).startswith(f"--checkpoints {tmp_path}/no.ckpt: no such checkpoint")
