"""Mistakes in models, in options that only the model can judge, and in the output folder."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.mistakes.kinds import Bad, Kind, command, evaluation, exporting, labelling, words

FOLDER = Path("bad-model")


def copied(change: Callable[[Path, Any], object], named: str = str(FOLDER)) -> Callable[[Any], Bad]:
    """A copy of the teacher with something changed."""

    def make(drawn: Any) -> Bad:
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree("teacher", FOLDER)
        change(FOLDER, drawn)
        return Bad(command("--teacher", str(FOLDER)), named)

    return make


def in_config(folder: Path, keys: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def shorter(folder: Path, keep: float) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def without_tokenizer(folder: Path, _: None) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


def option(title: str, flag: str, values: st.SearchStrategy[str], example: str) -> Kind:
    return Kind(title, values, example, lambda value: Bad(command(flag, value), flag))


def taken(word: str) -> Bad:
    name = f"{word}.txt"
    Path(name).write_text("a file")
    return Bad(command("--output_dir", name), name)


def circle(name: str) -> Bad:
    link = Path(f"{name}.link")
    if not link.is_symlink():
        os.symlink(link, link)
    return Bad(["convert", "--checkpoint", "teacher", "--output_dir", str(link)], str(link))


KINDS = (
    Kind(
        "a teacher that does not exist",
        words.map("./{}".format),
        "./nowhere",
        lambda name: Bad(command("--teacher", name), name),
    ),
    Kind(
        "a folder without a model",
        st.none(),
        None,
        copied(lambda folder, _: (folder / "config.json").unlink()),
    ),
    Kind(
        "a model config that is not JSON",
        st.sampled_from(["", "{", "[]", "[" * 5000]),
        "{",
        copied(lambda folder, text: (folder / "config.json").write_text(text)),
    ),
    Kind(
        "a generation config that is not JSON",
        st.sampled_from(["", "{", "{'a': 1}"]),
        "{",
        copied(lambda folder, text: (folder / "generation_config.json").write_text(text)),
    ),
    Kind(
        "a model that is not an encoder-decoder",
        st.sampled_from([{"model_type": "gpt2"}, {"model_type": "bert"}]),
        {"model_type": "gpt2"},
        copied(in_config),
    ),
    Kind(
        "task-specific parameters that are not a mapping",
        st.sampled_from([5, "x", [1], {"translation_en_to_de": 5}, {"translation_en_to_de": {"prefix": 5}}]).map(
            lambda params: {"task_specific_params": params}
        ),
        {"task_specific_params": 5},
        copied(in_config),
    ),
    Kind("truncated weights", st.floats(0.0, 0.99), 0.5, copied(shorter)),
    Kind(
        "a model without a tokenizer",
        st.none(),
        None,
        copied(without_tokenizer, f"--teacher {FOLDER}: no tokenizer is saved"),
    ),
    option("more layers than the teacher has", "--student.decoder_layers", st.integers(3, 99).map(str), "13"),
    option(
        "a layer id that the teacher does not have", "--student.decoder_layer_ids", st.integers(2, 99).map(str), "12"
    ),
    option("more width than the teacher has", "--student.encoder_ffn_dim", st.integers(33, 9999).map(str), "4096"),
    option("heads that cannot go alone", "--student.num_heads", st.integers(1, 2).map(str), "1"),
    option("a width that divides a head", "--student.d_model", st.integers(9, 15).map(str), "12"),
    option("an unknown config key", "--student.overrides", words.map('{{"{}": 1}}'.format), '{"dropuot": 0.1}'),
    option(
        "a config key that changes the shape of weights",
        "--student.overrides",
        st.integers(1, 99).map(lambda n: f'{{"d_model": {n * 17}}}'),
        '{"d_model": 512}',
    ),
    option("an unknown generation option", "--eval.generate", words.map('{{"{}": 1}}'.format), '{"beems": 4}'),
    option(
        "a generation option with an invalid value",
        "--eval.generate",
        st.sampled_from(
            [
                '{"watermarking_config": {"a": 1}}',
                '{"repetition_penalty": 0}',
                '{"no_repeat_ngram_size": "x"}',
                '{"bad_words_ids": 3}',
            ]
        ),
        '{"repetition_penalty": 0}',
    ),
    Kind(
        "an unknown generation option in an evaluation",
        words.map('{{"{}": 1}}'.format),
        '{"beems": 4}',
        lambda value: Bad(evaluation("--generate", value), "--generate"),
    ),
    Kind(
        "a generation option that CTranslate2 does not support",
        st.integers(4, 9),
        5,
        lambda token: Bad(
            labelling("--engine", "ctranslate2", "--generate.encoder_no_repeat_ngram_size", str(token)), "--engine"
        ),
    ),
    Kind(
        "a generation option that a shortlist breaks",
        st.sampled_from(['{"no_repeat_ngram_size": 3}', '{"repetition_penalty": 1.5}', '{"suppress_tokens": [5]}']),
        '{"no_repeat_ngram_size": 3}',
        lambda value: Bad(exporting("--shortlist", "true", "--generate", value), "--generate"),
    ),
    Kind(
        "an output file that does not exist",
        words.map("./{}.txt".format),
        "./outputs.txt",
        lambda name: Bad(evaluation(name), f"--models {name}"),
    ),
    option("a student that does not exist", "--student.path", words.map("./{}".format), "./nowhere"),
    option("a student config that does not exist", "--student.config", words.map("./{}.yaml".format), "./nowhere.yaml"),
    option("a checkpoint that does not exist", "--resume", words.map("./{}.ckpt".format), "./nowhere.ckpt"),
    option("an unknown strategy", "--trainer.strategy", words, "dppp"),
    Kind("an output folder that is a file", words, "taken", taken),
    Kind("an output folder that is a circular link", words, "circle", circle),
    Kind(
        "an output folder that is not empty",
        st.just("teacher"),
        "teacher",
        lambda name: Bad(["student", "--teacher", "teacher", "--output_dir", name], name),
    ),
    Kind(
        "a missing checkpoint for `convert`",
        words.map("{}.ckpt".format),
        "nowhere.ckpt",
        lambda name: Bad(["convert", "--checkpoint", name, "--output_dir", "converted"], name),
    ),
    Kind(
        "no checkpoints to average",
        st.just("out"),
        "out",
        lambda name: Bad(["average", "--output_dir", name], "--checkpoints"),
    ),
)
