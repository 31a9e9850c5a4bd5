"""Memory of `distill label`: the most that is not mapped from files, over many rows beside few.

    python -m benchmarks.label_memory                                                     # 10,000 and 100,000 rows
    python -m benchmarks.label_memory --rows 10000 1000000 --merged 10000 10000000

Each number of `--rows` is labelled whole, by a teacher of one layer that is made from a config and writes 8 tokens. Of
each number of `--merged` the candidates and their backward scores are written here, and merged and filtered alone.
Prints one JSON line per number; `above_mb` is the peak above that of the first number of its kind.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from benchmarks.recorded_run import anonymous_memory
from benchmarks.rows import SIDES, write_pairs
from seq2seq_distill import demo
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.readers.parquet import SOURCE_HASH, TOKEN_COLUMNS, text_hash
from seq2seq_distill.data.sources import load_split, map_split
from seq2seq_distill.training.labels.distinct_sources import distinct_sources
from seq2seq_distill.training.labels.label_rows import LabelRows
from seq2seq_distill.training.labels.merging import merge
from seq2seq_distill.training.labels.shards import BACKWARD, RAW, LabelFolder, write_table

BACKWARD_MODEL = "0" * 8
"""Fingerprint of a backward model that there is not."""
FILTERS = LabelConfig(min_score=-2.9, max_length_ratio=3.0, drop_fraction=0.1, backward_model="none")


def small_teacher(folder: Path, width: int = 32) -> Path:
    """A teacher of one layer and of this width, whose weights are random, with the tokenizer of the demo's."""
    source = demo.model_source("demo:translation")
    config = AutoConfig.from_pretrained(source)
    sides = ("encoder", "decoder")
    sizes = {f"{side}_{name}": value for side in sides for name, value in (("layers", 1), ("ffn_dim", 2 * width))}
    config.update({**sizes, "d_model": width, **{f"{side}_attention_heads": 2 for side in sides}})
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    GenerationConfig.from_pretrained(source).save_pretrained(folder)
    return folder


def sentences() -> dict[str, list[str]]:
    """Of the demo, to make pairs of."""
    texts = load_split(demo.data_source("demo:translation"), "train", Columns(src_lang="en", tgt_lang="de"))
    return {side: texts[side][:] for side in SIDES}


def label_command(teacher: Path, data: Path, out: Path, *more: object) -> list[str]:
    """`distill label` of 8 tokens by greedy search."""
    options = {"--model": teacher, "--data": data, "--output_dir": out, "--task": "translation", "--tgt_lang": "de"}
    options |= {"--src_lang": "en", "--beams": 1, "--max_target_length": 8}
    words = [*(word for pair in options.items() for word in pair), *more]
    return [sys.executable, "-m", "seq2seq_distill", "label", *map(str, words)]


def peak(command: Sequence[str], cache: Path) -> dict[str, float]:
    """Seconds of a command, and the most memory of its process in MB that is not mapped from files."""
    begin, most = time.perf_counter(), 0
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, "SEQ2SEQ_DISTILL_CACHE": str(cache)}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            most = max(most, anonymous_memory(process.pid))
            time.sleep(0.05)
        log.seek(0)
        if process.returncode:
            raise SystemExit(log.read().decode())
    return {"seconds": round(time.perf_counter() - begin, 1), "mb": round(most / 1024)}


def rows_of(place: Path) -> LabelRows:
    """The rows of the pairs, each source of which is labelled once."""
    dataset, key = map_split(str(place / "data"), "train")
    return LabelRows(dataset, key, distinct_sources(dataset, key))


def write_candidates(folder: LabelFolder, dataset: Dataset) -> None:
    """A candidate for each labelled row, the reference itself, with scores that are drawn."""
    draws = np.random.default_rng(0)
    for shard in folder.shards:
        rows = folder.rows(shard)
        texts, size = dataset[rows.start : rows.stop], len(rows)
        hashes = [pa.array(map(text_hash, texts[side])) for side in SIDES]
        columns = {
            "row": pa.array(rows),
            SOURCE_HASH: hashes[0],
            "rank": pa.repeat(pa.scalar(0, pa.int32()), size),
            "target": pa.array(texts["target"]),
            "score": pa.array(draws.uniform(-3, 0, size).round(6)),
            "gain": pa.nulls(size, pa.float64()),
            "source_cut": pa.array(draws.random(size) < 0.01),
            "target_cut": pa.array(draws.random(size) < 0.01),
            **{name: pa.nulls(size, RAW.field(name).type) for name in TOKEN_COLUMNS},
        }
        write_table(folder.path / "raw" / f"{shard:05d}.parquet", pa.table(columns, schema=RAW))
        scores = {"row": columns["row"], "target_sha256": hashes[1], "score": pa.array(draws.normal(-3, 1, size))}
        write_table(
            folder.path / f"backward-{BACKWARD_MODEL}" / f"{shard:05d}.parquet", pa.table(scores, schema=BACKWARD)
        )


def folder_of(place: Path, rows: int) -> LabelFolder:
    """The folder whose candidates the benchmark writes."""
    (place / "labels").mkdir(exist_ok=True)
    return LabelFolder(place / "labels", "train", rows, LabelConfig().shard_rows, BACKWARD_MODEL)


def merge_alone(place: Path) -> None:
    """What a process of its own does."""
    rows = rows_of(place)
    merge(FILTERS, folder_of(place, len(rows.labelled)), rows, "none")


def measure(kind: str, rows: int) -> dict[str, float]:
    """Seconds and peak of labelling, or of merging, so many rows."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        write_pairs(place / "data", sentences(), rows)
        if kind == "label":
            teacher = small_teacher(place / "teacher")
            return peak(label_command(teacher, place / "data", place / "labels"), place / "cache")
        os.environ["SEQ2SEQ_DISTILL_CACHE"] = str(place / "cache")
        labelled = rows_of(place).labelled
        write_candidates(folder_of(place, len(labelled)), labelled)
        return peak([sys.executable, "-m", "benchmarks.label_memory", "--alone", temporary], place / "cache")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000], help="numbers of rows to label")
    parser.add_argument("--merged", type=int, nargs="*", default=[10_000, 100_000], help="numbers of rows to merge")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        merge_alone(arguments.alone)
        return
    for kind, numbers in (("label", arguments.rows), ("merge", arguments.merged)):
        least = None
        for rows in numbers:
            found = measure(kind, rows)
            least = found["mb"] if least is None else least
            line = {"benchmark": "label_memory", "kind": kind, "rows": rows, **found, "above_mb": found["mb"] - least}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
