"""Tokens per second with cached teacher outputs against the live teacher, on the same batches.

    python -m benchmarks.cache                       # both built-in tasks

The cache is compared with two live teachers: one that runs completely, and one whose encoder pass also serves the
student (the default, because the student's frozen encoder is an unchanged copy). Prints one JSON line per task and
teacher. The error of 8-bit caching is measured on `--student`, which should be a trained model: the larger the loss,
the smaller the relative error.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import interleaved, ratio
from benchmarks.trial import Batch, built, demo_config, distiller, steps, train_on
from seq2seq_distill.config import CacheConfig
from seq2seq_distill.modules.distillers import SummarizationDistiller
from seq2seq_distill.training.caching import open_cache, with_cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="number of training examples to cache")
    parser.add_argument("--steps", type=int, default=12, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", choices=("summarization", "translation"), help="one task instead of both")
    parser.add_argument("--student", help="folder of a student for the task (default: an untrained one)")
    arguments = parser.parse_args()
    for task in [arguments.task] if arguments.task else ["summarization", "translation"]:
        for shared in (True, False):
            line = compare(task, shared, arguments.rows, arguments.steps, arguments.rounds, arguments.student)
            print(json.dumps(line), flush=True)


def compare(
    task: str, shared: bool, rows: int, count: int, rounds: int, student: str | None = None
) -> dict[str, object]:
    """The benchmark's JSON line."""
    config = demo_config(task, encode={"n_train": rows}, eval={"n_val": 10, "n_test": 10})
    if student is not None:
        none: dict[str, Any] = dict.fromkeys(("decoder_layers", "decoder_layer_ids", "encoder_layers"))
        trained = replace(config.student, path=student, freeze_encoder=True, freeze_embeds=True, **none)
        config = replace(config, student=trained)
    online = built(config)
    batches = {"online": steps(online, range(count))}
    modules = {"online": distiller(config, online)}
    modules["online"].teacher_runner.shares_encoder &= shared
    ce_loss, size = {}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "8bit"):
            own = replace(config, cache=CacheConfig(precision=precision), teacher_cache=str(Path(folder) / precision))
            parts = built(own)
            cached = with_cache(own, parts)
            batches["cached"] = steps(cached, range(count))
            modules["cached"] = distiller(own, cached)
            ce_loss[precision] = mean_ce_loss(modules["cached"], batches["cached"])
            size = open_cache(own, parts).bytes_per_token
        seconds = interleaved(
            {name: lambda name=name: train_on(modules[name], batches[name]) for name in modules},  # type: ignore[misc]
            rounds,
        )
    return {
        "benchmark": "cache",
        "task": task,
        "one_encoder_pass": modules["online"].shares_encoder,
        "top_k": config.cache.top_k,
        "cached_over_online_tokens_per_second": ratio(seconds, "online", "cached"),
        "bytes_per_target_token": round(size, 1),
        "ce_loss_of_8bit_over_float32": round(ce_loss["8bit"] / ce_loss["float32"], 5),
    }


def mean_ce_loss(module: SummarizationDistiller, batches: Iterable[Batch]) -> float:
    """Mean `ce_loss` over the tokens of the given batches, without dropout."""
    with torch.no_grad():
        terms = [module.eval().compute_loss(batch).terms["ce_loss"] for batch in batches]
    module.train()
    return float(sum(term.sum for term in terms) / sum(term.count for term in terms))


if __name__ == "__main__":
    main()
