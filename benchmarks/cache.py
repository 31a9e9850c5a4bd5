"""Tokens a second with cached teacher outputs against the teacher itself, on the same batches.

    python -m benchmarks.cache                       # both built-in tasks

Two teachers are compared with: one whose encoder pass serves the student too (the default, as the student's encoder is
an unchanged copy), and one that runs its own encoder, beside a student that trains its encoder. Prints a JSON line for
each task and each of the two.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.timing import interleaved, ratio
from benchmarks.trial import built, demo_config, distiller, steps, train_on
from seq2seq_distill.run.caching import with_cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="training examples that are cached")
    parser.add_argument("--steps", type=int, default=12, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for task in ("summarization", "translation"):
        for shared in (True, False):
            print(json.dumps(compare(task, shared, arguments.rows, arguments.steps, arguments.rounds)), flush=True)


def compare(task: str, shared: bool, rows: int, count: int, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    config = demo_config(
        task, encode={"n_train": rows}, student={"freeze_encoder": shared}, eval={"n_val": 10, "n_test": 10}
    )
    online = built(config)
    batches = {"online": steps(online, range(count))}
    modules = {"online": distiller(config, online)}
    with tempfile.TemporaryDirectory() as folder:
        own = replace(config, teacher_cache=str(Path(folder) / "cache"))
        cached = with_cache(own, built(own))
        batches["cached"] = steps(cached, range(count))
        modules["cached"] = distiller(own, cached)
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
    }


if __name__ == "__main__":
    main()
