"""`distill label`: a model writes the targets of a data set, or scores them; filters choose among them."""

import json
import logging
import socket
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from rich.table import Table

from seq2seq_distill.commands.inputs import load_shots, with_run_defaults
from seq2seq_distill.commands.label.rows import load_label_rows
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.sources import fingerprint
from seq2seq_distill.data.texts import KEYED
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_fingerprint
from seq2seq_distill.decoding.loading import export_record
from seq2seq_distill.training.labels.answers import counts_of
from seq2seq_distill.training.labels.filling import Labeller, threads_of_worker
from seq2seq_distill.training.labels.filters import DROPPED
from seq2seq_distill.training.labels.label_rows import LabelRows
from seq2seq_distill.training.labels.language_model import (
    LanguageModelTeacher,
    labels_with_language_model,
    load_language_model,
    request_fingerprint,
    server_key,
    show_plan,
)
from seq2seq_distill.training.labels.merging import merge
from seq2seq_distill.training.labels.server import ServerLabelling
from seq2seq_distill.training.labels.shards import LabelFolder, recorded_setting
from seq2seq_distill.training.labels.teacher import (
    BackwardModel,
    LabelTeacher,
    choose_decoder,
    load_label_teacher,
)
from seq2seq_distill.training.runners.fill import fill_shards
from seq2seq_distill.training.runners.work import Fill, Work
from seq2seq_distill.utils.distributed import rank_and_world_size
from seq2seq_distill.utils.errors import ConfigError
from seq2seq_distill.utils.progress import Progress
from seq2seq_distill.utils.terminal import console

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

    With several processes (torchrun, SLURM) each does its share of the shards; the first of them ends the work. With
    `runner` ray, workers do it.

    Raises:
        UserError: in one line.
    """
    config, is_language_model = _with_defaults(config)
    rows, teacher = load_label_rows(config), _load_teacher(config, is_language_model)
    if isinstance(teacher, LanguageModelTeacher) and config.dry_run:
        return show_plan(config, teacher, rows.labelled)
    backward = BackwardModel(config) if config.backward_model else None
    folder = _folder(config, config.folder, rows, backward)
    wanted = _wanted(config, teacher, rows)
    found = folder.load_or_create_manifest(wanted, FLAGS, partial(_engine, config, teacher, folder, rows.labelled))
    labeller = Labeller(config, teacher, backward, folder, found, rows.labelled)
    rank, world = rank_and_world_size()
    with folder.held() if rank == 0 else nullcontext():
        if config.server is not None:
            _ask_server(config, teacher, folder, rows.labelled, wanted)
        missing = [shard for shard in folder.shards[rank::world] if not labeller.has(shard)]
        path = folder.path.absolute()
        threads = threads_of_worker(config, found)
        make = OpenLabeller(config, path, threads, teacher.fingerprint, rows.key, is_language_model)
        work = Work(missing, labeller.fill, make, partial(_name, folder), "`output_dir`", path)
        with Progress("labelling", sum(len(folder.rows(shard)) for shard in missing)) as progress:
            fill_shards(work, config, lambda shard: progress.advance(len(folder.rows(shard))))
        if rank:
            return {}
        if not all(map(labeller.has, folder.shards)):
            logger.info("waiting for the other processes, which are labelling")
        while not all(map(labeller.has, folder.shards)):
            time.sleep(0.5)
        written = "reference" if config.targets == "reference" else str(found["engine"])
        more = {"language_model": counts_of(folder).record()} if is_language_model else {}
        report = merge(config, folder, rows, f"{config.model} ({written})", more)
    if isinstance(teacher, LabelTeacher):
        _log_cut(config, teacher, report)
    else:
        _log_answers(config, report)
    _print(config, report)
    if not report["kept"]:
        raise ConfigError(f"`output_dir` {config.folder}: the filters leave nothing: report.json says which; loosen it")
    logger.info("%d pairs in %s, for `data`", report["kept"], config.folder)
    return report


def _with_defaults(config: LabelConfig) -> tuple[LabelConfig, bool]:
    """The config with what it leaves out, and whether a language model labels."""
    exported = {} if config.server else export_record(config.model)
    record = exported if exported or config.server else read_run_record(config.model)
    config = with_run_defaults(config, record, "name what to label")
    if exported or not labels_with_language_model(config):
        return config, False
    return replace(config, drop_cut=True), True  # what it was stopped in the middle of is no target


def _load_teacher(config: LabelConfig, is_language_model: bool) -> LabelTeacher | LanguageModelTeacher:
    if not is_language_model:
        return load_label_teacher(config)
    if not config.shots:
        return load_language_model(config, [])
    columns = Columns(src_lang=config.src_lang, tgt_lang=config.tgt_lang, group="")
    if not config.shots_data:
        columns = replace(columns, source=config.source_column, target=config.target_column)
    return load_language_model(config, load_shots(config.shots_data or config.data, config.shots + 1, columns))


def _engine(
    config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, folder: LabelFolder, dataset: Dataset
) -> dict[str, Any]:
    """What runs the model, chosen when the folder is new."""
    if isinstance(teacher, LabelTeacher):
        return choose_decoder(config, teacher, folder.converted, dataset[:64]["source"])
    return {"engine": "transformers" if teacher.model else "server", "threads": None, "why": "a language model"}


def _ask_server(
    config: LabelConfig,
    teacher: LabelTeacher | LanguageModelTeacher,
    folder: LabelFolder,
    dataset: Dataset,
    wanted: dict[str, Any],
) -> None:
    """Write the candidates of all shards."""
    assert isinstance(teacher, LanguageModelTeacher)
    if rank_and_world_size()[1] > 1:
        raise ConfigError("`server` is asked by one process alone: start it without torchrun; raise `concurrency`")
    labelling = ServerLabelling(
        config, teacher.prompts, folder, dataset, request_fingerprint(wanted), server_key(config)
    )
    labelling.label([shard for shard in folder.shards if not folder.has_raw(shard)])


def _folder(config: LabelConfig, path: Path, rows: LabelRows, backward: BackwardModel | None) -> LabelFolder:
    fingerprint = backward.fingerprint if backward else ""
    return LabelFolder(path, config.split, len(rows.labelled), config.shard_rows, fingerprint)


def _name(folder: LabelFolder, shard: int) -> str:
    rows = folder.rows(shard)
    return f"rows {rows.start} to {rows.stop - 1}"


@dataclass(frozen=True)
class OpenLabeller:
    """Makes, in a worker, what fills a shard: the same models and texts as here, or an error that says what differs."""

    config: LabelConfig
    path: Path
    """Of the folder."""
    found: dict[str, Any]
    model: str
    """Fingerprint of the model."""
    texts: str
    """Stands for the texts."""
    is_language_model: bool = False

    def __call__(self) -> Fill[int]:
        config, rows = self.config, load_label_rows(self.config)
        teacher = _load_teacher(config, self.is_language_model)
        for option, value, differs in (
            ("data", " ".join(config.data), rows.key != self.texts),
            ("model", config.model, teacher.fingerprint != self.model),
        ):
            if differs:
                raise ConfigError(
                    f"`{option}` {value} is not the same on {socket.gethostname()}, where a worker runs, as here: name "
                    "a path that is the same on all machines"
                )
        backward = BackwardModel(config) if config.backward_model else None
        folder = _folder(config, self.path, rows, backward)
        return Labeller(config, teacher, backward, folder, self.found, rows.labelled).fill


def _wanted(config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, rows: LabelRows) -> dict[str, Any]:
    """What the raw candidates depend on, as plain values."""
    before = recorded_setting(config.folder, "data")  # of version 0.1, it is a hash over the texts
    data = rows.key if before is None or str(before).startswith(KEYED) else fingerprint(rows.dataset)
    return _wanted_of_model(config, teacher, data) | rows.settings | _newer_settings(config)


def _newer_settings(config: LabelConfig) -> dict[str, Any]:
    """Options that folders of before there were do not name, where they are not as they were then."""
    return {name: getattr(config, name) or None for name in ("logprobs", "split_sentences")}


def _wanted_of_model(config: LabelConfig, teacher: LabelTeacher | LanguageModelTeacher, data: str) -> dict[str, Any]:
    if isinstance(teacher, LanguageModelTeacher):
        return teacher.wanted(config, data)
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
        "data": data,
    }
    return dict(json.loads(json.dumps(wanted)))


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


def _log_answers(config: LabelConfig, report: dict[str, Any]) -> None:
    """What is wrong with the answers of a language model."""
    counts, cut = report["language_model"], report["cut"]["targets"]
    cleaned = ", ".join(f"{name} {count}" for name, count in counts["cleaned"].items() if count) or "nothing"
    logger.info("taken off %d answers: %s", counts["answers"], cleaned)
    if cut:
        logger.warning(
            "%d targets were stopped at %d tokens, and dropped: raise `max_target_length`", cut, config.target_limit
        )
    if counts["refused"]:
        logger.warning("%d prompts were refused, which may be too long: these rows have no target", counts["refused"])


def _print(config: LabelConfig, report: dict[str, Any]) -> None:
    """The report as a table for people, and as a JSON line on standard output."""
    table = Table("filter", "threshold", "removed", "it alone")
    for name, row in report["filters"].items():
        threshold = "" if name in DROPPED else f"{row['threshold']:g}"
        table.add_row(f"--{name}", threshold, str(row["removed"]), str(row["alone"]))
    table.add_section()
    table.add_row("kept", "", f"{report['kept']} of {report['chosen']}", "")
    console(stderr=True).print(table)
    print(json.dumps({"output_dir": str(config.folder), **report}))
