"""How well `distill label --targets reference` finds bad pairs: a tenth of the targets is spoilt beforehand.

    python -m benchmarks.corrupted

Half of the bad targets are other rows' targets, half repeat a few words of their own. The thresholds are set on the
val split: the least gain that leaves 96% of its good pairs, and the most repetition that leaves 99.5% of them. They
are judged on the test split. Prints a JSON line for each built-in task.
"""

import argparse
import json
import random
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet

from seq2seq_distill import demo
from seq2seq_distill.behaviour import repetition, units
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.label.command import label
from seq2seq_distill.tool_config import LabelConfig

GAIN, REPETITION = 0.04, 0.995
"""Quantiles of val's good pairs that become thresholds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1000, help="rows of each split")
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
        good = [row for row in kept(config) if row["row"] not in bad["val"]]
        gain = float(np.quantile([row["gain"] for row in good], GAIN))
        loops = float(np.quantile([repetition([units(row["target"])]) for row in good], REPETITION))
        judged = replace(
            config, split="test", output_dir=str(Path(place) / "test"), min_gain=gain, max_repetition=loops
        )
        quietly(judged)
        left = {row["row"] for row in kept(judged)}
        rows = len((data / "test.source").read_text("utf-8").splitlines())
    return {
        "benchmark": "corrupted",
        "task": task,
        "rows": rows,
        "min_gain": round(gain, 4),
        "max_repetition": round(loops, 4),
        "bad_dropped": round(1 - len(left & bad["test"]) / len(bad["test"]), 4),
        "good_dropped": round(1 - len(left - bad["test"]) / (rows - len(bad["test"])), 4),
    }


def quietly(config: LabelConfig) -> None:
    """Label, and keep the report off standard output."""
    with redirect_stdout(StringIO()):
        label(config)


def spoil(source: str, folder: Path, split: str, n: int) -> set[int]:
    """Write the first rows of a split with a tenth of the targets spoilt; returns which."""
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


def kept(config: LabelConfig) -> list[dict[str, object]]:
    """Rows of a labelled data set."""
    paths = sorted(config.folder.glob("*.parquet"))
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


if __name__ == "__main__":
    main()
