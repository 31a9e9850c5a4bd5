"""`distill label`: a model writes the targets of a data set, or scores them; filters choose among them."""

import json
import logging
import socket
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from seq2seq_distill.commands.inputs import load_shots, with_run_defaults
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.config.run_record import read_run_record
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.decoding.loading import export_record
from seq2seq_distill.training.labels.answers import counts_of
from seq2seq_distill.training.labels.filling import Labeller, threads_of_worker
from seq2seq_distill.training.labels.filters import DROPPED
from seq2seq_distill.training.labels.labelling import Labelling, label_folder, log_cut, open_labelling
from seq2seq_distill.training.labels.language_model import (
    LanguageModelTeacher,
    labels_with_language_model,
    load_language_model,
    request_fingerprint,
    server_key,
    show_plan,
)
from seq2seq_distill.training.labels.load_rows import load_label_rows
from seq2seq_distill.training.labels.server import ServerLabelling
from seq2seq_distill.training.labels.teacher import (
    BackwardModel,
    LabelTeacher,
    load_label_teacher,
)
from seq2seq_distill.training.runners.work import Fill
from seq2seq_distill.utils.distributed import rank_and_world_size
from seq2seq_distill.utils.errors import ConfigError, raise_config_error
from seq2seq_distill.utils.terminal import console

logger = logging.getLogger(__name__)


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
    labelling = open_labelling(config, teacher, rows)
    folder, found = labelling.folder, labelling.labeller.found
    rank, _ = rank_and_world_size()
    with folder.held() if rank == 0 else nullcontext():
        if config.server is not None:
            _ask_server(labelling)
        threads = threads_of_worker(config, found)
        labelling.fill(
            OpenLabeller(config, folder.path.absolute(), threads, teacher.fingerprint, rows.key, is_language_model)
        )
        if rank:
            return {}
        report = labelling.merge({"language_model": counts_of(folder).record()} if is_language_model else {})
    if isinstance(teacher, LabelTeacher):
        log_cut(config, teacher, report)
    else:
        _log_answers(config, report)
    _print(config, report)
    if not report["kept"]:
        raise ConfigError(f"`output_dir` {config.folder}: the filters leave nothing: report.json says which; loosen it")
    logger.info("%d pairs in %s, for `data`", report["kept"], config.folder)
    _log_missing_splits(config, report, rows.can_hold_out)
    return report


def _with_defaults(config: LabelConfig) -> tuple[LabelConfig, bool]:
    """The config with what it leaves out, and whether a language model labels."""
    exported = {} if config.server else export_record(config.model)
    record = exported if exported or config.server else read_run_record(config.model)
    config = with_run_defaults(config, record, "name what to label")
    if exported:
        raise_config_error([problem.message for problem in config.unused_by_encoder_decoder()])
        return config, False
    if not labels_with_language_model(config):
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


def _ask_server(labelling: Labelling) -> None:
    """Write the candidates of all shards."""
    config, teacher, folder = labelling.config, labelling.teacher, labelling.folder
    assert isinstance(teacher, LanguageModelTeacher)
    if rank_and_world_size()[1] > 1:
        raise ConfigError("`server` is asked by one process alone: start it without torchrun; raise `concurrency`")
    key, request = server_key(config), request_fingerprint(labelling.wanted)
    asking = ServerLabelling(config, teacher.prompts, folder, labelling.rows.labelled, request, key)
    asking.label([shard for shard in folder.shards if not folder.has_raw(shard)])


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
        folder = label_folder(config, self.path, rows, backward)
        return Labeller(config, teacher, backward, folder, self.found, rows.labelled).fill


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


def _log_missing_splits(config: LabelConfig, report: dict[str, Any], can_hold_out: bool) -> None:
    """A run needs all splits, and would end with an error about this label set alone."""
    missing = [split for split in ("val", "test") if config.split == "train" and not report.get(split)]
    if missing:
        options = " and ".join(f"`n_{split}`" for split in missing)
        logger.info(
            "%s has no %s split, which a run needs: %sgive the run another `data` source with %s",
            *(config.folder, " and no ".join(missing)),
            f"repeat the command with {options}, which generates nothing again, or " if can_hold_out else "",
            "it" if len(missing) == 1 else "them",
        )


def _print(config: LabelConfig, report: dict[str, Any]) -> None:
    """The report as a table for people, and as a JSON line on standard output."""
    table = Table("filter", "threshold", "removed", "it alone")
    for name, row in report["filters"].items():
        threshold = "" if name in DROPPED else f"{row['threshold']:g}"
        table.add_row(f"--{name}", threshold, str(row["removed"]), str(row["alone"]))
    table.add_section()
    if "held_out" in report:
        splits = " and ".join(split for split in ("val", "test") if split in report)
        table.add_row(f"held out for {splits}", "", str(report["held_out"]), "")
    table.add_row("kept", "", f"{report['kept']} of {report['chosen']}", "")
    console(stderr=True).print(table)
    print(json.dumps({"output_dir": str(config.folder), **report}))
