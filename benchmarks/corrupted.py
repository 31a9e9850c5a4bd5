"""How well `distill label --targets reference` detects bad pairs when a tenth of the targets has been corrupted.

    python -m benchmarks.corrupted

Half of the bad targets are taken from other rows, half repeat a few of their own words. Thresholds are set on the val
split: the gain that separates good from bad pairs best while keeping 96% of the good ones, and the largest repetition
that keeps 99.5% of them. They are evaluated on the test split. Prints one JSON line per built-in task.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from seq2seq_distill import demo
from seq2seq_distill.commands.label.command import label
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.metrics.degeneration import repetition, units

LOST = 0.04
"""Largest share of val's good pairs that --min_gain may drop."""
LOOPS = 0.995
"""Quantile of their repetition that becomes --max_repetition."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1000, help="rows per split")
    arguments = parser.parse_args()
    for task in demo.TEACHERS:
        print(json.dumps(compare(task, arguments.n)), flush=True)


def compare(task: str, n: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        bad = {split: spoil(demo.data_source(f"demo:{task}"), data, split, n) for split in ("val", "test")}
        config = LabelConfig(
            model=f"demo:{task}",
            data=[str(data)],
            task="translation" if task == "translation" else "summarization",
            output_dir=str(Path(place) / "val"),
            split="val",
            targets="reference",
        )
        quietly(config)
        rows = kept(config)
        loop = {row["row"]: repetition([units(row["target"])]) for row in rows}
        gains = {row["row"]: row["gain"] for row in rows}
        good = gains.keys() - bad["val"]
        loops = float(np.quantile([loop[row] for row in good], LOOPS))
        gain = threshold([gains[row] for row in good], [gains[row] for row in bad["val"] if loop[row] <= loops])
        judged = replace(
            config, split="test", output_dir=str(Path(place) / "test"), min_gain=gain, max_repetition=loops
        )
        quietly(judged)
        left = {row["row"] for row in kept(judged)}
        count = len((data / "test.source").read_text("utf-8").splitlines())
    return {
        "benchmark": "corrupted",
        "task": task,
        "rows": count,
        "min_gain": round(gain, 4),
        "max_repetition": round(loops, 4),
        "bad_dropped": round(1 - len(left & bad["test"]) / len(bad["test"]), 4),
        "good_dropped": round(1 - len(left - bad["test"]) / (count - len(bad["test"])), 4),
    }


def threshold(good: Sequence[float], bad: Sequence[float]) -> float:
    """The threshold that separates best: most bad values lie below it, at most a fraction `LOST` of the good ones."""
    values = np.unique([*good, *bad])
    lost, found = (np.searchsorted(np.sort(side), values) / len(side) for side in (good, bad))
    allowed = lost <= LOST
    return float(values[allowed][np.argmax((found - lost)[allowed])])


def quietly(config: LabelConfig) -> None:
    """Run `distill label` without printing its report to standard output."""
    with redirect_stdout(StringIO()):
        label(config)


def spoil(source: str, folder: Path, split: str, n: int) -> set[int]:
    """Write the first rows of a split with a tenth of the targets corrupted; return which ones."""
    texts = load_split(source, split, limit=n)
    sources, targets = list(texts["source"]), list(texts["target"])
    chance = random.Random(f"{split} {n}")
    bad = chance.sample(range(len(sources)), len(sources) // 10)
    for number, row in enumerate(bad):
        if number % 2:
            words = targets[row].split()
            first = chance.randrange(len(words))
            some = words[first : first + chance.randint(1, 3)]
            targets[row] = " ".join(some * max(6, len(words) // len(some)))
        else:
            targets[row] = texts[chance.choice([i for i in range(len(sources)) if targets[i] != targets[row]])][
                "target"
            ]
    for side, lines in (("source", sources), ("target", targets)):
        (folder / f"{split}.{side}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return set(bad)


def kept(config: LabelConfig) -> list[dict[str, Any]]:
    """Row numbers in a label set."""
    paths = sorted(config.folder.glob("*.parquet"))
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


if __name__ == "__main__":
    main()
