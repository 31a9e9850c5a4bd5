"""Fraction of padding and tokens per second of token-budget batches against shuffled batches of a fixed size.

    python -m benchmarks.padding                                  # the built-in summarization data
    python -m benchmarks.padding --data FOLDER                    # other data

Steps are those of a distiller with the built-in teacher. Fixed-size batches have as many rows as a token-budget batch
has on average. Prints one JSON line.
"""

import argparse
import json
from dataclasses import replace

import numpy as np

from benchmarks.timing import interleaved, ratio
from benchmarks.trial import built, demo_config, distiller, steps, tokens, train_on
from seq2seq_distill.config import BatchConfig, RunConfig
from seq2seq_distill.training.components import RunComponents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo:summarization", help="data folder or name of built-in data")
    parser.add_argument("--max_tokens", type=int, default=4000)
    parser.add_argument("--max_source_length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=12, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    encode = {"max_source_length": arguments.max_source_length, "max_target_length": 64}
    config = replace(demo_config("summarization", encode=encode), data=[arguments.data])
    print(json.dumps(compare(config, arguments.max_tokens, arguments.steps, arguments.rounds)))


def compare(config: RunConfig, max_tokens: int, count: int, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    grouped = built(replace(config, batch=BatchConfig(max_tokens=max_tokens)))
    size = round(np.mean([len(rows) for rows in epoch(grouped)]))
    shuffled = built(replace(config, batch=BatchConfig(size=size, group_by_length=False)))
    module = distiller(config, grouped)
    chance = np.random.default_rng(0)
    batches = {
        name: steps(parts, chance.choice(len(epoch(parts)), count).tolist())
        for name, parts in (("grouped", grouped), ("shuffled", shuffled))
    }
    seconds = interleaved(
        {name: lambda own=own: train_on(module, own) for name, own in batches.items()},  # type: ignore[misc]
        rounds,
    )
    per_token = {name: [each / tokens(batches[name]) for each in times] for name, times in seconds.items()}
    return {
        "benchmark": "padding",
        "data": (config.data or [""])[0].split("/")[-1],
        "max_tokens": max_tokens,
        "rows_of_fixed_batches": size,
        "padding_grouped": padding(grouped),
        "padding_shuffled": padding(shuffled),
        "grouped_over_shuffled_tokens_per_second": ratio(per_token, "shuffled", "grouped"),
    }


def epoch(parts: RunComponents) -> list[np.ndarray]:
    """The rows of each step of a data epoch."""
    return parts.data.plan.batches.steps(0)


def padding(parts: RunComponents) -> float:
    """Fraction of the source and target tokens of a data epoch that are padding."""
    plan = parts.data.plan.batches
    sides = (plan.source_lengths, plan.target_lengths)
    whole = sum(len(rows) * int(side[rows].max()) for rows in epoch(parts) for side in sides)
    return round(1 - sum(int(side.sum()) for side in sides) / whole, 4)


if __name__ == "__main__":
    main()
