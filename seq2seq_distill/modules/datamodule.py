"""The data of a run for Lightning's Trainer."""

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.data.loaders import PlannedLoader, PlannedSampler
from seq2seq_distill.data.run_plan import RunPlan


class Seq2SeqData(LightningDataModule):
    """Loaders over the encoded splits of a run.

    Args:
        splits: the encoded splits, with the plan of their batches.
    """

    def __init__(self, splits: EncodedSplits) -> None:
        super().__init__()
        self.splits = splits
        self._loader: PlannedLoader | None = None

    @property
    def plan(self) -> RunPlan:
        """All optimiser steps of the run."""
        return self.splits.plan

    def references(self, split: str) -> list[str]:
        """Target texts of a split, never truncated."""
        return self.splits.references(split)

    def task_of(self, split: str, row: int) -> int:
        """Number of the task that a row belongs to."""
        return self.splits.task_of(split, row)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        self._loader = PlannedLoader(
            self.splits.batches("train"),
            PlannedSampler(
                self.plan,
                rank=self.trainer.global_rank,
                world=self.trainer.world_size,
                accumulate=self.splits.config.trainer.accumulate_grad_batches,
            ),
            workers=self.splits.config.batch.workers,
        )
        return self._loader

    def teardown(self, stage: str) -> None:
        if self._loader is not None:
            self._loader.close()

    def on_exception(self, exception: BaseException) -> None:
        self.teardown("fit")

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        batches = self.splits.evaluation_batches(split, rank=self.trainer.global_rank, world=self.trainer.world_size)
        return DataLoader(self.splits.batches(split), batch_size=None, sampler=batches)
