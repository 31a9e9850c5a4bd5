"""Texts in, outputs out: order, formats, what cannot be read, pipes, terminals."""

import gzip
import io
import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from seq2seq_distill import load_decoder
from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.generate import records
from seq2seq_distill.data.sentences import split_sentences
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_runs import save_teacher
from tests.tiny_tokenizers import SOURCES


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("generate") / "model", "bart")


@pytest.fixture
def run(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """The command on some bytes: exit code, standard output, and lines of standard error."""

    def generate(content: bytes, *more: str, **options: Any) -> tuple[int, bytes, list[str]]:
        file, out = tmp_path / "in.txt", tmp_path / "out.txt"
        file.write_bytes(content)
        arguments = ["--model", str(options.get("model", model)), "--input", str(file), "--output", str(out)]
        code = main(["generate", *arguments, "--max_target_length", "6", *more])
        return code, out.read_bytes() if out.exists() else b"", capfd.readouterr().err.splitlines()

    return generate


def expected(model: Path, texts: list[str], **options: Any) -> list[str]:
    return load_decoder(model, max_target_length=6, **options)(texts)


class TestText:
    def test_order_blank_lines_and_line_ends(self, run, model, monkeypatch):
        monkeypatch.setattr(records, "CHUNK_LINES", 4)
        texts = [*SOURCES, "", *reversed(SOURCES), "  "]
        outputs = expected(model, texts)
        assert len(set(outputs)) > 2 and outputs[6] == outputs[-1] == ""
        code, written, _ = run(b"\xef\xbb\xbf" + "\r\n".join(texts).encode())
        assert code == 0 and written.decode() == "".join(f"{line}\n" for line in outputs)
        assert run(b"")[:2] == (0, b"")

    def test_a_long_line_is_cut_and_counted(self, run, model, caplog):
        long = "dog " * 25_000
        code, written, _ = run(f"{long}\n{SOURCES[0]}\n".encode())
        assert code == 0 and written.decode().splitlines() == expected(model, [long, SOURCES[0]])
        assert caplog.messages[-1].startswith("cut: 1 of 2 texts are longer than the 48 tokens")

    def test_a_line_that_is_not_utf8_ends_it_after_those_before(self, run, model, monkeypatch):
        monkeypatch.setattr(records, "CHUNK_LINES", 2)
        code, written, errors = run("\n".join(SOURCES[:3]).encode() + b"\na caf\xe9\nmore\n")
        assert code == 2 and written.decode().splitlines() == expected(model, SOURCES[:3])
        assert "in.txt:4: byte 6 of the line is not UTF-8" in errors[-1]

    def test_a_line_break_of_an_output_is_a_space(self):
        config = records.GenerateConfig()
        assert (
            records.line_of(records.Record("a", None), [records.Hypothesis("a\r\nb", (), 0, False)], config) == "a b\n"
        )

    def test_compressed(self, model, tmp_path):
        (tmp_path / "in.gz").write_bytes(gzip.compress(SOURCES[0].encode()))
        out = tmp_path / "out"
        arguments = ["--model", str(model), "--input", str(tmp_path / "in.gz"), "--output", str(out)]
        assert main(["generate", *arguments, "--max_target_length", "6"]) == 0
        assert out.read_text().splitlines() == expected(model, SOURCES[:1])


class TestJson:
    def test_fields_are_kept_and_n_best_are_lists(self, run, model):
        lines = [{"id": 7, "source": SOURCES[0]}, {"source": "", "ü": [1]}]
        content = "\n".join(map(json.dumps, lines)).encode()
        code, written, _ = run(content, "--format", "jsonl")
        first, second = map(json.loads, written.decode().splitlines())
        assert code == 0 and first["id"] == 7 and first["output"] == expected(model, SOURCES[:1])[0]
        assert first["score"] < 0 and second == {**lines[1], "output": "", "score": None}
        code, written, _ = run(content, "--format", "jsonl", "--n_best", "2", "--beams", "3", "--output_column", "de")
        first = json.loads(written.decode().splitlines()[0])
        assert len(first["de"]) == len(first["score"]) == 2 and first["score"][0] >= first["score"][1]
        assert first["de"][0] == expected(model, SOURCES[:1], beams=3)[0]

    @pytest.mark.parametrize(
        ("content", "more", "words"),
        [
            (b"{}\n", [], "in.txt:1: no text in the field source: name another --source_column"),
            (b'{"source": 1}\n', [], "no text in the field source"),
            (b'{"source": "a"}\nnone\n', [], "in.txt:2: not JSON"),
            (b'{"source": "a", "id": "\\ud83d"}\n', [], "in.txt:1: half of a surrogate pair"),  # once a traceback
            (b"{}", ["--n_best", "2"], "--n_best 2 needs as many beams, and the model has 1: add --beams 2"),
        ],
    )
    def test_mistakes(self, run, content, more, words):
        code, _, errors = run(content, "--format", "jsonl", *more)
        assert code == 2 and words in errors[-1]


def test_options_that_do_not_go_together(capsys):
    for more, words in (
        (["--n_best", "2"], "--n_best 2 needs --format jsonl"),
        (["--n_best", "2", "--format", "jsonl", "--split_sentences", "true"], "does not go together with --split_sent"),
        (["--input", "a", "--output", "a"], "--output a is the --input too"),
        (["--input", "./b/../a", "--output", "a"], "--output a is the --input too"),  # it was emptied
    ):
        assert main(["generate", "--model", "x", *more]) == 2
        assert words in capsys.readouterr().err


def test_a_tokenizer_without_a_pad_token(model, tmp_path):
    """The model's config has one: training took it, decoding ended with a TypeError."""
    shutil.copytree(model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    assert AutoTokenizer.from_pretrained(tmp_path / "model").pad_token_id is None
    assert expected(tmp_path / "model", SOURCES[:3]) == expected(model, SOURCES[:3])


def test_outputs_of_before_stay_if_the_input_cannot_be_read(model, tmp_path, capfd):
    """They were emptied before the input was looked for."""
    out = tmp_path / "out.txt"
    out.write_text("before")
    assert main(["generate", "--model", str(model), "--input", str(tmp_path / "no.txt"), "--output", str(out)]) == 2
    assert "no.txt: No such file or directory: give a file" in capfd.readouterr().err and out.read_text() == "before"


def test_sentences_are_decoded_by_themselves(run, model):
    text = "Two men sit. The girl reads a book."
    sentences = [sentence for sentence, _ in split_sentences(text, "en")]
    assert sentences == ["Two men sit.", "The girl reads a book."]
    assert split_sentences("Mr. Ü ging. Er", "deu_Latn")
    assert [sentence for sentence, _ in split_sentences("今日。明日。", "ja")] == ["今日。", "明日。"]
    code, written, _ = run(f"{text}\n\n".encode(), "--split_sentences", "true")
    parts = expected(model, sentences)
    assert code == 0 and written.decode() == " ".join(filter(None, parts)) + "\n\n"


class TestDefaults:
    def test_a_run_s_folder_stands_for_its_best_student(self, run, tmp_path, monkeypatch):
        folder = tmp_path / "run"
        save_teacher(folder / "best", "bart")
        options = {"task": "translation", "tgt_lang": "de", "encode": {"prefix": "dog dog "}, "eval": {}}
        (folder / "run.yaml").write_text(json.dumps(options))
        generator = load_decoder(folder)
        assert (generator.loaded.prefix, generator.options.tgt_lang) == ("dog dog ", "de")
        code, written, _ = run(SOURCES[0].encode(), model=folder)
        assert code == 0 and written.decode().splitlines() == expected(folder, SOURCES[:1])

    def test_of_several_tasks_one_is_chosen_by_what_is_given(self, tmp_path):
        save_teacher(tmp_path / "best", "bart")
        tasks = [{"name": lang, "data": [lang], "tgt_lang": lang, "prefix": f"{lang} "} for lang in ("de", "fr")]
        run = {"task": "translation", "tasks": tasks, "encode": {"max_source_length": 7}}
        (tmp_path / "run.yaml").write_text(json.dumps(run))
        generator = load_decoder(tmp_path, tgt_lang="fr")
        assert (generator.loaded.prefix, generator.loaded.max_length) == ("fr ", 7)
        with pytest.raises(ConfigError, match="learned several tasks, and 2 are meant"):
            load_decoder(tmp_path)

    def test_a_run_without_a_student(self, run, tmp_path):
        (tmp_path / "run.yaml").write_text("{}")
        code, _, errors = run(b"a", model=tmp_path)
        assert code == 2 and "the run has no best/ yet" in errors[-1]

    def test_wrong_options_from_python(self, model):
        with pytest.raises(ConfigError, match="`beams` 0 is too small"):
            load_decoder(model, beams=0)


class TestPipes:
    def command(self, model: Path) -> list[str]:
        return ["generate", "--model", str(model), "--max_target_length", "6"]

    def test_lines_are_answered_before_the_input_ends(self, model, monkeypatch, capfd):
        """A program that writes a line and waits for its output gets it."""
        read, write = os.pipe()
        answered, answer = os.pipe()
        monkeypatch.setattr(sys, "stdin", os.fdopen(read, "r"))
        monkeypatch.setattr(sys, "stdout", os.fdopen(answer, "w"))
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(main(self.command(model))))
        thread.start()
        outputs = []
        with os.fdopen(write, "w") as asked, os.fdopen(answered, "r") as lines:
            for text in SOURCES[:2]:
                asked.write(f"{text}\n")
                asked.flush()
                outputs.append(lines.readline().rstrip("\n"))
        thread.join()
        assert codes == [0] and outputs == expected(model, SOURCES[:2])

    def test_a_closed_pipe_ends_it_quietly(self, model, monkeypatch, tmp_path, capfd):
        file = tmp_path / "in.txt"
        file.write_text("\n".join(SOURCES))
        read, write = os.pipe()
        os.close(read)
        monkeypatch.setattr(sys, "stdout", os.fdopen(write, "w"))
        assert main([*self.command(model), "--input", str(file)]) == 0
        sys.stdout.flush()
        assert "rror" not in capfd.readouterr().err

    def test_on_a_terminal_it_prompts(self, model, monkeypatch, capsys):
        terminal = io.StringIO(f"{SOURCES[0]}\n\n")
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main(self.command(model)) == 0
        shown = capsys.readouterr()
        assert shown.out == expected(model, SOURCES[:1])[0] + "\n\n"
        assert "Type a text and press Enter; Ctrl-D ends.\n> " in shown.err
