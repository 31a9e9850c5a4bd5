"""Labels and caches by workers of Ray: equal to those of one process although workers are killed, and how fast.

    python -m benchmarks.engine [--rows 20000] [--width 256]

A teacher of one layer and random weights, one thread for each worker, on a Ray cluster that this process starts. For
`label` and `cache`, four workers begin, two of them are killed by SIGKILL at random moments, and a machine with room
for one more joins; `equal` compares all files with those of one process. `speed` counts rows a second from the first
finished shard to the last, of two workers and of one. Prints one JSON line each.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.label_memory import label_command, sentences, small_teacher
from benchmarks.rows import write_pairs

MACHINE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextmanager
def cluster(cpus: int) -> Iterator[Any]:
    """A Ray on this machine that believes to have so many cores."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={**MACHINE, "num_cpus": cpus})
    try:
        yield started
    finally:
        started.shutdown()


def workers() -> list[int]:
    """Processes that fill shards, of the cluster that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[0].startswith("ray::Worker.fill"):
                found.append(process.pid)
        except (psutil.Error, IndexError):
            pass
    return found


def start(command: Sequence[str], place: Path) -> subprocess.Popen[bytes]:
    """The command, with one thread, and what it says in a file."""
    environment = {**os.environ, "SEQ2SEQ_DISTILL_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    with (place / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def finish(process: subprocess.Popen[bytes], place: Path) -> None:
    if process.wait():
        raise SystemExit((place / "log").read_text("utf-8"))


def shards(folder: Path) -> list[Path]:
    """Those that are written, in the order of their times."""
    found = [path for pattern in ("raw/*.parquet", "train/*.safetensors") for path in folder.glob(pattern)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def disturb(ray: Any, out: Path, total: int, chance: random.Random, is_running: Callable[[], bool]) -> dict[str, int]:
    """Kill two workers, each when a drawn number of shards is there, and let a machine join between."""
    first, joins, second = sorted(chance.sample(range(max(3, total - 4)), 3))
    done = {"killed": 0, "joined": 0}
    for moment, is_kill in ((first, True), (joins, False), (second, True)):
        while is_running() and (len(shards(out)) < moment or not workers()):
            time.sleep(0.05)
        time.sleep(chance.random() / 4)
        if is_kill and (alive := workers()):
            os.kill(chance.choice(alive), signal.SIGKILL)
            done["killed"] += 1
        elif not is_kill:
            ray.add_node(num_cpus=1, object_store_memory=MACHINE["object_store_memory"])
            done["joined"] += 1
    return done


def files(folder: Path) -> dict[str, bytes]:
    """What a command leaves, but for its locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def equality(place: Path, command: Callable[..., list[str]], rows: int, total: int, seed: int = 0) -> dict[str, Any]:
    """The disturbed command beside that of one process."""
    finish(start(command(place / "alone"), place), place)
    begin = time.perf_counter()
    with cluster(4) as ray:
        more = ("--runner", "ray", "--ray_address", ray.address, "--workers", 5)
        process = start(command(place / "shared", *more), place)
        done = disturb(ray, place / "shared", total, random.Random(seed), lambda: process.poll() is None)
        finish(process, place)
    seconds = time.perf_counter() - begin
    equal = files(place / "alone") == files(place / "shared")
    return {"rows": rows, "shards": total, **done, "equal": equal, "seconds": round(seconds, 1)}


def speed(place: Path, command: Callable[..., list[str]], rows_of_shard: int) -> dict[str, Any]:
    """Rows a second of one worker and of two."""
    found = {}
    for count in (1, 2):
        out = place / f"by{count}"
        finish(start(command(out, "--runner", "ray", "--workers", count), place), place)
        times = [path.stat().st_mtime for path in shards(out)]
        found[count] = rows_of_shard * (len(times) - 1) / (times[-1] - times[0])
    return {
        "rows_per_second": {n: round(rate, 1) for n, rate in found.items()},
        "two_over_one": round(found[2] / found[1], 2),
    }


def cache_command(teacher: Path, data: Path, out: Path, *more: object) -> list[str]:
    """`distill cache` for a student of the teacher's size."""
    options = {"--teacher": teacher, "--data": data, "--task": "translation", "--src_lang": "en", "--tgt_lang": "de"}
    options |= {"--teacher_cache": out, "--student.decoder_layers": 1, "--eval.n_val": 8, "--eval.n_test": 8}
    words = [*(word for pair in options.items() for word in pair), *more]
    return [sys.executable, "-m", "seq2seq_distill", "cache", *map(str, words)]


def commands(place: Path, rows: int, cache_rows: int, shard_rows: int, width: int) -> dict[str, Any]:
    """The commands of each kind, as functions of the folder and of more options, with their rows and shards."""
    teacher = small_teacher(place / "teacher", width)
    for kind, count in (("label", rows), ("cache", cache_rows)):
        (place / kind).mkdir()
        write_pairs(place / kind / "data", sentences(), count)

    def label(out: Path, *more: object) -> list[str]:
        own = ("--engine", "transformers", "--shard_rows", shard_rows)
        return label_command(teacher, place / "label" / "data", out, *own, *more)

    def cache(out: Path, *more: object) -> list[str]:
        return cache_command(teacher, place / "cache" / "data", out, *more)

    return {"label": (label, rows, -(-rows // shard_rows)), "cache": (cache, cache_rows, -(-cache_rows // 2048))}


def equalities(
    place: Path, rows: int, cache_rows: int, shard_rows: int, width: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A line for each kind."""
    for kind, (command, count, total) in commands(place, rows, cache_rows, shard_rows, width).items():
        yield {"kind": kind, **equality(place / kind, command, count, total, seed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows to label")
    parser.add_argument("--cache_rows", type=int, default=20_000, help="rows of the cache, in shards of 2048")
    parser.add_argument("--shard_rows", type=int, default=500, help="rows of a shard of labels")
    parser.add_argument("--width", type=int, default=256, help="of the teacher")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--speed_only", action="store_true", help="count rows per second alone")
    own = parser.parse_args()
    sizes = (own.rows, own.cache_rows, own.shard_rows, own.width)
    if not own.speed_only:
        with tempfile.TemporaryDirectory() as place:
            for line in equalities(Path(place), *sizes, own.seed):
                print(json.dumps({"benchmark": "engine", **line}), flush=True)
    with tempfile.TemporaryDirectory() as place:
        command, rows, _ = commands(Path(place), *sizes)["label"]
        line = speed(Path(place) / "label", command, own.shard_rows)
        print(json.dumps({"benchmark": "engine", "kind": "speed", "rows": rows, **line}), flush=True)


if __name__ == "__main__":
    main()
