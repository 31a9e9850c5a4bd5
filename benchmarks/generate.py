"""Rows decoded per second: in length order, as in a run, against fixed batches in file order.

    python -m benchmarks.generate

Both sides use the built-in teachers and transformers' `generate`, with the same rows and the same outputs. Prints one
JSON line per task.
"""

import argparse
import json

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from benchmarks.timing import interleaved, ratio
from seq2seq_distill import demo
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.decoder import TransformersDecoder
from seq2seq_distill.decoding.generation import GenerationSettings, generate_batch, generation_config
from seq2seq_distill.decoding.loading import LoadedModel

LONGEST = {"summarization": 40, "translation": 96}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=320, help="number of test inputs")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for task in demo.TEACHERS:
        print(json.dumps(compare(task, arguments.n, arguments.batch_size, arguments.rounds)), flush=True)


def compare(task: str, n: int, batch_size: int, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    path = demo.resolve_teacher(f"demo:{task}")
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    texts = load_split(str(demo.resolve_data(f"demo:{task}")), "test")["source"][:n]
    rows = [{"input_ids": tokenizer(text)["input_ids"], "row": i} for i, text in enumerate(texts)]
    settings = GenerationSettings(beams=1, max_length=LONGEST[task], batch_size=batch_size)
    collate, config = Collator(tokenizer.pad_token_id), generation_config(model, settings)
    decoder = TransformersDecoder(LoadedModel(model, tokenizer, "", None, config), batch_size=batch_size)
    inputs = [row["input_ids"] for row in rows]
    found: dict[str, list[str]] = {}

    def in_length_order() -> None:
        found["ours"] = [best.text for best, *_ in decoder.decode(inputs, with_scores=False)]

    def in_file_order() -> None:
        with torch.inference_mode():
            batches = [rows[i : i + batch_size] for i in range(0, n, batch_size)]
            ids = [own for batch in batches for own in generate_batch(model, collate(batch), config)]
        found["file"] = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    seconds = interleaved({"ours": in_length_order, "file": in_file_order}, rounds)
    return {
        "benchmark": "generate",
        "task": task,
        "rows": n,
        "batch_size": batch_size,
        "length_order_over_file_order_rows_per_second": ratio(seconds, "file", "ours"),
        "equal_outputs": sum(a == b for a, b in zip(found["ours"], found["file"], strict=True)),
    }


if __name__ == "__main__":
    main()
