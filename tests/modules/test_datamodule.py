"""Encoded splits and their loaders."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq_distill.config import BatchConfig, EncodeConfig, EvalConfig, RunConfig, TrainerConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.data.loaders import PlannedLoader
from seq2seq_distill.data.texts import load_texts
from seq2seq_distill.modules.datamodule import Seq2SeqData
from tests.tiny_runs import write_data
from tests.tiny_tokenizers import plain_tokenizer

CONFIG = RunConfig(
    task="translation",
    seed=3,
    batch=BatchConfig(size=8),
    eval=EvalConfig(batch_size=4),
    trainer=TrainerConfig(max_epochs=2),
)


def make(folder: Path, config: RunConfig = CONFIG, *, rank: int = 0, world: int = 1, **options: Any) -> Seq2SeqData:
    """The data of one process; 22 rows to train, 5 to validate and to test."""
    texts = load_texts(config, [str(write_data(folder / "data", rows=22))])
    data = Seq2SeqData(EncodedSplits(config, texts, plain_tokenizer(), Collator(0), **options))
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
    return data


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k] for k in a
    )


class TestEncoded:
    def test_targets_to_judge_by_have_a_limit_of_their_own(self, tmp_path: Path) -> None:
        config = replace(CONFIG, encode=EncodeConfig(max_source_length=6, max_target_length=4))
        data = make(tmp_path, config).splits
        longest = {split: max(map(len, data.encoded[split]["labels"])) for split in data.encoded}
        assert longest["train"] == 4 and longest["val"] > 4 and longest["test"] > 4
        assert max(map(len, data.encoded["val"]["input_ids"])) == 6
        assert 0 < data.truncation()["source"] < 1 and 0 < data.truncation()["target"] < 1

    def test_positions_of_the_models_are_never_passed(self, tmp_path: Path) -> None:
        data = make(tmp_path, max_positions=(5, 3)).splits
        for encoded in data.encoded.values():
            assert max(map(len, encoded["input_ids"])) == 5 and max(map(len, encoded["labels"])) == 3

    def test_references_are_never_cut(self, tmp_path: Path) -> None:
        """H26: references were decoded from truncated labels, which inflates ROUGE."""
        data = make(tmp_path, max_positions=(5, 3)).splits
        assert data.references("val") == (tmp_path / "data" / "val.target").read_text("utf-8").splitlines()

    def test_a_source_of_weight_0_has_no_rows_in_the_plan(self, tmp_path: Path) -> None:
        folders = [str(write_data(tmp_path / name, rows=12, seed=i)) for i, name in enumerate("ab")]
        config = replace(CONFIG, data=folders, data_weights=[1.0, 0.0], trainer=TrainerConfig(max_epochs=2))
        data = EncodedSplits(config, load_texts(config, folders), plain_tokenizer(), Collator(0))
        rows = sorted(row for micro in data.plan.micro_batches() for row in micro.rows)
        assert rows == sorted([*range(12)] * 2)

    def test_weights_of_sources_reach_the_plan(self, tmp_path: Path) -> None:
        folders = [str(write_data(tmp_path / name, rows=8)) for name in "ab"]
        config = replace(CONFIG, data=folders, data_weights=[2.0, 0.5], trainer=TrainerConfig(max_epochs=1))
        data = EncodedSplits(config, load_texts(config, folders), plain_tokenizer(), Collator(0))
        rows = [row for micro in data.plan.micro_batches() for row in micro.rows]
        assert sum(row < 8 for row in rows) == 16 and sum(row >= 8 for row in rows) == 4

    def test_collated_rows(self, tmp_path: Path) -> None:
        data = make(tmp_path).splits
        batch = data.collated("test", [2, 0])
        assert batch["row"].tolist() == [2, 0]
        for i, row in enumerate((2, 0)):
            ids = data.encoded["test"]["input_ids"][row]
            assert batch["input_ids"][i][: len(ids)].tolist() == ids and batch["attention_mask"][i].sum() == len(ids)


def batches(folder: Path, world: int, accumulate: int, **trainer: Any) -> list[list[dict[str, Any]]]:
    """Training batches of every process."""
    options = TrainerConfig(accumulate_grad_batches=accumulate, max_epochs=1, **trainer)
    config = replace(CONFIG, trainer=options)
    return [list(make(folder, config, rank=rank, world=world).train_dataloader()) for rank in range(world)]


class TestTraining:
    @pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 3), (3, 4)])
    def test_token_counts_are_those_of_the_whole_step(self, tmp_path: Path, world: int, accumulate: int) -> None:
        """What the loss divides by equals what the masks of all processes and accumulated batches select."""
        parts = batches(tmp_path, world, accumulate)
        assert {len(own) for own in parts} == {3 * accumulate}
        for step in range(3):
            micros = [batch for own in parts for batch in own[step * accumulate : (step + 1) * accumulate]]
            real = [batch["row"][:, None] >= 0 for batch in micros]
            source = sum(int((b["attention_mask"] * keep).sum()) for b, keep in zip(micros, real, strict=True))
            target = sum(int((b["labels"] != -100).sum()) for b in micros)
            assert {(batch["source_tokens"], batch["target_tokens"]) for batch in micros} == {(source, target)}
        rows = [row for own in parts for batch in own for row in batch["row"].tolist() if row >= 0]
        assert sorted(rows) == list(range(22))

    def test_process_without_rows_gets_one_that_counts_nowhere(self, tmp_path: Path) -> None:
        empty = [b for own in batches(tmp_path, 3, 4) for b in own if b["row"].tolist() == [-1]]
        assert empty
        for batch in empty:
            assert (batch["labels"] == -100).all() and batch["input_ids"].shape == (1, 1)


@pytest.mark.parametrize("workers", [0, 2])
class TestResume:
    def loader(self, folder: Path, workers: int) -> PlannedLoader:
        config = replace(
            CONFIG,
            batch=replace(CONFIG.batch, workers=workers),
            trainer=replace(CONFIG.trainer, accumulate_grad_batches=2),
        )
        loader = make(folder, config).train_dataloader()
        assert isinstance(loader, PlannedLoader)
        return loader

    def test_goes_on_at_the_next_batch(self, tmp_path: Path, workers: int) -> None:
        """Batches that workers have prefetched, but nobody took, come again."""
        whole = list(self.loader(tmp_path, 0))
        first = self.loader(tmp_path, workers)
        taken = list(islice(first, 5))
        state = first.state_dict()
        first.close()
        assert state == {"handed_over": 5} and len(first) == len(whole) == 12
        second = self.loader(tmp_path, workers)
        second.load_state_dict(state)
        resumed = [*taken, *second]
        assert len(resumed) == len(whole) and all(map(same, resumed, whole))
        assert second.state_dict() == {"handed_over": 12}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_row_once_the_longest_first(tmp_path: Path, split: str, world: int) -> None:
    """H25: every process scored its own shard; here each row is somewhere, and all have equally many batches."""
    data = [make(tmp_path, rank=rank, world=world) for rank in range(world)]
    parts = [list(getattr(own, f"{split}_dataloader")()) for own in data]
    assert len({len(own) for own in parts}) == 1
    rows = [row for own in parts for batch in own for row in batch["row"].tolist()]
    assert sorted(row for row in rows if row >= 0) == list(range(5))
    order = [row for turn in zip(*parts, strict=True) for batch in turn for row in batch["row"].tolist() if row >= 0]
    lengths = [len(data[0].splits.encoded[split]["input_ids"][row]) for row in order]
    assert lengths == sorted(lengths, reverse=True)
