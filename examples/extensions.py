"""A run with extensions: a custom loss, a batch processor, a Lightning callback and a callback for each saved student.

python examples/extensions.py --output_dir runs/extensions --max_steps 200
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn import functional as F

from seq2seq_distill import (
    CustomLoss,
    EncodeConfig,
    EvalConfig,
    Extensions,
    ForwardPass,
    LossConfig,
    RunConfig,
    StudentConfig,
    Term,
    TrainerConfig,
    run_config,
)


def teachers_choice(student: ForwardPass, teacher: ForwardPass | None, batch: Mapping[str, torch.Tensor]) -> Term:
    """Cross-entropy with the teacher's most likely token."""
    assert teacher is not None
    choice = teacher.logits.argmax(-1)
    total = F.cross_entropy(student.logits.float(), choice, reduction="sum")
    return Term(total, torch.tensor(len(choice), device=choice.device))


def swap_words(batch: Mapping[str, torch.Tensor], share: float = 0.1) -> dict[str, torch.Tensor]:
    """Replace a random tenth of the source tokens by others from the batch; each batch has its own random seed."""
    ids = batch["input_ids"]
    replacements = ids.flatten()[torch.randperm(ids.numel(), device=ids.device)].view_as(ids)
    swapped = (torch.rand(ids.shape, device=ids.device) < share) & batch["attention_mask"].bool()
    return {**batch, "input_ids": torch.where(swapped, replacements, ids)}


class LongestBatch(Callback):
    """Records the longest source; any Lightning callback works."""

    longest = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.longest = max(self.longest, batch["input_ids"].shape[1])


def report_best(folder: Path, step: int, metrics: Mapping[str, float]) -> None:
    print(f"step {step}: the best student so far is in {folder}, chrF {metrics['val_chrf']:.1f}")


def main(output_dir: str, max_steps: int, rows: int, teacher: str, data: str) -> dict[str, Any]:
    config = RunConfig(
        task="translation",
        teacher=teacher,
        data=[data],
        src_lang="en",
        tgt_lang="de",
        output_dir=output_dir,
        student=StudentConfig(decoder_layers=1),
        loss=LossConfig(alpha_mlm=0.0),
        encode=EncodeConfig(n_train=rows),
        eval=EvalConfig(beams=1, n_val=min(rows, 100), n_test=min(rows, 100), n_speed=0, max_target_length=40),
        trainer=TrainerConfig(max_steps=max_steps, enable_progress_bar=False),
        logger=[],
    )
    extensions = Extensions(
        terms={"teachers_choice": CustomLoss(teachers_choice, weight=0.2)},
        batch_processor=swap_words,
        on_student_saved=report_best,
    )
    longest = LongestBatch()
    results = run_config(config, [longest], extensions)
    print(f"the longest source had {longest.longest} tokens")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/extensions")
    parser.add_argument("--max_steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=4000, help="number of training rows")
    parser.add_argument("--teacher", default="demo:translation")
    parser.add_argument("--data", default="demo:translation")
    main(**vars(parser.parse_args()))
