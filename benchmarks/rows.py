"""Starts of a run over many rows: seconds and memory of the first and the second, and encoding beside its floor.

    python -m benchmarks.rows [--data FOLDER] [--teacher FOLDER] [--rows 100000 1000000]

Pairs are made by joining sentences of FOLDER (of the translation demo by default). Prints one JSON line per number of
rows. `floor` reads the same lines whole, tokenises them by 100,000 with the library under the teacher's tokenizer on
all cores, and writes int32 ids; `encode_over_floor` compares the seconds of reading and encoding with it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

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


def start(folder: Path, teacher: Path, out: Path, cache: Path) -> dict[str, float]:
    """Seconds of a run of two steps, and its peak memory in MB that is not mapped from files."""
    arguments = {
        **{"--task": "translation", "--teacher": teacher, "--data": folder, "--output_dir": out},
        **{"--src_lang": "en", "--tgt_lang": "de", "--method": "sft", "--student.decoder_layers": 1},
        **{"--batch.max_tokens": 4000, "--trainer.max_steps": 2, "--trainer.val_check_interval": 2},
        **{"--eval.n_val": 8, "--eval.n_test": 8, "--eval.n_speed": 0, "--eval.max_target_length": 8},
        **{"--logger": "[]", "--trainer.enable_progress_bar": "false"},
    }
    command = [sys.executable, "-m", "seq2seq_distill", *(str(word) for pair in arguments.items() for word in pair)]
    begin, peak = time.perf_counter(), 0
    with (out.with_suffix(".log")).open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "SEQ2SEQ_DISTILL_CACHE": str(cache)}
        )
        while process.poll() is None:
            peak = max(peak, anonymous_memory(process.pid))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(out.with_suffix(".log").read_text("utf-8"))
    return {"seconds": round(time.perf_counter() - begin, 1), "mb": round(peak / 1024)}


def anonymous_memory(pid: int) -> int:
    """RssAnon of a process in KiB; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def encode(folder: Path, cache: Path, teacher: Path) -> float:
    """Seconds of reading and encoding alone, in a process of its own, imports aside."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from seq2seq_distill.data.encoding import encode_split\n"
        "from seq2seq_distill.data.sources import map_split\n"
        "from seq2seq_distill.data.tokenizers import load_tokenizer\n"
        "tokenizer = load_tokenizer(sys.argv[2], 'en', 'de')\n"
        "start = time.perf_counter()\n"
        "dataset, key = map_split(sys.argv[1], 'train')\n"
        "encode_split(dataset, tokenizer, max_source_length=512, max_target_length=512, cache_dir=None, key=key)\n"
        "print(time.perf_counter() - start)\n"
    )
    environment = {**os.environ, "SEQ2SEQ_DISTILL_CACHE": str(cache)}
    command = [sys.executable, "-c", code, str(folder), str(teacher)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo:translation", help="folder whose sentences the pairs are made of")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="numbers of pairs")
    parser.add_argument("--teacher", default="demo:translation", help="folder of a translation model in float32")
    arguments = parser.parse_args()
    texts = load_split(demo.data_source(arguments.data), "train", Columns(src_lang="en", tgt_lang="de"))
    sentences = {side: texts[side][:] for side in SIDES}
    teacher = Path(demo.model_source(arguments.teacher))
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_pairs(folder / "data", sentences, rows)
            least = floor(folder / "data", teacher)
            seconds = encode(folder / "data", folder / "alone", teacher)
            starts = [start(folder / "data", teacher, folder / f"run{turn}", folder / "cache") for turn in range(2)]
        print(
            json.dumps(
                {
                    "benchmark": "rows",
                    "rows": rows,
                    "floor_seconds": round(least, 1),
                    "encode_seconds": round(seconds, 1),
                    "encode_over_floor": round(seconds / least, 2),
                    "first_start": starts[0],
                    "second_start": starts[1],
                    "children_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
