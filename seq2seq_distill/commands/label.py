"""`distill label`: a model writes the targets of a data set, or scores them; filters choose among them."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from datasets import Dataset
from rich.console import Console
from rich.table import Table

from seq2seq_distill import demo, metrics
from seq2seq_distill.commands.inputs import load_rows, with_run_defaults
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import fingerprint, has_split
from seq2seq_distill.data.tokenizers import tokenizer_fingerprint
from seq2seq_distill.decoding.loading import export_record
from seq2seq_distill.metrics.scripts import MOSTLY_DROPPED
from seq2seq_distill.training.labels.answers import counts_of
from seq2seq_distill.training.labels.language_model import (
    label_with_causal_model,
    labels_with_language_model,
    load_language_model,
    make_prompts,
    request_fingerprint,
    server_key,
    show_plan,
    wanted_of_language_model,
)
from seq2seq_distill.training.labels.merging import merge, references_of
from seq2seq_distill.training.labels.server import ServerLabelling
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.training.labels.teacher import (
    BackwardModel,
    LabelTeacher,
    choose_decoder,
    generated,
    load_label_teacher,
    open_decoder,
    scored,
)
from seq2seq_distill.utils.distributed import rank_and_world_size
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)

FIXED = (
    *("split", "targets", "engine", "quantization", "n_best", "sample", "temperature", "top_k", "top_p", "seed"),
    *("max_tokens", "shard_rows"),
)
"""Options that the raw candidates depend on, besides what the model, the data and the tokenizer say."""
MANY_CUT = 0.01
"""Share of cut texts above which they are warned of."""
FLAGS = {
    "model": "`model`, of the fingerprint",
    "tokenizer": "`model`, a tokenizer of the fingerprint",
    "data": "`data`, `n` or columns, of the fingerprint",
    "longest": "`max_source_length`",
    "generation": "`tgt_lang`, or the `model`'s own generation settings,",
}


def label(config: LabelConfig) -> dict[str, Any]:
    """Label a split, or go on labelling it; then choose and filter. Returns what report.json holds.

    With several processes (torchrun, SLURM) each does its share of the shards; the first of them ends the work.

    Raises:
        UserError: in one line.
    """
    exported = {} if config.server else export_record(config.model)
    record = exported if exported or config.server else read_run_record(config.model)
    config = with_run_defaults(config, record, "name what to label")
    if not exported and labels_with_language_model(config):
        return _label_with_language_model(replace(config, drop_cut=True))
    dataset, teacher = _dataset(config), load_label_teacher(config)
    _check_rouge(config, dataset)
    backward = BackwardModel(config) if config.backward_model else None
    folder = _folder(config, dataset, backward)
    found = folder.load_or_create_manifest(
        _wanted(config, teacher, dataset),
        FLAGS,
        lambda: choose_decoder(config, teacher, folder.converted, dataset[:64]["source"]),
    )
    limits = teacher.loaded.max_length, teacher.loaded.generation.max_length - 1
    written = "reference" if config.targets == "reference" else str(found["engine"])
    write = partial(_write_candidates, config, teacher, folder, found, dataset)
    return _label(config, folder, dataset, backward, write, written, limits)


def _label_with_language_model(config: LabelConfig) -> dict[str, Any]:
    """`label`, for a language model behind a server or in a folder."""
    dataset = _dataset(config)
    _check_rouge(config, dataset)
    prompts = make_prompts(config, _shots(config))
    model = None if config.server else load_language_model(config, prompts)
    if config.dry_run:
        return show_plan(config, prompts, model, dataset)
    if config.server and rank_and_world_size()[1] > 1:
        raise ConfigError("`server` is used by one process alone: start one, and raise `concurrency` instead")
    backward = BackwardModel(config) if config.backward_model else None
    folder = _folder(config, dataset, backward)
    wanted = wanted_of_language_model(config, prompts, model, fingerprint(dataset))
    written = "server" if model is None else "transformers"
    folder.load_or_create_manifest(wanted, FLAGS, lambda: {"engine": written})

    def write(shards: range) -> None:
        missing = [shard for shard in shards if not folder.has_raw(shard)]
        if model is None:
            key, request = server_key(config), request_fingerprint(wanted)
            ServerLabelling(config, prompts, folder, dataset, request, key).label(missing)
            return
        for shard in missing:
            rows = folder.rows(shard)
            label_with_causal_model(config, model, folder, dataset[rows.start : rows.stop]["source"], shard)
            logger.info("rows %d to %d of %d are labelled", rows.start, rows.stop - 1, len(dataset))

    return _label(config, folder, dataset, backward, write, written, (None, config.target_limit))


def _label(
    config: LabelConfig,
    folder: LabelFolder,
    dataset: Dataset,
    backward: BackwardModel | None,
    write: Callable[[range], None],
    written: str,
    limits: tuple[int | None, int],
) -> dict[str, Any]:
    """Write what is missing, choose and filter; `limits` are those of sources and targets, in tokens."""
    rank, world = rank_and_world_size()
    with folder.held() if rank == 0 else nullcontext():
        own = folder.shards[rank::world]
        write(own)
        if backward:
            _write_backward(backward, folder, dataset, own)
        if rank:
            return {}
        while not all(
            folder.has_raw(shard) and (not backward or folder.has_backward(shard)) for shard in folder.shards
        ):
            time.sleep(0.5)
        counts = counts_of(folder, folder.shards)
        more = {"language_model": counts.record()} if counts.answers or counts.refused else {}
        report = merge(config, folder, dataset, f"{config.model} ({written})", more)
    _log_cut(config, limits, report)
    _print(config, report)
    if not report["kept"]:
        raise ConfigError(f"`output_dir` {config.folder}: the filters leave nothing: report.json says which; loosen it")
    logger.info("%d pairs in %s, for `data`", report["kept"], config.folder)
    return report


def _folder(config: LabelConfig, dataset: Dataset, backward: BackwardModel | None) -> LabelFolder:
    return LabelFolder(
        config.folder, config.split, len(dataset), config.shard_rows, backward.fingerprint if backward else ""
    )


def _shots(config: LabelConfig) -> list[tuple[str, str]]:
    """Pairs for the prompts, evenly spaced over the val split or, without one, train: one more than is shown."""
    if not config.shots:
        return []
    sources = config.shots_data or config.data
    columns = Columns(config.source_column, config.target_column, config.src_lang, config.tgt_lang, group="")
    if config.shots_data:
        columns = replace(columns, source=None, target=None)
    has_val = any(has_split(demo.data_source(source), "val") for source in sources)
    pairs = load_rows(sources, "val" if has_val else "train", columns)
    count = config.shots + 1
    if len(pairs) < count:
        raise ConfigError(f"`shots` {config.shots} needs {count} pairs, and there are {len(pairs)}: lower it")
    chosen = pairs[[(2 * i + 1) * len(pairs) // (2 * count) for i in range(count)]]
    return list(zip(chosen["source"], chosen["target"], strict=True))


def _dataset(config: LabelConfig) -> Dataset:
    """The rows to label, of all sources that have the split."""
    languages = config.src_lang, config.tgt_lang
    columns = Columns(config.source_column, config.target_column, *languages, group="", optional_target=True)
    dataset = load_rows(config.data, config.split, columns)
    if "target" not in dataset.column_names:
        _check_without_references(config)
    return dataset if config.n is None else dataset.select(range(min(config.n, len(dataset))))


def _check_without_references(config: LabelConfig) -> None:
    """Refuse what compares targets with references that the data does not have."""
    needs = {name: getattr(config, name) is not None for name in ("min_rouge2", "min_chrf", "min_script")}
    needs |= {"targets": config.targets == "reference", "keep": config.keep.startswith("best")}
    for name in (name for name, is_given in needs.items() if is_given):
        raise ConfigError(
            f"`{name}` {getattr(config, name)} needs references, and `data` {' '.join(config.data)} has none: leave it "
            "out, or give data with targets"
        )


def _check_rouge(config: LabelConfig, dataset: Dataset) -> None:
    """Refuse to choose or filter targets by a ROUGE that drops most of the references."""
    by_rouge = {"keep": config.keep == "best-rouge", "min_rouge2": config.min_rouge2 is not None}
    given = [f"`{name}` {getattr(config, name)}" for name, is_given in by_rouge.items() if is_given]
    if given and config.rouge_tokenizer == "default":
        dropped = metrics.dropped_by_rouge(references_of(dataset))
        if dropped > MOSTLY_DROPPED:
            raise ConfigError(
                f"{given[0]}: ROUGE keeps only a-z and 0-9, and drops most letters of {dropped:.0%} of the references: "
                "set `rouge_tokenizer` unicode, or choose chrF (best-chrf, `min_chrf`)"
            )


def _wanted(config: LabelConfig, teacher: LabelTeacher, dataset: Dataset) -> dict[str, Any]:
    """What the raw candidates depend on, as plain values."""
    loaded = teacher.loaded
    generation = loaded.generation.to_diff_dict()
    for name in ("transformers_version", "use_cache"):  # the latter is the same for all
        generation.pop(name, None)
    wanted = {name: getattr(config, name) for name in FIXED} | {
        "beams": generation.pop("num_beams", 1),
        "length_penalty": generation.pop("length_penalty", 1.0),
        "max_target_length": generation.pop("max_length") - 1,
        "prefix": loaded.prefix,
        "longest": loaded.max_length,
        "src_lang": config.src_lang,
        "tgt_lang": config.tgt_lang,
        "generate": config.generate or None,  # as in a folder from before there was this option
        "generation": generation,
        "model": teacher.fingerprint,
        "tokenizer": tokenizer_fingerprint(loaded.tokenizer),
        "data": fingerprint(dataset),
    }
    return dict(json.loads(json.dumps(wanted)))


def _write_candidates(
    config: LabelConfig,
    teacher: LabelTeacher,
    folder: LabelFolder,
    found: dict[str, Any],
    dataset: Dataset,
    shards: range,
) -> None:
    missing = [shard for shard in shards if not folder.has_raw(shard)]
    if not missing:
        return
    decoder = None if config.targets == "reference" else open_decoder(config, teacher, folder.converted, found)
    for shard in missing:
        rows = folder.rows(shard)
        texts = dataset[rows.start : rows.stop]
        if decoder is None:
            # Half the data set away: neighbours may be alike.
            others = dataset[[(row + len(dataset) // 2) % len(dataset) for row in rows]]["source"]
            candidates = scored(config, teacher, texts["source"], texts["target"], others)
        else:
            candidates = generated(config, teacher, decoder, texts["source"], shard)
        folder.write_raw(shard, texts["source"], candidates)
        logger.info("rows %d to %d of %d are labelled", rows.start, rows.stop - 1, len(dataset))


def _write_backward(backward: BackwardModel, folder: LabelFolder, dataset: Dataset, shards: range) -> None:
    for shard in (shard for shard in shards if not folder.has_backward(shard)):
        rows = folder.rows(shard)
        sources = dataset[rows.start : rows.stop]["source"]
        candidates = folder.read_raw(shard, sources)
        pairs = [(each.text, source) for own, source in zip(candidates, sources, strict=True) for each in own]
        folder.write_backward(shard, candidates, backward.scores(*map(list, zip(*pairs, strict=True))))
        logger.info("rows %d to %d of %d have backward scores", rows.start, rows.stop - 1, len(dataset))


def _log_cut(config: LabelConfig, limits: tuple[int | None, int], report: dict[str, Any]) -> None:
    """Students learn from pairs that were cut to leave text out."""
    cut, chosen = report["cut"], max(1, report["chosen"])
    line = "cut: %d of %d sources, which are longer than %s tokens, and %d targets, stopped at %d tokens"
    numbers = (cut["sources"], chosen, limits[0], cut["targets"], limits[1])
    if max(cut.values()) > MANY_CUT * chosen and not config.drop_cut:
        logger.warning(
            f"{line}: raise `max_source_length` or `max_target_length`, or drop them with `drop_cut`", *numbers
        )
    else:
        logger.info(line, *numbers)


def _print(config: LabelConfig, report: dict[str, Any]) -> None:
    """The report as a table for people, and as a JSON line on standard output."""
    table = Table("filter", "threshold", "removed", "it alone")
    for name, row in report["filters"].items():
        threshold = "" if name == "drop_cut" else f"{row['threshold']:g}"
        table.add_row(f"--{name}", threshold, str(row["removed"]), str(row["alone"]))
    table.add_section()
    table.add_row("kept", "", f"{report['kept']} of {report['chosen']}", "")
    Console(stderr=True).print(table)
    print(json.dumps({"output_dir": str(config.folder), **report}))
