"""Lines per second: `distill generate` against CTranslate2's `translate_file`, on one exported model.

    python -m benchmarks.translate_file                       # the built-in translation teacher, converted here
    python -m benchmarks.translate_file --model served        # a folder of `distill export`

`translate_file` reads and writes the same lines, with the model's tokenizer as `source_tokenize_fn` and
`target_detokenize_fn`, and has the same threads, beams and batches. Loading is not timed. Prints one JSON line; its
megabytes are the peak of the process before and after the first round of `distill generate`.
"""

import argparse
import json
import resource
import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from benchmarks.timing import interleaved, ratio
from seq2seq_distill import demo
from seq2seq_distill.commands.generate.command import generate_lines
from seq2seq_distill.commands.generate.options import GenerateConfig
from seq2seq_distill.config.decoding import DecodingOptions
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.decoding.conversion import save_converted
from seq2seq_distill.decoding.ctranslate2_decoder import CPU_TOKENS, PATIENCE, CTranslate2Decoder
from seq2seq_distill.decoding.generation import GenerationSettings, text_of
from seq2seq_distill.decoding.loading import load_model
from seq2seq_distill.decoding.text_generator import TextGenerator, load_decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of an exported model (default: the built-in teacher, in int8)")
    parser.add_argument("-n", type=int, default=100_000, help="number of lines")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        generator = open_model(arguments.model, Path(place) / "model", arguments.beams)
        line = compare(generator, Path(place), arguments.n, arguments.rounds)
    print(json.dumps({**line, "model": arguments.model or "demo:translation", "beams": arguments.beams}), flush=True)


def open_model(name: str | None, folder: Path, beams: int) -> TextGenerator:
    """The model ready to decode; the built-in one is converted into `folder`."""
    if name is not None:
        return load_decoder(name, beams=beams)
    options = DecodingOptions(task="translation", src_lang="en", tgt_lang="de", beams=beams)
    loaded = load_model("demo:translation", "model", options, GenerationSettings.of_command(options))
    folder.mkdir()
    save_converted(folder, loaded.torch_model, loaded.tokenizer, loaded.generation, "int8", "the benchmark")
    return TextGenerator(CTranslate2Decoder(folder, replace(loaded, model=None)), loaded, options)


def compare(generator: TextGenerator, place: Path, n: int, rounds: int) -> dict[str, object]:
    """The benchmark's JSON line."""
    decoder = generator.decoder
    assert isinstance(decoder, CTranslate2Decoder)
    source, ours, theirs = (place / name for name in ("source.txt", "ours.txt", "theirs.txt"))
    texts = load_split(demo.data_source("demo:translation"), "train")["source"][:n]
    source.write_text("".join(f"{text}\n" for text in islice(cycle(texts), n)), "utf-8")
    config = GenerateConfig(model="", input=str(source), output=str(ours))
    decoder.decode(decoder.encode(texts[:64]))  # chooses the threads
    memory = [peak_memory()]

    def generate() -> None:
        generate_lines(generator, config)
        memory.append(peak_memory())

    sides = {
        "generate": generate,
        "translate_file": lambda: translate_file(generator, decoder, source, theirs),
    }
    seconds = interleaved(sides, rounds)
    pairs = list(zip(ours.read_text("utf-8").split("\n"), theirs.read_text("utf-8").split("\n"), strict=True))
    return {
        "benchmark": "translate_file",
        "lines": n,
        "threads": decoder.threads,
        "generate_over_translate_file_lines_per_second": ratio(seconds, "translate_file", "generate"),
        "lines_per_second": {side: round(n / min(times), 1) for side, times in seconds.items()},
        "equal_outputs": sum(a == b for a, b in pairs[:n]) / n,
        "megabytes": dict(zip(("before", "after"), memory, strict=False)),
    }


def peak_memory() -> int:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def translate_file(generator: TextGenerator, decoder: CTranslate2Decoder, source: Path, target: Path) -> None:
    """What CTranslate2 offers for files, with the options of the decoder."""
    config, tokenizer = generator.loaded.generation, generator.loaded.tokenizer
    tokens, targets = decoder.vocabularies
    ids = {token: index for index, token in enumerate(targets)}

    def tokenize(text: str) -> list[str]:
        return [tokens[index] for index in tokenizer(text)["input_ids"]]

    def detokenize(output: list[str]) -> str:
        return text_of(tokenizer, [ids[token] for token in output])

    decoder.translator.translate_file(
        str(source),
        str(target),
        source_tokenize_fn=tokenize,
        target_detokenize_fn=detokenize,
        max_batch_size=CPU_TOKENS,
        batch_type="tokens",
        beam_size=config.num_beams or 1,
        patience=1 if config.early_stopping is True else PATIENCE,
        length_penalty=1.0 if config.length_penalty is None else config.length_penalty,
        max_decoding_length=decoder.max_length,
        max_input_length=generator.loaded.max_length or 0,
    )


if __name__ == "__main__":
    main()
