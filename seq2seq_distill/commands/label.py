"""`distill label`: a model writes the targets of a data set, or scores them; filters choose among them."""

import json
import logging
import time
from contextlib import nullcontext
from typing import Any

from datasets import Dataset
from rich.console import Console
from rich.table import Table

from seq2seq_distill import metrics
from seq2seq_distill.commands.inputs import load_rows, with_run_defaults
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.data.tokenizers import tokenizer_fingerprint
from seq2seq_distill.decoding.loading import export_record
from seq2seq_distill.metrics.scripts import MOSTLY_DROPPED
from seq2seq_distill.training.labels.merging import merge, references_of
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
    record = export_record(config.model) or read_run_record(config.model)
    config = with_run_defaults(config, record, "name what to label")
    dataset, teacher = _dataset(config), load_label_teacher(config)
    _check_rouge(config, dataset)
    backward = BackwardModel(config) if config.backward_model else None
    folder = LabelFolder(
        config.folder, config.split, len(dataset), config.shard_rows, backward.fingerprint if backward else ""
    )
    found = folder.load_or_create_manifest(
        _wanted(config, teacher, dataset),
        FLAGS,
        lambda: choose_decoder(config, teacher, folder.converted, dataset[:64]["source"]),
    )
    rank, world = rank_and_world_size()
    with folder.held() if rank == 0 else nullcontext():
        own = folder.shards[rank::world]
        _write_candidates(config, teacher, folder, found, dataset, own)
        if backward:
            _write_backward(backward, folder, dataset, own)
        if rank:
            return {}
        while not all(
            folder.has_raw(shard) and (not backward or folder.has_backward(shard)) for shard in folder.shards
        ):
            time.sleep(0.5)
        written = "reference" if config.targets == "reference" else str(found["engine"])
        report = merge(config, folder, dataset, f"{config.model} ({written})")
    _log_cut(config, teacher, report)
    _print(config, report)
    if not report["kept"]:
        raise ConfigError(f"`output_dir` {config.folder}: the filters leave nothing: report.json says which; loosen it")
    logger.info("%d pairs in %s, for `data`", report["kept"], config.folder)
    return report


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


def _log_cut(config: LabelConfig, teacher: LabelTeacher, report: dict[str, Any]) -> None:
    """Students learn from pairs that were cut to leave text out."""
    cut, chosen = report["cut"], max(1, report["chosen"])
    line = "cut: %d of %d sources, which are longer than %s tokens, and %d targets, stopped at %d tokens"
    numbers = (
        cut["sources"],
        chosen,
        teacher.loaded.max_length,
        cut["targets"],
        teacher.loaded.generation.max_length - 1,
    )
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
