"""`distill label` with a language model in a folder, and behind a real server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest
from transformers import GenerationConfig
from transformers.cli.serve import Serve

from seq2seq_distill.cli.main import main
from seq2seq_distill.commands.label.command import label
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.utils.errors import ConfigError
from tests.tiny_language_model import save_language_model
from tests.tiny_runs import save_teacher, write_data

ROWS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model")
    save_language_model(folder / "model", positions=256)
    # What `transformers serve` needs to sample at all.
    GenerationConfig(do_sample=True, eos_token_id=0, pad_token_id=1).save_pretrained(folder / "model")
    write_data(folder / "data", ROWS)
    return folder


@pytest.fixture
def config(place: Path, tmp_path: Path) -> LabelConfig:
    return LabelConfig(
        model=str(place / "model"),
        data=[str(place / "data")],
        output_dir=str(tmp_path / "labels"),
        task="translation",
        src_lang="en",
        tgt_lang="de",
        max_target_length=24,
        shard_rows=5,
    )


def rows(config: LabelConfig, folder: str = "") -> list[dict[str, Any]]:
    paths = sorted((config.folder / folder).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def contents(config: LabelConfig) -> dict[str, bytes]:
    """What is there, but for the journal, whose order is that of the answers."""
    found = (path for path in config.folder.rglob("*") if path.suffix in (".parquet", ".json"))
    return {str(path.relative_to(config.folder)): path.read_bytes() for path in found}


class TestFolder:
    def test_greedy_labels_are_the_same_bytes_and_a_source_for_a_run(self, config: LabelConfig) -> None:
        report = label(replace(config, logprobs=True))
        before = contents(config)
        (config.folder / "raw" / "00001.parquet").unlink()
        label(replace(config, logprobs=True))
        assert contents(config) == before
        counts = report["language_model"]
        assert counts["answers"] == ROWS and counts["requests"] == 0
        found = rows(config)
        assert len(found) == ROWS - report["filters"]["drop_cut"]["removed"] > 2
        for row in found:
            assert row["score"] < 0 and row["origin"] == f"{config.model} (transformers)"
            if row["token_ends"]:
                assert len(row["token_ends"]) == len(row["token_logprobs"])
                assert row["token_ends"][-1] == len(row["target"].encode()) + 1
        assert any(row["token_ends"] for row in found)
        assert load_split(str(config.folder), "train")["target"] == [row["target"] for row in found]

    def test_samples_are_those_of_their_shard(self, config: LabelConfig) -> None:
        sampled = replace(config, sample=True, n_best=2, keep="all", top_p=0.95)
        label(sampled)
        before = contents(sampled)
        (config.folder / "raw" / "00001.parquet").unlink()
        label(sampled)
        assert contents(sampled) == before
        raw = rows(config, "raw")
        assert [row["rank"] for row in raw] == [0, 1] * ROWS
        assert all(one["score"] >= other["score"] for one, other in zip(raw[::2], raw[1::2], strict=True))
        assert all(row["token_ends"] is None for row in raw)

    def test_a_dry_run_counts_tokens(self, config: LabelConfig) -> None:
        estimate = label(replace(config, dry_run=True))
        assert estimate["rows"] == ROWS and estimate["prompt_tokens"] > 20 * ROWS
        assert not config.folder.exists()


def test_options_of_one_kind_of_model_are_refused_for_the_other(
    place: Path, config: LabelConfig, tmp_path: Path, capsys: Any
) -> None:
    save_teacher(tmp_path / "marian")
    common = ["--data", *config.data, "--output_dir", config.output_dir, "--src_lang", "en", "--tgt_lang", "de"]
    for model, more, words in (
        (
            tmp_path / "marian",
            ["--task", "translation", "--shots", "2"],
            "--shots 2 is for language models, and --model",
        ),
        (config.model, ["--task", "translation", "--engine", "ctranslate2"], "does not apply to a language model"),
        (config.model, [], "--task is missing, which the prompt of a language model needs: name one"),
        (config.model, ["--task", "translation", "--n_best", "2"], "--n_best 2 gives a language model equal answers"),
    ):
        assert main(["label", "--model", str(model), *common, *more]) == 2
        assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    """`transformers serve` in a thread, with the model of the folder."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Serve(str(place / "model"), host="127.0.0.1", port=port, device="cpu", non_blocking=True)
    try:
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health"):
                    break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill_server()
        assert threading.active_count() < 50


class TestTransformersServe:
    def test_greedy_labels_are_the_same_bytes_and_those_of_the_folder(self, config: LabelConfig, server: str) -> None:
        served = replace(config, server=server)
        label(served)
        again = replace(served, output_dir=f"{config.output_dir}-2")
        label(again)
        assert contents(served) == contents(again)
        here = replace(config, output_dir=f"{config.output_dir}-3")
        label(here)
        assert [row["target"] for row in rows(served)] == [row["target"] for row in rows(here)]

    def test_plain_completions(self, config: LabelConfig, server: str) -> None:
        report = label(replace(config, server=server, api="completions", min_words=1))
        assert report["language_model"]["answers"] == ROWS

    def test_it_ignores_n_and_gives_no_log_probabilities(self, config: LabelConfig, server: str) -> None:
        sampled = replace(config, server=server, sample=True, n_best=2, n=3, keep="all")
        report = label(sampled)
        assert (report["language_model"]["answers"], report["language_model"]["requests"]) == (6, 6)
        raw = rows(config, "raw")
        assert all(one["target"] != other["target"] for one, other in zip(raw[::2], raw[1::2], strict=True))
        with pytest.raises(ConfigError, match="`logprobs`: the `server` gives no log-probabilities"):
            label(replace(config, server=server, logprobs=True, output_dir=f"{config.output_dir}-2"))

    def test_what_it_does_not_know_is_told_in_its_words(self, config: LabelConfig, server: str) -> None:
        with pytest.raises(ConfigError, match="refuses all .* status 422: Unexpected fields .*top_k"):
            label(replace(config, server=server, sample=True, top_k=5))
