"""Distil with transformers' `Seq2SeqTrainer`: the demo's translation teacher, a student with one decoder layer.

    python examples/trainer.py --output_dir runs/trainer --max_steps 200

Repeating the command resumes from the last checkpoint if steps remain.
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset
from sacrebleu import corpus_bleu
from transformers import DataCollatorForSeq2Seq, EvalPrediction, Seq2SeqTrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from seq2seq_distill import DistillationTrainer, LossConfig, create_student, load_teacher, load_tokenizer
from seq2seq_distill.demo import data_source, model_source


def main(output_dir: str, max_steps: int, rows: int) -> dict[str, float]:
    path = model_source("demo:translation")
    tokenizer = load_tokenizer(path, "en", "de")
    teacher = load_teacher(path)

    def encoded(split: str, rows: int) -> Dataset:
        folder = Path(data_source("demo:translation"))
        source, target = (
            (folder / f"{split}.{side}").read_text("utf-8").splitlines()[:rows] for side in ("source", "target")
        )
        return Dataset.from_dict(dict(tokenizer(source, text_target=target, max_length=64, truncation=True)))

    def compute_metrics(outputs: EvalPrediction) -> dict[str, float]:
        def texts(ids: np.ndarray) -> list[str]:
            ids = np.where(ids == -100, tokenizer.pad_token_id, ids)
            return tokenizer.batch_decode(ids, skip_special_tokens=True)

        return {"bleu": corpus_bleu(texts(outputs.predictions), [texts(outputs.label_ids)]).score}

    trainer = DistillationTrainer(
        create_student(teacher.model, decoder_layers=1),
        Seq2SeqTrainingArguments(
            output_dir,
            max_steps=max_steps,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            logging_steps=max(1, max_steps // 10),
            save_steps=max(1, max_steps // 2),
            predict_with_generate=True,
            generation_max_length=40,
            report_to=[],
        ),
        teacher=teacher,
        loss=LossConfig(alpha_ce=0.8, alpha_mlm=0.2, alpha_hid=1.0, temperature=2.0),
        train_dataset=encoded("train", rows),
        eval_dataset=encoded("val", min(rows, 100)),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        compute_metrics=compute_metrics,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(output_dir) if Path(output_dir).is_dir() else None)
    trainer.save_model()  # an ordinary Hugging Face folder
    return trainer.evaluate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="runs/trainer")
    parser.add_argument("--max_steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=4000, help="number of training rows of the demo")
    print(main(**vars(parser.parse_args())))
