"""Distil with your own Lightning Trainer, with its loggers, callbacks and checkpoints.

python examples/lightning.py --output_dir runs/lightning --max_steps 200
"""

import argparse

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from seq2seq_distill import (
    EncodeConfig,
    EvalConfig,
    RunConfig,
    StudentConfig,
    TrainerConfig,
    build,
    trainer_options,
)


def main(output_dir: str, max_steps: int, rows: int, teacher: str, data: str) -> dict[str, float]:
    config = RunConfig(
        task="translation",
        teacher=teacher,
        data=[data],
        src_lang="en",
        tgt_lang="de",
        student=StudentConfig(decoder_layers=1),
        encode=EncodeConfig(n_train=rows),
        eval=EvalConfig(beams=1, n_val=min(rows, 100), n_test=min(rows, 100), max_target_length=40),
        trainer=TrainerConfig(max_steps=max_steps, enable_progress_bar=False),
    )
    module, datamodule = build(config)
    trainer = Trainer(
        **trainer_options(config),
        logger=CSVLogger(output_dir, name="logs"),
        callbacks=[ModelCheckpoint(output_dir, monitor="val_chrf", mode="max")],
    )
    trainer.fit(module, datamodule)
    module.student.save_pretrained(output_dir)
    module.tokenizer.save_pretrained(output_dir)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
    print(f"after {trainer.global_step} steps: chrF {metrics['val_chrf']:.1f}")
    return metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/lightning")
    parser.add_argument("--max_steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=4000, help="number of training rows")
    parser.add_argument("--teacher", default="demo:translation")
    parser.add_argument("--data", default="demo:translation")
    main(**vars(parser.parse_args()))
