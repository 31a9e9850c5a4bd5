"""The data of a run for Lightning's Trainer."""

from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.data.loaders import PlannedLoader, PlannedSampler


class Seq2SeqData(EncodedSplits, LightningDataModule):
    """The encoded splits of a run with their loaders; arguments as of `EncodedSplits`."""

    _loader: PlannedLoader | None = None

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self.trainer is not None
        self._loader = PlannedLoader(
            self.batches("train"),
            PlannedSampler(
                self.plan,
                rank=self.trainer.global_rank,
                world=self.trainer.world_size,
                accumulate=self._config.trainer.accumulate_grad_batches,
            ),
            workers=self._config.batch.workers,
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
        batches = self.evaluation_batches(split, rank=self.trainer.global_rank, world=self.trainer.world_size)
        return DataLoader(self.batches(split), batch_size=None, sampler=batches)
