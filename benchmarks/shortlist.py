"""What a shortlist of CTranslate2 costs and gains: candidates, coverage, scores, and time of a sentence.

    OMP_NUM_THREADS=1 python -m benchmarks.shortlist --model multi30k/teacher --data multi30k/data \\
        --src_lang en --tgt_lang de

Prints one JSON line for each shortlist, F most frequent pieces and B best ones for each source piece, beside none.
Decodes in int8 with one thread. Scores are those of the first `--single` texts decoded one at a time, and of the first
`--n` in batches of 32. Times are medians over the single texts, which all shortlists decode in turn: trust the ratio.

`--vocabulary 32000` also times a student of 6 encoder layers and 1 decoder layer of width 512, with random weights and
as many rows, most of which no piece has; it writes `--length` tokens for each source.
"""

import argparse
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel

from benchmarks.timing import interleaved, ratio
from seq2seq_distill import demo, metrics
from seq2seq_distill.commands.export.options import ExportConfig
from seq2seq_distill.commands.export.shortlist import learn_ranks, training_pairs
from seq2seq_distill.config.tasks import TASKS
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import first_rows, load_split
from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.decoding.conversion import save_converted, saved_vocabularies
from seq2seq_distill.decoding.ctranslate2_decoder import CTranslate2Decoder
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.decoding.generation import GenerationSettings
from seq2seq_distill.decoding.loading import LoadedModel, load_model
from seq2seq_distill.decoding.shortlist.candidates import BEST, FREQUENT, CandidateRanks, Shortlist, choose, measure
from seq2seq_distill.decoding.shortlist.vmap import first_tokens, write_vmap

SIZES = ((50, 50), (100, 100), (500, 200))
"""Frequent and best pieces."""
NONE, CHOSEN = "none", "chosen"

Folders = Mapping[str, Path]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, those of the command line by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo:translation")
    parser.add_argument("--data", default="demo:translation")
    parser.add_argument("--task", choices=tuple(TASKS), default="translation")
    parser.add_argument("--src_lang", default="en")
    parser.add_argument("--tgt_lang", default="de")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--coverage", type=float, default=ExportConfig.shortlist_coverage)
    parser.add_argument("--pairs", type=int, help="training pairs to learn from (default: all)")
    parser.add_argument("--n", type=int, default=1000, help="texts of the val split")
    parser.add_argument("--single", type=int, default=200, help="of these, texts decoded one at a time")
    parser.add_argument("--rounds", type=int, default=3, help="of timing")
    parser.add_argument("--vocabulary", type=int, help="of a model with random weights to time (default: none)")
    parser.add_argument("--length", type=int, default=25, help="tokens that this model writes for each source")
    return parser.parse_args(arguments)


def compare(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record for each shortlist."""
    config = ExportConfig(
        model=arguments.model,
        data=[arguments.data],
        task=arguments.task,
        src_lang=arguments.src_lang,
        tgt_lang=arguments.tgt_lang,
        beams=arguments.beams,
    )
    loaded = load_model(config.model, "model", config, GenerationSettings.of_command(config))
    columns = Columns(src_lang=config.src_lang, tgt_lang=config.tgt_lang, group="")
    texts = load_split(demo.data_source(arguments.data), "val", columns, limit=arguments.n)
    sources = loaded.encode(texts["source"])
    first = first_tokens(loaded.torch_model, loaded.tokenizer)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / NONE
        save(folder, loaded, first)
        whole = open_decoder(folder, loaded, 32)
        outputs = best_of(whole, sources)
        pairs = first_rows(training_pairs([arguments.data], columns), arguments.pairs)
        ranks = learn_ranks(loaded, pairs, config.target_limit, whole.vocabularies, first)
        ids = [best.ids for best in outputs]
        sizes = {f"{f}+{b}": measure(ranks, sources, ids, [f], [b])[0] for f, b in SIZES}
        sizes[CHOSEN] = choose(measure(ranks, sources, ids, FREQUENT, BEST), arguments.coverage)
        folders = {NONE: folder, **with_shortlists(folder, ranks, sizes)}
        targets = TextEncoder(loaded.tokenizer, "text_target").encode(texts["target"]).ids
        times = time_singly(folders, loaded, sources[: arguments.single], arguments.rounds)
        for name, own in folders.items():
            yield {
                **described(name, sizes, ranks, sources, targets),
                **scores(own, loaded, folder, sources, texts["target"], arguments),
                **speed(times, name),
            }
        if arguments.vocabulary:
            loaded = random_student(loaded, arguments.vocabulary, arguments.length)
            folder = Path(place) / "random" / NONE
            save(folder, loaded, first)
            folders = {NONE: folder, **with_shortlists(folder, ranks, sizes)}
            times = time_singly(folders, loaded, sources[: arguments.single], arguments.rounds)
            for name in folders:
                yield {"vocabulary": arguments.vocabulary, "shortlist": name, **speed(times, name)}


def save(folder: Path, loaded: LoadedModel, first: Sequence[int]) -> None:
    """The model in int8."""
    folder.mkdir(parents=True)
    save_converted(folder, loaded.torch_model, loaded.tokenizer, loaded.generation, "int8", "the benchmark", first)


def with_shortlists(folder: Path, ranks: CandidateRanks, sizes: Mapping[str, Shortlist]) -> Folders:
    """Copies of a folder, each with a shortlist."""
    vocabularies = saved_vocabularies(folder)
    folders = {name: folder.parent / name for name in sizes}
    for name, copied in folders.items():
        shutil.copytree(folder, copied)
        write_vmap(copied, ranks, sizes[name], vocabularies)
    return folders


def open_decoder(folder: Path, loaded: LoadedModel, batch_size: int) -> CTranslate2Decoder:
    """With one thread."""
    return CTranslate2Decoder(folder, loaded, threads=(1, 1), batch_size=batch_size)


def best_of(decoder: CTranslate2Decoder, sources: Sequence[list[int]]) -> list[Hypothesis]:
    """The best output of each source."""
    return [best for best, *_ in decoder.decode(sources)]


def described(
    name: str,
    sizes: Mapping[str, Shortlist],
    ranks: CandidateRanks,
    sources: Sequence[list[int]],
    targets: Sequence[list[int]],
) -> dict[str, Any]:
    """Candidates, and what they cover."""
    if name == NONE:
        return {"shortlist": name, "candidates": ranks.vocabulary, "references": 1.0, "outputs": 1.0}
    size = sizes[name]
    [references] = measure(ranks, sources, targets, [size.frequent], [size.best])
    return {
        "shortlist": f"{size.frequent}+{size.best}" + f" ({name})" * (name == CHOSEN),
        "candidates": round(size.mean_candidates),
        "references": round(references.coverage, 4),
        "outputs": round(size.coverage, 4),
    }


def scores(
    folder: Path,
    loaded: LoadedModel,
    whole: Path,
    sources: Sequence[list[int]],
    references: Sequence[str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The main score, the share of outputs that equal those without a shortlist, and that of single texts for which a
    new translator gives the same."""
    line: dict[str, Any] = {}
    main = TASKS[arguments.task].main
    for batch_size, count in ((1, arguments.single), (32, arguments.n)):
        outputs, before = (best_of(open_decoder(each, loaded, batch_size), sources[:count]) for each in (folder, whole))
        score = metrics.score(arguments.task, [best.text for best in outputs], references[:count], arguments.tgt_lang)
        line[f"{main}_{batch_size}"] = round(score[main], 2)
        line[f"unchanged_{batch_size}"] = share_of_equal(outputs, before)
        if batch_size == 1:
            new = [best_of(open_decoder(folder, loaded, 1), [source])[0] for source in sources[:count]]
            line["equal_to_new_translators"] = share_of_equal(outputs, new)
    return line


def share_of_equal(outputs: Sequence[Hypothesis], others: Sequence[Hypothesis]) -> float:
    """Share of sources with the same output."""
    return round(sum(one.ids == two.ids for one, two in zip(outputs, others, strict=True)) / len(outputs), 3)


def time_singly(
    folders: Folders, loaded: LoadedModel, sources: Sequence[list[int]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each source with each shortlist, which take turns."""
    decoders = {name: open_decoder(folder, loaded, 1) for name, folder in folders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in folders}
    for source in sources:
        sides = {name: partial(decoder.decode, [source]) for name, decoder in decoders.items()}
        for name, times in interleaved(sides, rounds).items():
            seconds[name].append(median(times))
    return seconds


def speed(times: Mapping[str, list[float]], name: str) -> dict[str, float]:
    """Milliseconds of a sentence, and how many times as fast as without a shortlist."""
    return {"ms": round(1000 * median(times[name]), 1), "times_as_fast": ratio(times, NONE, name)}


def random_student(loaded: LoadedModel, vocabulary: int, length: int) -> LoadedModel:
    """A student of the usual shape with the same tokenizer and more rows, whose outputs have `length` tokens."""
    names = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    ids: dict[str, Any] = {name: getattr(loaded.generation, name) for name in names}
    torch.manual_seed(0)
    model = MarianMTModel(
        MarianConfig(
            d_model=512,
            vocab_size=vocabulary,
            decoder_vocab_size=vocabulary,
            max_position_embeddings=512,
            encoder_layers=6,
            decoder_layers=1,
            encoder_ffn_dim=2048,
            decoder_ffn_dim=2048,
            encoder_attention_heads=8,
            decoder_attention_heads=8,
            **ids,
        )
    ).eval()
    generation = GenerationConfig(
        **ids, max_length=length + 1, min_length=length + 1, num_beams=1, forced_eos_token_id=None
    )
    model.final_logits_bias[:, len(loaded.tokenizer) :] = -1e4  # rows without a token
    model.generation_config = copy.deepcopy(generation)
    return replace(loaded, model=model, generation=generation)


def main() -> None:
    for line in compare(parse()):
        print(json.dumps({"benchmark": "shortlist", **line}), flush=True)


if __name__ == "__main__":
    main()
