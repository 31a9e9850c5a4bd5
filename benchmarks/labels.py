"""Rows labelled per second: `distill label` with CTranslate2 against a plain loop of `generate`.

    python -m benchmarks.labels                                                  # the built-in translation teacher
    python -m benchmarks.labels --teacher DIR --data DIR --src_lang en --tgt_lang de -n 1000

The loop uses fixed batches in file order, as scripts commonly do. Both sides read and write text; loading, conversion
and comparison happen beforehand and are not timed. Prints one JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import interleaved, ratio
from seq2seq_distill import demo
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.collator import Collator
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.generation import generate_batch, text_of
from seq2seq_distill.decoding.loading import LoadedModel
from seq2seq_distill.training.labels.teacher import (
    choose_decoder,
    generated,
    load_label_teacher,
    open_decoder,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="demo:translation", help="teacher folder or built-in teacher")
    parser.add_argument("--data", default="demo:translation", help="data folder or built-in data (its test split)")
    parser.add_argument("--src_lang", default="en")
    parser.add_argument("--tgt_lang", default="de")
    parser.add_argument("--quantization", choices=("float32", "int8"), default="float32")
    parser.add_argument("-n", type=int, default=1000, help="number of rows")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=32, help="batch size of the plain loop")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    config = LabelConfig(
        model=arguments.teacher,
        data=[arguments.data],
        task="translation",
        src_lang=arguments.src_lang,
        tgt_lang=arguments.tgt_lang,
        engine="ctranslate2",
        quantization=arguments.quantization,
        beams=arguments.beams,
    )
    print(json.dumps(compare(config, arguments.n, arguments.batch_size, arguments.rounds)), flush=True)


def compare(config: LabelConfig, n: int, batch_size: int, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    columns = Columns(src_lang=config.src_lang, tgt_lang=config.tgt_lang)
    texts = list(load_split(demo.data_source(config.data[0]), "test", columns, limit=n)["source"])
    teacher = load_label_teacher(config)
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "ctranslate2"
        choice = choose_decoder(config, teacher, folder, texts)
        decoder = open_decoder(config, teacher, folder, choice)

        def labelled() -> None:
            found["label"] = [own[0].text for own in generated(config, teacher, decoder, texts, 0)]

        def looped() -> None:
            found["loop"] = plain_loop(teacher.loaded, texts, batch_size)

        seconds = interleaved({"label": labelled, "loop": looped}, rounds)
    return {
        "benchmark": "labels",
        "teacher": Path(config.model).name,
        "rows": len(texts),
        "beams": teacher.loaded.generation.num_beams,
        "quantization": config.quantization,
        "threads": choice["threads"],
        "loop_batch_size": batch_size,
        "label_over_loop_rows_per_second": ratio(seconds, "loop", "label"),
        "rows_per_second": {side: round(len(texts) / min(times), 1) for side, times in seconds.items()},
        "equal_outputs": sum(a == b for a, b in zip(found["label"], found["loop"], strict=True)) / len(texts),
    }


def plain_loop(loaded: LoadedModel, texts: list[str], batch_size: int) -> list[str]:
    """What a short script does: `generate` on fixed-size batches in file order."""
    collate = Collator(int(loaded.tokenizer.pad_token_id))
    written = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            ids = loaded.encode(texts[start : start + batch_size])
            batch = collate([{"input_ids": own, "row": row} for row, own in enumerate(ids)])
            outputs = generate_batch(loaded.torch_model, batch, loaded.generation)
            written += [text_of(loaded.tokenizer, own) for own in outputs]
    return written


if __name__ == "__main__":
    main()
