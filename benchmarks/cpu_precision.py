"""What bfloat16 gains on a CPU, and what attention without the fused kernel adds to that.

    python -m benchmarks.cpu_precision

Whole steps of the demo without an optimiser, in turns: float32, bf16-mixed with PyTorch's fused attention, and
bf16-mixed as runs train on a CPU (`seq2seq_distill/modules/cpu_attention.py`). Prints one JSON line per task. A gain is
to be expected from processors with bfloat16 instructions alone (AVX512_BF16, AMX).
"""

import argparse
import json
from contextlib import AbstractContextManager, ExitStack

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.timing import interleaved, ratio
from benchmarks.trial import built, demo_config, distiller, steps, train_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    for task in ("summarization", "translation"):
        print(json.dumps(compare(task, 4, arguments.rounds)), flush=True)


def compare(task: str, count: int, rounds: int, rows: int | None = None) -> dict[str, object]:
    """The benchmark's JSON line for `count` steps; `rows` limits the training rows that are encoded."""
    config = demo_config(task, encode={"n_train": rows}, student={"freeze_encoder": False})
    parts = built(config)
    module, batches = distiller(config, parts), steps(parts, range(count))

    def train(*contexts: AbstractContextManager[object]) -> None:
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            train_on(module, batches)

    def bfloat16() -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16)

    sides = {
        "float32": lambda: train(),
        "fused": lambda: train(bfloat16()),
        "unfused": lambda: train(bfloat16(), sdpa_kernel(SDPBackend.MATH)),
    }
    seconds = interleaved(sides, rounds)
    return {
        "benchmark": "cpu_precision",
        "task": task,
        "float32_over_bfloat16_seconds": ratio(seconds, "float32", "unfused"),
        "fused_over_unfused_seconds": ratio(seconds, "fused", "unfused"),
    }


if __name__ == "__main__":
    main()
