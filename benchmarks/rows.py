"""Runs over many rows: encoding beside its floor, starts, fetching, memory, and resuming after a kill.

    python -m benchmarks.rows [--data FOLDER] [--teacher FOLDER] [--rows 10000 1000000]

Pairs are made by joining sentences of FOLDER (of the translation demo by default). Prints one JSON line per number of
rows.

- `encode_over_floor`: seconds of reading and encoding in a process of its own, over those of the least that must be
  done: read the same lines whole, tokenise them by 100,000 with the library under the teacher's tokenizer on all cores,
  write int32 ids. Medians of `--rounds`, in turns.
- `first_start`, `second_start`: from the command to the end of the first step, and peak memory that is not mapped from
  files, of the main process and of the largest worker.
- `fetch_share`: median time between two steps over that of a step, without worker processes and with two.
- `resumed`: from the command to the end of the next step, of a run of three epochs of 40 steps each that was killed in
  the middle of the second; `equal`: whether its student is byte for byte that of an undisturbed run.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

from benchmarks.recorded_run import record
from seq2seq_distill import demo
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import load_split

LINES = 100_000
SIDES = ("source", "target")


def write_pairs(folder: Path, sentences: dict[str, list[str]], rows: int) -> None:
    """A text folder of so many pairs, each of two sentences joined; val and test have 100."""
    folder.mkdir(parents=True)
    count = len(sentences["source"])
    for split, size in (("train", rows), ("val", 100), ("test", 100)):
        pairs = np.random.default_rng([rows, size]).integers(0, count, (size, 2)).tolist()
        for side in SIDES:
            with (folder / f"{split}.{side}").open("w", encoding="utf-8") as file:
                file.writelines(f"{sentences[side][a]} {sentences[side][b]}\n" for a, b in pairs)


def floor(folder: Path, teacher: Path) -> float:
    """Seconds of the least that encoding must do."""
    start = time.perf_counter()
    for side in SIDES:
        encode = library(teacher, side)
        lines = (folder / f"train.{side}").read_text("utf-8").split("\n")[:-1]
        with tempfile.TemporaryFile(dir=folder) as file:
            for first in range(0, len(lines), LINES):
                rows = encode(lines[first : first + LINES])
                np.fromiter((token for row in rows for token in row), dtype=np.int32).tofile(file)
    return time.perf_counter() - start


def library(teacher: Path, side: str) -> Callable[[list[str]], Iterable[list[int]]]:
    """The library under the teacher's tokenizer, on all cores."""
    if (teacher / f"{side}.spm").exists():
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(teacher / f"{side}.spm"))
        return partial(pieces.encode, num_threads=os.cpu_count())
    tokenizer = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    return lambda lines: (encoding.ids for encoding in tokenizer.encode_batch_fast(lines))


def arguments_of_run(folder: Path, teacher: Path, out: Path, **options: object) -> list[str]:
    """The options of a short training run on the pairs."""
    arguments = {
        **{"task": "translation", "teacher": teacher, "data": folder, "output_dir": out},
        **{"src_lang": "en", "tgt_lang": "de", "method": "sft", "student.decoder_layers": 1},
        **{"batch.max_tokens": 4000, "trainer.max_steps": 2, "trainer.val_check_interval": 1000},
        **{"eval.n_val": 8, "eval.n_test": 8, "eval.n_speed": 0, "eval.max_target_length": 8},
        **{"logger": "[]", "trainer.enable_progress_bar": "false", **options},
    }
    return [word for name, value in arguments.items() for word in (f"--{name}", str(value))]


def encode(folder: Path, cache: Path, teacher: Path) -> float:
    """Seconds of reading and encoding alone, in a process of its own, imports aside."""
    code = (
        "import sys, time\n"
        "from seq2seq_distill.data.encoding import encode_split\n"
        "from seq2seq_distill.data.sources import map_split\n"
        "from seq2seq_distill.data.tokenization.tokenizers import load_tokenizer\n"
        "tokenizer = load_tokenizer(sys.argv[2], 'en', 'de')\n"
        "start = time.perf_counter()\n"
        "dataset, key = map_split(sys.argv[1], 'train')\n"
        "encode_split(dataset, tokenizer, max_source_length=512, max_target_length=512, cache_dir=None, key=key)\n"
        "print(time.perf_counter() - start)\n"
    )
    environment = {**os.environ, "SEQ2SEQ_DISTILL_CACHE": str(cache)}
    command = [sys.executable, "-c", code, str(folder), str(teacher)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    shutil.rmtree(cache)
    return float(done.stdout.split()[-1])


def starts(folder: Path, teacher: Path, cache: Path) -> dict[str, Any]:
    """The first start of a run and the second."""
    runs = [
        record(arguments_of_run(folder / "data", teacher, folder / f"start{turn}"), folder / "log", cache)
        for turn in range(2)
    ]
    return {
        name: {"seconds": round(run.first_step, 1), "main_mb": run.main_mb, "workers_mb": run.workers_mb}
        for name, run in zip(("first_start", "second_start"), runs, strict=True)
    }


def fetching(folder: Path, teacher: Path, cache: Path, workers: int) -> dict[str, Any]:
    """Milliseconds between two steps and of a step, medians of 40."""
    options = {"trainer.max_steps": 43, "batch.workers": workers}
    arguments = arguments_of_run(folder / "data", teacher, folder / f"fetching{workers}", **options)
    run = record(arguments, folder / "log", cache)
    steps = run.steps[2:]
    between = median(later[0] - earlier[1] for earlier, later in itertools.pairwise(steps))
    step = median(end - start for start, end in steps)
    return {
        "fetch_ms": round(1000 * between, 2),
        "step_ms": round(1000 * step, 1),
        "fetch_share": round(between / step, 4),
        "main_mb": run.main_mb,
        "workers_mb": run.workers_mb,
    }


def resumed(folder: Path, teacher: Path, cache: Path) -> dict[str, Any]:
    """A run that is killed in the middle of its second epoch, and goes on."""
    options = {"trainer.max_steps": -1, "trainer.max_epochs": 3, "trainer.limit_train_batches": 40}
    options |= {"trainer.save_every_n_steps": 10}
    names = ("whole", "killed")
    whole, killed = (arguments_of_run(folder / "data", teacher, folder / name, **options) for name in names)
    record(whole, folder / "log", cache)
    record(killed, folder / "log", cache, killed_at=60)
    run = record(killed, folder / "log", cache)
    weights = [(folder / name / "best" / "model.safetensors").read_bytes() for name in names]
    return {"seconds": round(run.first_step, 1), "steps": len(run.steps), "equal": weights[0] == weights[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo:translation", help="folder whose sentences the pairs are made of")
    parser.add_argument("--teacher", default="demo:translation", help="folder of a translation model in float32")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="numbers of pairs")
    parser.add_argument("--rounds", type=int, default=2, help="of encoding and its floor; 0 leaves them out")
    parser.add_argument("--only", nargs="+", default=["starts", "fetching", "resumed"], help="what else to measure")
    arguments = parser.parse_args()
    texts = load_split(demo.data_source(arguments.data), "train", Columns(src_lang="en", tgt_lang="de"))
    sentences = {side: texts[side][:] for side in SIDES}
    teacher = Path(demo.model_source(arguments.teacher))
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(measure(Path(place), teacher, sentences, rows, arguments)), flush=True)


def measure(
    folder: Path, teacher: Path, sentences: dict[str, list[str]], rows: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The line of one number of rows."""
    write_pairs(folder / "data", sentences, rows)
    line: dict[str, Any] = {"benchmark": "rows", "rows": rows}
    turns = [
        (floor(folder / "data", teacher), encode(folder / "data", folder / "alone", teacher))
        for _ in range(arguments.rounds)
    ]
    if turns:
        least, seconds = (median(times) for times in zip(*turns, strict=True))
        line |= {"floor_seconds": round(least, 1), "encode_seconds": round(seconds, 1)}
        line |= {"encode_over_floor": round(median(ours / theirs for theirs, ours in turns), 2)}
    cache = folder / "cache"
    if "starts" in arguments.only:
        line |= starts(folder, teacher, cache)
    if "fetching" in arguments.only:
        line |= {f"fetching_{workers}_workers": fetching(folder, teacher, cache, workers) for workers in (0, 2)}
    if "resumed" in arguments.only:
        line |= {"resumed": resumed(folder, teacher, cache)}
    return line


if __name__ == "__main__":
    main()
