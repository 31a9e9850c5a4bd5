"""What a shared encoder pass saves if the student's encoder is the teacher's.

    python -m benchmarks.encoder

Steps per second with one pass against two, and the largest possible ratio (2E + R) / (E + R), where E is the time of an
encoder pass and R that of the rest of the step, both measured in the same rounds. BART with random weights, 6-6 to 6-1.
Prints one JSON line per shape.
"""

import argparse
import json
from statistics import median

import torch

from benchmarks.step import Shape, bart, random_batch
from benchmarks.timing import interleaved, ratio
from benchmarks.trial import train_on
from seq2seq_distill.config import RunConfig
from seq2seq_distill.models import forward
from seq2seq_distill.models.freezing import freeze_parts
from seq2seq_distill.models.teacher import Teacher
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.shrink.student import create_student

SHAPES = (Shape(8000, 8, 512, 32), Shape(8000, 8, 128, 64), Shape(50_265, 8, 256, 64), Shape(8000, 8, 64, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    for shape in SHAPES:
        print(json.dumps(compare(shape, parser.parse_args().rounds)), flush=True)


def compare(shape: Shape, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    torch.manual_seed(0)
    teacher = bart(shape, 6)
    student = create_student(teacher, 6, 1)
    freeze_parts(student, encoder=True, embeddings=True)
    config = RunConfig(task="summarization")
    shared = SummarizationDistiller(student, Teacher(teacher), None, config, 1).train()  # type: ignore[arg-type]
    assert shared.shares_encoder
    apart = SummarizationDistiller(student, Teacher(teacher), None, config, 1).train()  # type: ignore[arg-type]
    apart.teacher_runner.shares_encoder = False
    inputs = random_batch(shape)
    batch = {**inputs, "target_tokens": shape.batch * shape.target, "row": torch.arange(shape.batch)}

    def encode() -> None:
        with torch.no_grad():
            forward.encode(teacher, inputs)

    sides = {"one": lambda: train_on(shared, [batch]), "two": lambda: train_on(apart, [batch]), "encoder": encode}
    seconds = interleaved(sides, rounds)
    possible = [
        (2 * e + rest) / (e + rest)
        for one, e in zip(seconds["one"], seconds["encoder"], strict=True)
        for rest in [max(0.0, one - e)]
    ]
    gained = ratio(seconds, "two", "one")
    return {
        "benchmark": "encoder",
        "vocab": shape.vocab,
        "source": shape.source,
        "target": shape.target,
        "one_over_two_passes_steps_per_second": gained,
        "possible": round(median(possible), 3),
        "share_of_possible": round(gained / median(possible), 3),
    }


if __name__ == "__main__":
    main()
