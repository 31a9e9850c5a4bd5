"""The targets of a run that the teacher writes: a label set in the run's output folder, made before anything else."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from seq2seq_distill.config import LabelConfig, RunConfig
from seq2seq_distill.data.teacher_inputs import teacher_run_config
from seq2seq_distill.training.labels.label_rows import LabelRows
from seq2seq_distill.training.labels.labelling import log_cut, open_labelling
from seq2seq_distill.training.labels.load_rows import load_label_rows
from seq2seq_distill.training.labels.teacher import load_label_teacher
from seq2seq_distill.training.labels.timing import estimate_seconds
from seq2seq_distill.training.output_folder import OutputFolder
from seq2seq_distill.utils.distributed import is_rank_zero, rank_and_world_size
from seq2seq_distill.utils.errors import ConfigError, UserError
from seq2seq_distill.utils.locks import wait_until
from seq2seq_distill.utils.progress import format_duration

logger = logging.getLogger(__name__)

IN_A_RUN = {
    "model": "teacher",
    "n": "encode.n_train",
    "prefix": "encode.prefix",
    "source_column": "encode.source_column",
    "target_column": "encode.target_column",
    "max_source_length": "encode.max_source_length",
    "max_target_length": "eval.max_target_length",
    "length_penalty": "eval.length_penalty",
    "generate": "eval.generate",
    "rouge_tokenizer": "eval.rouge_tokenizer",
    **{name: f"label.{name}" for name in LabelConfig().label_options()},
}
"""The options of a run that are other options of `distill label`."""


def with_teacher_targets(config: RunConfig) -> RunConfig:
    """The config with the teacher's label set among its data, if `targets` says so, and with `targets` reference.

    The label set is written first, into `labels/` of the output folder, unless it is there already; the processes of
    torchrun or SLURM share the work. Its training rows take the place of the data's (teacher), or stand before them
    (both); val and test stay those of the data. `auto` has been decided by then, or means reference.

    Raises:
        UserError: the teacher cannot label the data, or the filters leave nothing.
    """
    if config.targets in ("auto", "reference"):
        return replace(config, targets="reference")
    with named_as_in_a_run():
        kept = write_labels(config)
    labels, data = str(OutputFolder(config.folder).labels), config.data or []
    weights = config.data_weights or [1.0] * len(data)
    both = config.targets == "both"
    n_train = config.encode.n_train
    return replace(
        config,
        targets="reference",
        data=[labels, *data],
        data_weights=[max(weights), *(weights if both else [0.0] * len(data))],
        encode=replace(config.encode, n_train=kept + n_train if both and n_train is not None else None),
    )


def label_config(config: RunConfig) -> LabelConfig:
    """The options of `distill label` with which the teacher of a run labels its training split."""
    teacher, weights = teacher_run_config(config), config.data_weights or [1.0] * len(config.data or ())
    options: dict[str, Any] = config.label.label_options()
    return LabelConfig(
        model=str(config.teacher),
        data=[source for source, weight in zip(config.data or (), weights, strict=True) if weight],
        output_dir=str(OutputFolder(config.folder).labels),
        n=config.encode.n_train,
        n_val=0,
        n_test=0,
        source_column=config.encode.source_column,
        target_column=config.encode.target_column,
        rouge_tokenizer=config.eval.rouge_tokenizer,
        seed=config.seed,
        task=config.task,
        src_lang=teacher.src_lang,
        tgt_lang=config.tgt_lang,
        prefix=teacher.encode.prefix,
        length_penalty=config.eval.length_penalty,
        generate=config.eval.generate,
        max_source_length=teacher.encode.max_source_length,
        max_target_length=config.eval.max_target_length,
        logprobs=bool(config.loss.alpha_chunk),
        **{**options, "beams": config.eval.beams if config.label.beams is None else config.label.beams},
    )


def write_labels(config: RunConfig) -> int:
    """Label the training split, or go on labelling it; returns the number of its rows.

    Process 0 ends the work. The others wait for it; those of torchrun and SLURM fill their share of the shards.
    """
    labels = label_config(config)
    rows = load_label_rows(labels)
    made_of = _made_of(labels, rows)
    if _kept(labels, made_of) is None:
        if is_rank_zero():
            _write_whole(labels, rows, made_of)
        elif rank_and_world_size()[1] > 1:
            open_labelling(labels, load_label_teacher(labels), rows).fill(_no_worker)
        wait_until(lambda: _kept(labels, made_of) is not None)
    kept = _kept(labels, made_of)
    if not kept:
        raise ConfigError(
            f"`targets` {config.targets}: the filters of `label` leave nothing, see {labels.folder}/report.json: "
            "loosen them"
        )
    return kept


def _write_whole(labels: LabelConfig, rows: LabelRows, made_of: dict[str, Any]) -> None:
    teacher = load_label_teacher(labels)
    labelling = open_labelling(labels, teacher, rows)
    with labelling.folder.held():
        time_left = format_duration(estimate_seconds(labelling))
        logger.info("the teacher writes the targets of %d sources: about %s", len(rows.labelled), time_left)
        labelling.fill(_no_worker)
        report = labelling.merge({"made_of": made_of})
    log_cut(labels, teacher, report, IN_A_RUN)
    logger.info("%d targets of the teacher are in %s", report["kept"], labels.folder)


def _no_worker() -> Any:
    raise AssertionError("a run deals out no labels to workers")


def _made_of(labels: LabelConfig, rows: LabelRows) -> dict[str, Any]:
    """What a label set depends on, as plain values."""
    options = {name: value for name, value in asdict(labels).items() if name not in ("output_dir", "data")}
    return dict(json.loads(json.dumps({**options, "texts": rows.key})))


def _kept(labels: LabelConfig, made_of: dict[str, Any]) -> int | None:
    """Rows of the label set, if it is there, whole, and made of this."""
    try:
        report = json.loads((labels.folder / "report.json").read_text("utf-8"))
        return int(report["kept"]) if report["made_of"] == made_of else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def named_as_in_a_run() -> Iterator[None]:
    """Let errors of labelling within this context name the options of a run."""

    def name(match: re.Match[str]) -> str:
        return f"`{IN_A_RUN.get(match[1], match[1])}`"

    try:
        yield
    except UserError as error:
        text = str(error).replace(", or `sample` true", "")  # a run does not sample labels
        raise type(error)(re.sub(r"`(\w+)`", name, text)) from None
