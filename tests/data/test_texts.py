"""The texts of a run: sources joined, splits cut to their limits."""

from dataclasses import replace
from pathlib import Path

import pytest

from seq2seq_distill.config import EncodeConfig, EvalConfig, RunConfig, TrainerConfig
from seq2seq_distill.data.texts import load_texts
from seq2seq_distill.utils.errors import DataError
from tests.tiny_runs import write_data

CONFIG = RunConfig(task="translation")


class TestTexts:
    def test_sources_are_joined_in_order(self, tmp_path: Path) -> None:
        folders = [write_data(tmp_path / name, rows=rows, seed=rows) for name, rows in (("a", 12), ("b", 20))]
        texts = load_texts(CONFIG, [str(folder) for folder in folders])
        assert texts.sizes == (12, 20)
        assert {split: len(texts.splits[split]) for split in texts.splits} == {"train": 32, "val": 8, "test": 8}
        lines = [line for folder in folders for line in (folder / "train.target").read_text("utf-8").splitlines()]
        assert list(texts.splits["train"]["target"]) == lines

    def test_limits_cut_each_split(self, tmp_path: Path) -> None:
        folders = [str(write_data(tmp_path / name, rows=12, seed=i)) for i, name in enumerate("abc")]
        config = replace(CONFIG, encode=EncodeConfig(n_train=15), eval=EvalConfig(n_val=2, n_test=4))
        texts = load_texts(config, folders)
        assert {split: len(texts.splits[split]) for split in texts.splits} == {"train": 15, "val": 2, "test": 4}
        assert texts.sizes == (12, 3, 0)

    def test_a_source_of_weight_0_gives_its_val_and_test_alone(self, tmp_path: Path) -> None:
        folders = [str(write_data(tmp_path / name, rows=12, seed=i)) for i, name in enumerate("ab")]
        for side in ("source", "target"):
            for split in ("val", "test"):
                (tmp_path / "a" / f"{split}.{side}").unlink()
            (tmp_path / "b" / f"train.{side}").unlink()
        config = replace(CONFIG, data=folders, data_weights=[1.0, 0.0], trainer=TrainerConfig(max_epochs=2))
        texts = load_texts(config, folders)
        assert texts.sizes == (12, 0)
        assert (
            list(texts.splits["train"]["target"]) == (tmp_path / "a" / "train.target").read_text("utf-8").splitlines()
        )
        assert list(texts.splits["val"]["target"]) == (tmp_path / "b" / "val.target").read_text("utf-8").splitlines()
        with pytest.raises(DataError, match="no train split: .* or name a source that has this split too"):
            load_texts(replace(config, data_weights=[0.0, 1.0]), folders)

    def test_fingerprint_is_of_the_texts(self, tmp_path: Path) -> None:
        prints = [
            load_texts(CONFIG, [str(write_data(tmp_path / name, seed=seed))]).fingerprint
            for name, seed in (("a", 0), ("b", 0), ("c", 1))
        ]
        assert prints[0] == prints[1] != prints[2]
