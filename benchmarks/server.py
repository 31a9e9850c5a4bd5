"""Time of `distill label --server` over the time in which a server could answer: latency x rows / concurrency.

    python -m benchmarks.server
    python -m benchmarks.server --rows 10000 --latency 0.5 --concurrency 128

The server is that of the tests; each of its answers takes the latency, however many it gives at once. The time is that
of asking and of writing answers and shards; reading the data is not timed. 1 is the least. Prints one JSON line.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from datasets import Dataset

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.decoding.language_model.prompts import Prompts, load_template
from seq2seq_distill.training.labels.server import ServerLabelling
from seq2seq_distill.training.labels.shards import LabelFolder
from tests.fake_server import FakeServer, serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--latency", type=float, default=0.25, help="seconds of an answer")
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.rows, arguments.latency, arguments.concurrency)), flush=True)


def measure(rows: int, latency: float, concurrency: int) -> dict[str, float]:
    """The benchmark's JSON line."""
    dataset = Dataset.from_dict({"source": [f"This is sentence number {i} of the data." for i in range(rows)]})
    prompts = Prompts(load_template(None, "translation", "chat"), {"src_language": "English", "tgt_language": "German"})
    with tempfile.TemporaryDirectory() as place, serving(FakeServer(latency=latency)) as server:
        config = LabelConfig(
            model="fake", server=server.url, task="translation", concurrency=concurrency, output_dir=place
        )
        folder = LabelFolder(Path(place), "train", rows, config.shard_rows)
        labelling = ServerLabelling(config, prompts, folder, dataset, "benchmark", None)
        start = time.perf_counter()
        labelling.label(list(folder.shards))
        seconds = time.perf_counter() - start
        assert len(server.bodies) == rows and server.most_at_once <= concurrency
    least = latency * rows / concurrency
    return {"rows": rows, "seconds": round(seconds, 2), "least": least, "ratio": round(seconds / least, 3)}


if __name__ == "__main__":
    main()
