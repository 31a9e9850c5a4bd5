"""What narrower feed-forward blocks cost before any training: loss on val of a teacher, sliced and repaired.

    python -m benchmarks.shrinking --teacher multi30k/teacher --data multi30k/data --src_lang en --tgt_lang de
    python -m benchmarks.shrinking --task summarization             # the built-in teacher and data

Prints one JSON line for each layout. All layers are kept; the loss is the cross-entropy per target token.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from seq2seq_distill.config import EncodeConfig, RunConfig, StudentConfig
from seq2seq_distill.data.encoded_splits import EncodedSplits
from seq2seq_distill.losses.logits import cross_entropy
from seq2seq_distill.models import architectures, forward
from seq2seq_distill.shrink.student import create_student
from seq2seq_distill.training.components import build_components
from seq2seq_distill.training.student import calibration_batches
from seq2seq_distill.utils.constants import IGNORE_INDEX

FRACTIONS = (0.5, 0.25)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, those of the command line by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("translation", "summarization"), default="translation")
    parser.add_argument("--teacher", help="a folder (default: the built-in teacher of the task)")
    parser.add_argument("--data", nargs="*", help="(default: the built-in data of the task)")
    parser.add_argument("--src_lang")
    parser.add_argument("--tgt_lang")
    parser.add_argument("--fractions", nargs="+", type=float, default=FRACTIONS)
    parser.add_argument("--rows", type=int, default=StudentConfig().calibration_rows, help="rows to calibrate on")
    parser.add_argument("--n_val", type=int, help="rows to take the loss on (default: all)")
    return parser.parse_args(arguments)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The records of all layouts, printed as they come."""
    languages = {"src_lang": arguments.src_lang, "tgt_lang": arguments.tgt_lang}
    demo = f"demo:{arguments.task}"
    config = RunConfig(
        task=arguments.task,
        teacher=arguments.teacher or demo,
        data=arguments.data or [demo],
        encode=EncodeConfig(n_train=max(arguments.rows, 8)) if not arguments.data else EncodeConfig(),
        **languages,
    )
    components = build_components(config)
    assert components.teacher is not None
    teacher, data = components.teacher.model, components.data
    depths = architectures.depths(teacher.config)
    calibration = calibration_batches(data, arguments.rows)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in calibration)
    target_tokens = sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in calibration)
    print(f"calibrated on {tokens:,} source and {target_tokens:,} target tokens")
    val = validation_batches(data, arguments.n_val)
    records = [record("whole", 1.0, loss(teacher, val), teacher.num_parameters(), 0.0)]
    for fraction in arguments.fractions:
        for name, repair in (("sliced", False), ("repaired", True)):
            start = time.perf_counter()
            student = create_student(
                teacher,
                *depths,
                encoder_ffn_dim=fraction,
                decoder_ffn_dim=fraction,
                batches=calibration,
                repair=repair,
            )
            seconds = time.perf_counter() - start
            records.append(record(name, fraction, loss(student, val), student.num_parameters(), seconds))
    return records


def record(name: str, fraction: float, value: float, parameters: int, seconds: float) -> dict[str, Any]:
    """A layout's figures, printed."""
    figures = {"ffn": fraction, "how": name, "loss": round(value, 3), "parameters": parameters}
    print(json.dumps({**figures, "seconds": round(seconds, 1)}), flush=True)
    return figures


def validation_batches(data: EncodedSplits, rows: int | None) -> list[Mapping[str, Tensor]]:
    """The validation split, or its first rows."""
    count = min(rows or len(data.encoded["val"]), len(data.encoded["val"]))
    return [data.collated("val", range(start, min(start + 32, count))) for start in range(0, count, 32)]


@torch.no_grad()
def loss(model: Any, batches: Sequence[Mapping[str, Tensor]]) -> float:
    """Cross-entropy in nats per target token."""
    terms = []
    for batch in batches:
        inputs = forward.decoder_inputs(model, batch["labels"])
        logits = forward.head(model, forward.decode(model, batch, forward.encode(model, batch), inputs))
        terms.append(cross_entropy(logits, batch["labels"]))
    return float(sum(term.sum for term in terms) / sum(term.count for term in terms))


if __name__ == "__main__":
    measure(parse())
