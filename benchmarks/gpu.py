"""A step on a GPU in bf16: time against the floor and the dense implementation, memory, and fraction of peak FLOPS.

    python -m benchmarks.gpu                         # bart-large 12-12 to 12-3, 16 x (512 source, 64 target) tokens
    python -m benchmarks.gpu --device cpu --tiny     # the same code at a size that fits any machine

Models are created from configs with random weights. Time and memory are measured for all sides in turn; peak FLOPS are
those of a large matrix product in the same run. Prints one JSON line, also if there is no GPU.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step import SIDES, Shape, bart, random_batch
from benchmarks.timing import interleaved, ratio
from seq2seq_distill.config import ResolvedLossConfig

LARGE = Shape(50_265, 16, 512, 64, 1024)
TINY = Shape(300, 2, 16, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"benchmark": "gpu", "skipped": "no GPU here"}))
        return
    print(json.dumps(compare(TINY if arguments.tiny else LARGE, arguments.device, arguments.rounds, arguments.tiny)))


def compare(shape: Shape, device: str, rounds: int, tiny: bool = False) -> dict[str, object]:
    """The benchmark's JSON line."""
    torch.manual_seed(0)
    layers = (1, 2, 1) if tiny else (12, 12, 3)
    teacher = bart(shape, layers[1], layers[0]).eval().requires_grad_(False).to(device, torch.bfloat16)
    student = bart(shape, layers[2], layers[0]).train().to(device)
    batch = {name: field.to(device) for name, field in random_batch(shape).items()}
    peaks: dict[str, int] = {}

    def step(name: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            student.zero_grad()
            _forget_peak(device)
            with torch.autocast(device, torch.bfloat16):
                loss = SIDES[name](student, teacher, batch, ResolvedLossConfig())
            loss.backward()
            _wait(device)
            peaks[name] = torch.cuda.max_memory_allocated() if device == "cuda" else 0
            return loss

        return run

    seconds = interleaved({name: step(name) for name in SIDES}, rounds)
    with FlopCounterMode(display=False) as counter:
        step("floor")()
    best = sorted(seconds["ours"])[len(seconds["ours"]) // 2]
    tokens = shape.batch * (shape.source + shape.target)
    return {
        "benchmark": "gpu",
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "shape": [shape.vocab, shape.batch, shape.source, shape.target, shape.width],
        "ours_over_floor": ratio(seconds, "ours", "floor"),
        "naive_over_ours": ratio(seconds, "naive", "ours"),
        "ours_over_naive_memory": round(peaks["ours"] / peaks["naive"], 3) if peaks["naive"] else None,
        "ours_gib": round(peaks["ours"] / 2**30, 2),
        "tokens_per_second": round(tokens / best),
        "share_of_peak": round(counter.get_total_flops() / best / peak_flops(device), 3),
    }


def peak_flops(device: str, size: int = 8192) -> float:
    """Floating-point operations per second of a product of two bf16 matrices."""
    size = size if device == "cuda" else 256
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    a @ b
    _wait(device)
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    _wait(device)
    return 10 * 2 * size**3 / (time.perf_counter() - start)


def _forget_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
