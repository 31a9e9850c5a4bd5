"""What comes from others is read, never run; what is written lands where it was asked for and tells no secrets.

All through the command's own entry point. The traps make a marker file when they are sprung.
"""

import hashlib
import io
import json
import os
import pickle
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import xxhash
import yaml
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from seq2seq_distill import demo
from seq2seq_distill.cli.main import main
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.constants import SPLITS
from seq2seq_distill.utils.errors import ConfigError, DataError, ModelError
from seq2seq_distill.utils.redaction import redacted
from tests.tiny_runs import save_teacher, write_data

ROOT = Path(__file__).parents[2]


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self._marker,)


def zipped(trap: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(trap, stream)
    return stream.getvalue()


def legacy(trap: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(trap, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


PICKLES = {"zip": zipped, "legacy": legacy, "pickle": pickle.dumps}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and data."""
    folder = tmp_path_factory.mktemp("things")
    save_teacher(folder / "teacher", "bart")
    write_data(folder / "data")
    return folder


@pytest.fixture(scope="module")
def finished(things: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended; it was named by a link."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "elsewhere").mkdir()
    (folder / "run").symlink_to(folder / "elsewhere")
    assert main(run(things / "teacher", things / "data", folder / "run")) == 0
    return folder / "run"


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """What a trap would make; it must not be there in the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists()


@pytest.fixture
def teacher(things: Path, tmp_path: Path) -> Path:
    """A copy of the teacher to spoil."""
    return Path(shutil.copytree(things / "teacher", tmp_path / "teacher"))


def run(teacher: object, data: object, out: object, *more: object, cut: bool = True) -> list[str]:
    """A run of two optimiser steps on the data's own targets, with a student that is cut from the teacher."""
    line = f"--task translation --teacher {teacher} --data {data} --output_dir {out} --src_lang en --tgt_lang de"
    line += " --targets reference"
    line += (
        " --student.decoder_layers 1" * cut
        + " --batch.size 16 --eval.max_target_length 4 --eval.n_speed 0 --eval.beams 1"
    )
    line += " --eval.monitor loss --logger [] --trainer.max_steps 2 --trainer.val_check_interval 2"
    line += " --trainer.accelerator cpu --trainer.devices 1 --trainer.enable_progress_bar false"
    return [*line.split(), *map(str, more)]


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line that the command prints on its way to exit code 2."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr().err.splitlines()
    lines = [line for line in printed if line.startswith("distill: ")]
    assert len(lines) == 1
    assert not any("Traceback" in line for line in printed)
    return lines[0].removeprefix("distill: ")


def spoil(folder: Path, content: bytes) -> Path:
    """The folder's weights as a pickle instead of safetensors."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file with its content, every other thing with `None`."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


class TestTheTraps:
    def test_they_work(self, tmp_path):
        pickle.loads(pickle.dumps(Trap(tmp_path / "a")))
        torch.load(io.BytesIO(zipped({"w": Trap(tmp_path / "b")})), weights_only=False)
        torch.load(io.BytesIO(legacy({"w": Trap(tmp_path / "c")})), weights_only=False)
        runpy.run_path(str(write_code(tmp_path / "code.py", tmp_path / "d")))
        yaml.unsafe_load(f"a: {tag(tmp_path / 'e')}")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "code.py", "d", "e"]


class TestModels:
    @pytest.mark.parametrize("kind", PICKLES)
    def test_a_teacher_for_a_run(self, things, teacher, tmp_path, marker, capsys, kind):
        spoil(teacher, PICKLES[kind]({"lm_head.weight": Trap(marker)}))
        line = refused(capsys, *run(teacher, things / "data", tmp_path / "out"))
        assert line.startswith(f"--teacher {teacher}: ")
        assert "pytorch_model.bin" in line and line.endswith("choose a model in safetensors format")

    def test_torchscript(self, things, teacher, tmp_path, marker, capsys):
        (teacher / "model.safetensors").unlink()
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), teacher / "pytorch_model.bin")
        line = refused(capsys, *run(teacher, things / "data", tmp_path / "out"))
        assert line.startswith(f"--teacher {teacher}: ")

    @pytest.mark.parametrize("verb", ["run", "student", "convert", "average"])
    def test_everywhere(self, things, teacher, tmp_path, marker, capsys, verb):
        spoil(teacher, zipped({"lm_head.weight": Trap(marker)}))
        out = ("--output_dir", tmp_path / "out")
        flag, *arguments = {
            "run": ("--student.path", *run(things / "teacher", things / "data", tmp_path / "out", cut=False)),
            "student": ("--teacher", "student", *out),
            "convert": ("--checkpoint", "convert", *out),
            "average": ("--checkpoints", "average", *out),
        }[verb]
        line = refused(capsys, *arguments, flag, teacher)
        assert line.startswith(f"{flag} {teacher}: ")
        assert "pytorch_model.bin" in line
        assert not (tmp_path / "out" / "run.yaml").exists()

    def test_shards(self, things, teacher, tmp_path, marker, capsys):
        names = AutoModelForSeq2SeqLM.from_pretrained(teacher).state_dict()
        files = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
        (teacher / "model.safetensors").unlink()
        for file in files:
            (teacher / file).write_bytes(zipped({name: Trap(marker) for name in names}))
        weight_map = {name: files[index % 2] for index, name in enumerate(names)}
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (teacher / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        assert "pytorch_model" in refused(capsys, *run(teacher, things / "data", tmp_path / "out"))

    def test_a_pickle_under_the_name_of_safetensors(self, things, teacher, tmp_path, marker, capsys):
        (teacher / "model.safetensors").write_bytes(zipped({"lm_head.weight": Trap(marker)}))
        line = refused(capsys, *run(teacher, things / "data", tmp_path / "out"))
        assert line.startswith(f"--teacher {teacher}: the model cannot be loaded")

    def test_other_pickles_of_a_folder_are_left_alone(self, teacher, tmp_path, marker):
        for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "tokenizer.pkl"):
            (teacher / name).write_bytes(zipped(Trap(marker)))
        assert main(["student", "--teacher", str(teacher), "--output_dir", str(tmp_path / "out")]) == 0
        assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


class TestCheckpoints:
    @pytest.fixture
    def copy(self, finished: Path, tmp_path: Path) -> Path:
        """A copy of the run that has not ended."""
        folder = Path(shutil.copytree(finished, tmp_path / "copy"))
        (folder / "results.json").unlink()
        return folder

    @pytest.fixture(params=["zip"])
    def evil(self, request: pytest.FixtureRequest, copy: Path, marker: Path) -> Path:
        """A checkpoint in the copy, with a hash that fits."""
        path = copy / "checkpoints" / "last.ckpt"
        path.write_bytes(PICKLES[request.param]({"state_dict": {"student.lm_head.weight": Trap(marker)}}))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name("last.ckpt.sha256").write_text(f"{digest}  last.ckpt\n")
        return path

    def test_found_in_the_folder(self, things, copy, evil, capsys):
        line = refused(capsys, *run(things / "teacher", things / "data", copy))
        assert str(evil) in line and "choose another" in line

    @pytest.mark.parametrize("evil", PICKLES, indirect=True)
    def test_named(self, things, evil, tmp_path, capsys):
        line = refused(capsys, *run(things / "teacher", things / "data", tmp_path / "out"), "--resume", evil)
        assert str(evil) in line and "choose another" in line

    @pytest.mark.parametrize(("verb", "flag"), [("convert", "--checkpoint"), ("average", "--checkpoints")])
    def test_in_the_verbs(self, evil, tmp_path, capsys, verb, flag):
        line = refused(capsys, verb, flag, evil, "--output_dir", tmp_path / "out")
        assert line.startswith(f"{flag} {evil} ") and line.endswith("choose another one")
        assert not (tmp_path / "out").exists()


class TestCaches:
    @pytest.mark.parametrize("pattern", ["encoded/*.arrow", "texts/*.texts"])
    def test_splits(self, things, tmp_path, marker, monkeypatch, pattern):
        """Whatever else lies there, with a fitting hash, is made anew."""
        monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path / "cache"))
        assert main(run(things / "teacher", things / "data", tmp_path / "first")) == 0
        files = sorted((tmp_path / "cache").glob(pattern))
        good = [file.read_bytes() for file in files]
        assert len(files) == 3
        for file, content in zip(
            files, (pickle.dumps(Trap(marker)), zipped(Trap(marker)), arrow(Trap(marker))), strict=True
        ):
            file.write_bytes(content + xxhash.xxh3_128(content).digest())
        assert main(run(things / "teacher", things / "data", tmp_path / "second")) == 0
        assert [file.read_bytes() for file in files] == good
        first, second = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("first", "second"))
        assert first == second

    def test_teacher_outputs(self, things, tmp_path, marker):
        """What is no shard is made anew."""
        cache = tmp_path / "cache"
        command = [*run(things / "teacher", things / "data", tmp_path / "first"), "--teacher_cache", str(cache)]
        assert main(command) == 0
        for shard in cache.glob("*/*.safetensors"):
            good = shard.read_bytes()
            shard.write_bytes(pickle.dumps(Trap(marker)))
            shutil.rmtree(tmp_path / "first")
            assert main(command) == 0
            assert shard.read_bytes() == good

    def test_the_demo(self, tmp_path, marker, monkeypatch, capsys):
        rows = {split: [("a", "b")] for split in SPLITS}
        monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path))
        monkeypatch.setattr(demo, "_build", lambda *_: (rows, {}))
        folder = demo.resolve_data("demo:translation")
        (folder / "train.source").write_bytes(pickle.dumps(Trap(marker)))
        line = refused(capsys, *run("demo:translation", "demo:translation", tmp_path / "out"))
        assert f"{folder / 'train.source'}:1: byte 1 of the line is not UTF-8" in line


def arrow(trap: Any) -> bytes:
    """An Arrow stream whose columns claim a pickled type."""
    sink = pa.BufferOutputStream()
    table = extension_table(trap)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def extension_table(trap: Any) -> pa.Table:
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(trap)}
    fields = [pa.field(name, pa.string(), metadata=metadata) for name in ("source", "target")]
    return pa.table([["a b", "c d"], ["e f", "g h"]], schema=pa.schema(fields))


class TestData:
    @pytest.mark.parametrize("name", ["train.pkl", "train.pt", "train.py", "train.npy", ""])
    def test_files_that_hold_code(self, things, tmp_path, marker, capsys, name):
        """Named alone, or all of them in a folder."""
        folder = tmp_path / "data"
        write_code(folder / "train.py", marker)
        for other in ("train.pkl", "train.pt", "train.npy"):
            (folder / other).write_bytes(pickle.dumps(Trap(marker)))
        source = folder / name
        line = refused(capsys, *run(things / "teacher", source, tmp_path / "out"))
        assert line.startswith(f"--data {source}: {'unsupported file type' if name else 'no train split'}: ")
        assert not (tmp_path / "out" / "run.yaml").exists()

    def test_a_folder_with_a_loading_script(self, things, tmp_path, marker, capsys):
        """As data sets on the hub had them: a script named like the folder."""
        folder = tmp_path / "data"
        folder.mkdir()
        write_code(folder / "data.py", marker)
        (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: x.pkl\n---\n")
        line = refused(capsys, *run(things / "teacher", folder, tmp_path / "out"))
        assert line.startswith(f"--data {folder}: no ")

    def test_a_script_beside_good_files_is_left_alone(self, things, tmp_path, marker):
        folder = write_data(tmp_path / "data")
        for name in ("data.py", "train.py", "__init__.py"):
            write_code(folder / name, marker)
        assert main(run(things / "teacher", folder, tmp_path / "out")) == 0

    @pytest.mark.parametrize("kind", ["extension", "binary"])
    def test_parquet(self, things, tmp_path, marker, capsys, kind):
        folder = write_data(tmp_path / "data")
        for side in ("source", "target"):
            (folder / f"train.{side}").unlink()
        table = extension_table(Trap(marker))
        if kind == "binary":
            column = [pickle.dumps(Trap(marker))] * 2
            table = pa.table({"source": column, "target": column}).replace_schema_metadata({"pandas": "{}"})
        pyarrow.parquet.write_table(table, folder / "train.parquet")
        line = refused(capsys, *run(things / "teacher", folder, tmp_path / "out"))
        assert str(folder / "train.parquet") in line
        assert ("arrow.py_extension_type" if kind == "extension" else "binary") in line
        assert line.endswith("convert it to strings")


def write_code(path: Path, marker: Path) -> Path:
    """Python that makes the marker when it is imported or run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    return path


class TestCodeOfModels:
    """`trust_remote_code` is off, and code that a folder brings is refused by name."""

    def own_config(self, teacher: Path) -> None:
        edit_json(teacher / "config.json", model_type="own", auto_map={"AutoConfig": "code.Config"})

    def own_model(self, teacher: Path) -> None:
        edit_json(teacher / "config.json", auto_map={"AutoModelForSeq2SeqLM": "code.Model"})

    def own_tokenizer(self, teacher: Path) -> None:
        changes = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["code.OwnTokenizer", None]}}
        edit_json(teacher / "tokenizer_config.json", **changes)

    def own_tokenizer_under_a_known_name(self, teacher: Path) -> None:
        edit_json(teacher / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.OwnTokenizer", None]})

    def code_of_another_repository(self, teacher: Path) -> None:
        edit_json(teacher / "config.json", model_type="own", auto_map={"AutoConfig": "evil/repo--code.Config"})

    KINDS = (own_config, own_model, own_tokenizer, own_tokenizer_under_a_known_name, code_of_another_repository)

    @pytest.mark.parametrize(
        ("kind", "verb"),
        [
            *((kind, "run") for kind in KINDS),
            (own_model, "student"),
            (own_tokenizer, "student"),
            (own_model, "convert"),
        ],
        ids=lambda value: getattr(value, "__name__", value),
    )
    def test_is_refused(self, things, teacher, tmp_path, marker, capsys, monkeypatch, kind, verb):
        kind(self, teacher)
        write_code(teacher / "code.py", marker)
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user is asked"))
        out = tmp_path / "out"
        flag = "--checkpoint" if verb == "convert" else "--teacher"
        arguments = {
            "run": run(teacher, things / "data", out),
            "student": ["student", "--teacher", teacher, "--output_dir", out],
            "convert": ["convert", "--checkpoint", teacher, "--output_dir", out],
        }[verb]
        line = refused(capsys, *arguments)
        assert line.startswith(f"{flag} {teacher}: its config requires custom Python code (auto_map)")
        assert "never run: choose a model" in line
        assert not (out / "run.yaml").exists() and not (out / "config.json").exists()

    def test_a_student_too(self, things, teacher, tmp_path, marker, capsys):
        self.own_model(teacher)
        write_code(teacher / "code.py", marker)
        arguments = run(things / "teacher", things / "data", tmp_path / "out", "--student.path", teacher, cut=False)
        assert refused(capsys, *arguments).startswith(
            f"--student.path {teacher}: its config requires custom Python code"
        )

    def test_decoding_of_its_own_is_left_alone(self, things, teacher, tmp_path, marker, capsys):
        write_code(teacher / "custom_generate" / "generate.py", marker)
        edit_json(teacher / "generation_config.json", custom_generate=str(teacher), trust_remote_code=True)
        assert main(run(teacher, things / "data", tmp_path / "out")) == 0
        wish = json.dumps({"custom_generate": str(teacher), "trust_remote_code": True})
        line = refused(capsys, *run(teacher, things / "data", tmp_path / "other"), "--eval.generate", wish)
        assert "custom_generate" in line and line.endswith("is no option of decoding a text: remove it")


def tag(marker: Path) -> str:
    return f"!!python/object/apply:os.system ['touch {marker}']"


class TestYaml:
    def test_config_files(self, tmp_path, marker, capsys):
        path = tmp_path / "a.yaml"
        for text in (f"task: {tag(marker)}\n", f"student:\n  overrides: {tag(marker)}\n", f"{tag(marker)}: 1\n"):
            path.write_text(text)
            line = refused(capsys, "--config", path)
            assert line.startswith(f"--config {path}, line ")
            assert "not valid YAML (could not determine a constructor" in line

    def test_values(self, things, tmp_path, marker, capsys):
        for flag in ("--trainer.extra", "--eval.generate", "--student.overrides", "--provenance", "--data_weights"):
            line = refused(capsys, *run(things / "teacher", things / "data", tmp_path / "out"), flag, tag(marker))
            assert line.startswith(flag) and "expected" in line

    def test_a_file_for_a_group(self, things, tmp_path, marker, capsys):
        path = tmp_path / "a.yaml"
        path.write_text(f"temperature: {tag(marker)}\n")
        line = refused(capsys, *run(things / "teacher", things / "data", tmp_path / "out"), "--loss", path)
        assert str(path) in line and "could not determine a constructor" in line

    def test_a_class_to_make_is_only_a_mapping(self, things, tmp_path, marker):
        """The parser can make objects of a `class_path`, where it is asked to."""
        wish = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(marker)]}}
        for value in (wish, {"x": wish}):
            for flag in ("--trainer.extra", "--eval.generate", "--student.overrides", "--provenance"):
                arguments = run(things / "teacher", tmp_path / "no", tmp_path / "out", flag, json.dumps(value))
                assert main(arguments) == 2

    def test_run_yaml(self, things, finished, tmp_path, marker, capsys):
        folder = Path(shutil.copytree(finished, tmp_path / "copy"))
        (folder / "results.json").unlink()
        for text in (f"task: {tag(marker)}\n", "- 1\n", "a: [\n", "\udcff"):
            (folder / "run.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
            line = refused(capsys, *run(things / "teacher", things / "data", folder))
            assert line.startswith(f"{folder}/run.yaml cannot be read (") and "restore it, or choose" in line

    def test_the_shape_of_a_student(self, things, tmp_path, marker, capsys):
        path = tmp_path / "shape.yaml"
        path.write_text(f"model_type: {tag(marker)}\n")
        arguments = ["--task", "translation", "--data", things / "data", "--output_dir", tmp_path / "out"]
        line = refused(capsys, *arguments, "--student.config", path, "--student.vocab_size", 300)
        assert line.startswith(f"--student.config {path}: cannot be read (could not determine a constructor")


class TestNames:
    @pytest.mark.parametrize(
        ("flag", "name"),
        [
            *(
                ("--data", name)
                for name in ("../..", "../../x", "a/..", "a/b:..", "a:../../x", "demo:../../x", "a\\..\\b")
            ),
            *(
                ("--teacher", name)
                for name in ("../..", "../../x", "a/..", "a/../b", "demo:../../x", "models--a--b/..")
            ),
        ],
    )
    def test_none_leads_out_of_a_cache(self, things, tmp_path, monkeypatch, capsys, flag, name):
        work = tmp_path / "one" / "two"
        work.mkdir(parents=True)
        monkeypatch.chdir(work)
        monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path / "cache"))
        values = {"--teacher": things / "teacher", "--data": things / "data", flag: name}
        line = refused(capsys, *run(values["--teacher"], values["--data"], "out"))
        assert line.startswith(f"{flag} {name}: ")
        if flag == "--data" and name not in ("../..", "demo:../../x"):
            assert "not the id of a Hub data set" in line  # so that no library makes a path of it
        made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
        assert made <= {"cache"}
        assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")} <= {
            "one/two",
            "cache/encoded",
            "cache/texts",
        }

    def test_a_path_upwards_is_a_path(self, things, tmp_path, monkeypatch):
        (things / "deep" / "deeper").mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(things / "deep" / "deeper")
        assert main(["student", "--teacher", "../../teacher", "--output_dir", str(tmp_path / "out")]) == 0

    def test_a_tokenizer_reads_only_its_own_folder(self, tmp_path):
        """Else a file of this machine would end up in the student's vocabulary, and be published with it."""
        private = tmp_path / "private.json"
        private.write_text(json.dumps({"secretword": 0, "</s>": 1, "<unk>": 2, "<pad>": 3}))
        teacher = save_teacher(tmp_path / "teacher", "marian")
        files = dict.fromkeys(("vocab", "vocab_file", "source_spm", "target_spm", "tokenizer_file"), "../private.json")
        edit_json(teacher / "tokenizer_config.json", **files)
        assert main(["student", "--teacher", str(teacher), "--output_dir", str(tmp_path / "out")]) == 0
        assert "secretword" not in AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
        assert not [name for name, content in tree(tmp_path / "out").items() if b"secretword" in (content or b"")]


LINKS = """
run.yaml student_init best checkpoints logs metrics.jsonl results.json test_generations.jsonl nonfinite.json .lock
.owner ..owner.new .run.yaml.new .best.new .best.old .student_init.new .student_init.old .metrics.jsonl.new
.results.json.new .x.new checkpoints/last.ckpt checkpoints/previous.ckpt checkpoints/.last.ckpt.new
checkpoints/last.ckpt.sha256 checkpoints/step=2-val_loss=1.0.ckpt
logs/hparams.yaml logs/version_0 logs/version_0/metrics.csv
""".split()


class TestLinks:
    def link(self, tmp_path: Path, name: str, to: str) -> Path:
        """A link inside a run's folder to what is outside of it."""
        (tmp_path / "outside" / "folder").mkdir(parents=True)
        (tmp_path / "outside" / "file").write_text("mine")
        link = tmp_path / "run" / name
        link.parent.mkdir(parents=True)
        link.symlink_to(tmp_path / "outside" / to)
        return link

    @pytest.mark.parametrize("to", ["file", "folder", "nothing"])
    @pytest.mark.parametrize("name", LINKS)
    def test_inside_the_output_folder(self, tmp_path, name, to):
        link = self.link(tmp_path, name, to)
        before = tree(tmp_path)
        with pytest.raises(
            ConfigError, match=f"^`output_dir`: {re.escape(str(link))} is a link, .* remove the link, or"
        ):
            OutputFolder(tmp_path / "run").create()
        assert tree(tmp_path) == before

    @pytest.mark.parametrize(
        ("name", "to"),
        [("run.yaml", "file"), ("checkpoints", "folder"), (".best.new", "folder"), (".owner", "nothing")],
    )
    def test_before_anything_is_loaded(self, tmp_path, capsys, name, to):
        """Neither teacher nor data are there."""
        link = self.link(tmp_path, name, to)
        before = tree(tmp_path)
        line = refused(capsys, *run(tmp_path / "no", tmp_path / "no", tmp_path / "run"))
        assert line.startswith(f"--output_dir: {link} is a link")
        assert tree(tmp_path) == before

    def test_what_else_is_there_may_be_one(self, finished, things, tmp_path):
        """Also those that a logger makes for itself."""
        folder = Path(shutil.copytree(finished, tmp_path / "copy"))
        (folder / "notes").symlink_to(things)
        (folder / "best" / "extra").symlink_to(things)
        (folder / "logs" / "wandb" / "run-1").mkdir(parents=True)
        (folder / "logs" / "wandb" / "latest-run").symlink_to("run-1")
        assert main(run(things / "teacher", things / "data", folder)) == 0
        assert (things / "teacher" / "config.json").exists()

    def test_the_output_folder_itself_may_be_one(self, finished):
        assert finished.is_symlink()
        assert (finished.parent / "elsewhere" / "best" / "model.safetensors").exists()

    @pytest.mark.parametrize("name", [".out.new", ".out.old"])
    def test_beside_the_output_folder_of_a_verb(self, things, tmp_path, capsys, name):
        (tmp_path / "outside").mkdir()
        (tmp_path / name).symlink_to(tmp_path / "outside")
        out = tmp_path / "out"
        for arguments in (
            ("student", "--teacher", things / "teacher"),
            ("convert", "--checkpoint", things / "teacher"),
            ("average", "--checkpoints", things / "teacher"),
        ):
            line = refused(capsys, *arguments, "--output_dir", out)
            assert line.startswith(f"--output_dir: {tmp_path / name} is a link")
        assert not out.exists() and not list((tmp_path / "outside").iterdir())

    @pytest.mark.parametrize("there", [True, False])
    def test_a_verb_writes_through_the_link_that_it_is_given(self, things, tmp_path, there):
        target = tmp_path / "elsewhere" / "folder"
        if there:
            target.mkdir(parents=True)
        (tmp_path / "out").symlink_to(target)
        assert main(["student", "--teacher", str(things / "teacher"), "--output_dir", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out").is_symlink() and (target / "config.json").exists()
        assert [path.name for path in target.parent.iterdir()] == ["folder"]


SECRETS = {
    "HF_TOKEN": "hf_pLantedHubTokenXyz",
    "HUGGING_FACE_HUB_TOKEN": "hf_pLantedOlderTokenXyz",
    "WANDB_API_KEY": "0pLantedWandbKey0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "pLanted/AwsSecret+Key",
    "AWS_SESSION_TOKEN": "pLantedAwsSessionToken==",
    "MLFLOW_TRACKING_PASSWORD": "pLantedMlflowPassword",
}
IN_URL = "pLantedUrlToken"
URL = f"https://user:{IN_URL}@host.invalid/some/thing"


def leaks(folder: Path) -> list[str]:
    """Names and files of a folder in which a planted secret stands."""
    words = [word.encode() for word in (*SECRETS.values(), IN_URL)]
    return [
        name
        for name, content in tree(folder).items()
        if any(word in (content or b"") + name.encode() for word in words)
    ]


class TestSecrets:
    @pytest.fixture(autouse=True)
    def planted(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """In the environment and in the git remote of the working folder, which has one commit."""
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        work = tmp_path / "work"
        work.mkdir()
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        for command in (
            ["init", "-q"],
            ["remote", "add", "origin", URL],
            [*who, "commit", "-qm", "a", "--allow-empty"],
        ):
            subprocess.run(["git", *command], cwd=work, check=True)
        monkeypatch.chdir(work)

    def test_the_search_finds_them(self, tmp_path):
        assert leaks(tmp_path) == [str(tmp_path / "work" / ".git" / "config")]

    def test_none_is_in_what_a_run_writes(self, things, tmp_path, capfd, monkeypatch):
        monkeypatch.setenv("SEQ2SEQ_DISTILL_CACHE", str(tmp_path / "cache"))
        out = tmp_path / "run"
        arguments = run(things / "teacher", things / "data", out, "--trainer.log_every_n_steps", "1")
        arguments[arguments.index("[]")] = '["tensorboard", "csv"]'
        assert main(arguments) == 0
        assert main(arguments) == 0  # shows the results again
        last = str(out / "checkpoints" / "last.ckpt")
        assert main(["convert", "--checkpoint", last, "--output_dir", str(tmp_path / "converted")]) == 0
        written = {path.name for path in tmp_path.rglob("*")}
        assert written > {"run.yaml", "README.md", "last.ckpt", "metrics.csv", "results.json", "metrics.jsonl"}
        assert any(name.startswith("events.out.tfevents") for name in written)
        assert yaml.safe_load((out / "run.yaml").read_text())["provenance"]["git_commit"]
        assert leaks(tmp_path) == [str(tmp_path / "work" / ".git" / "config")]
        assert "pLanted" not in "".join(capfd.readouterr())

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--teacher", URL],
            ["--data", URL],
            ["--data", f"hf://user:{IN_URL}@datasets/a/b"],
            ["--student.path", URL],
            ["--student.config", URL],
            ["--resume", URL],
            ["--output_dir", f"s3://user:{IN_URL}@bucket/run"],
            ["--config", URL],
            [f"--techer={URL}"],
            ["--trainer.strategy", URL],
            ["--trainer.extra", json.dumps({"profilr": URL})],
            ["--seed", SECRETS["WANDB_API_KEY"]],
            ["--teacher", f"some/{SECRETS['HF_TOKEN']}"],
            ["convert", "--checkpoint", URL, "--output_dir", "o"],
            ["average", "--checkpoints", URL, URL, "--output_dir", "o"],
        ],
        ids=lambda arguments: " ".join(word for word in arguments[:2] if "pLanted" not in word),
    )
    def test_none_is_in_what_a_mistake_says(self, things, tmp_path, capfd, arguments):
        command = arguments
        if arguments[0].startswith("--"):
            cut = not arguments[0].startswith("--student")
            command = run(things / "teacher", things / "data", tmp_path / "run", *arguments, cut=cut)
        assert main(command) == 2
        printed = "".join(capfd.readouterr())
        assert "distill: " in printed and "pLanted" not in printed
        assert leaks(tmp_path) == [str(tmp_path / "work" / ".git" / "config")]

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Illegal header value b'Bearer hf_pLantedHubTokenXyz'", "Illegal header value b'Bearer ***'"),
            (f"no such folder: {URL}", "no such folder: https://***@host.invalid/some/thing"),
            ("https://user:p@ss@host/a and s3://key@b", "https://***@host/a and s3://***@b"),
            (str(Path("https://user:word@host/a")), "https:/***@host/a"),
            ("mail a@b.example, see https://host/a@b", "mail a@b.example, see https://host/a@b"),
        ],
    )
    def test_they_are_masked(self, text, shown):
        assert redacted(text) == shown
        assert str(DataError(text)) == str(ModelError(text)) == shown

    def test_a_short_value_hides_no_words(self, monkeypatch):
        monkeypatch.setenv("SOME_KEY", "data")
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", "the folder")
        assert redacted("--data: no such folder, not even the folder") == "--data: no such folder, not even the folder"


def test_the_audit_is_a_target_of_its_own():
    """A vulnerability that becomes known must not turn the checks of unchanged code red."""
    recipes: dict[str, str] = {}
    for line in (ROOT / "Makefile").read_text("utf-8").splitlines():
        if line[:1].isalpha() and ":" in line and "=" not in line.split("##")[0]:
            target = line.split(":")[0]
            recipes[target] = line.split("##")[0]
        elif line.startswith("\t") and recipes:
            recipes[target] += line
    assert "pip-audit -r constraints.txt" in recipes["audit"]
    assert not [target for target, recipe in recipes.items() if target != "audit" and "pip-audit" in recipe]
    assert os.path.exists(ROOT / "SECURITY.md") and "(SECURITY.md)" in (ROOT / "README.md").read_text("utf-8")
