"""What `distill label` labels: rows of files, folders and hub data sets, with references or without."""

import logging
from collections.abc import Sequence

from datasets import Dataset

from seq2seq_distill import demo, metrics
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.columns import Columns
from seq2seq_distill.data.language_filter import rows_in_language
from seq2seq_distill.data.sources import first_rows, has_split
from seq2seq_distill.data.texts import KEYED, join_keys, map_rows
from seq2seq_distill.metrics.scripts import MOSTLY_DROPPED, scripts_of_language
from seq2seq_distill.training.labels.distinct_sources import distinct_sources
from seq2seq_distill.training.labels.label_rows import LabelRows, hold_out
from seq2seq_distill.training.labels.merging import references_of
from seq2seq_distill.training.labels.shards import recorded_setting
from seq2seq_distill.utils.errors import ConfigError

logger = logging.getLogger(__name__)

HELD_OUT = 500
"""Rows of val and of test that are taken from a large training split without them."""
LARGE = 10_000


def load_label_rows(config: LabelConfig) -> LabelRows:
    """The rows to label, of all sources that have the split.

    Raises:
        UserError: a source cannot be read; or an option needs references, and there are none.
    """
    languages = config.src_lang, config.tgt_lang
    columns = Columns(config.source_column, config.target_column, *languages, group="", optional_target=True)
    dataset, key = map_rows(config.data, config.split, columns)
    rows = first_rows(dataset, config.n)
    key = KEYED + join_keys([key], None if len(rows) == len(dataset) else len(rows))
    if config.lang_id:
        rows, key = _in_language(rows, str(config.src_lang), key)
    if "target" not in rows.column_names:
        _check_without_references(config)
    _check_rouge(config, references_of(rows))
    if config.targets == "reference":
        return LabelRows(rows, key)
    distinct = distinct_sources(rows, key)
    there = _held_out_splits_of_data(config)
    held_out = hold_out(distinct, _held_out_sizes(config, len(distinct.first_rows), there))
    has_older_shards = recorded_setting(config.folder, "data") and not recorded_setting(config.folder, "distinct")
    if distinct.duplicates and has_older_shards and not any(map(len, held_out.values())):
        return LabelRows(rows, key)  # of version 0.1, which labelled each row by itself
    return LabelRows(rows, key, distinct, held_out, can_hold_out=config.split == "train" and not there)


def _in_language(rows: Dataset, language: str, key: str) -> tuple[Dataset, str]:
    """The rows whose sources are not in another language, and what stands for them."""
    kept = rows_in_language(rows, language, key)
    dropped = len(rows) - len(kept)
    logger.info("%d of %d sources are in another language than %s, and left out", dropped, len(rows), language)
    if not len(kept):
        raise ConfigError(
            f"`lang_id` true: all {len(rows)} sources are in another language than `src_lang` {language}: correct it, "
            "or leave `lang_id` out"
        )
    return (rows.select(kept), KEYED + join_keys([key, language])) if dropped else (rows, key)


def _held_out_splits_of_data(config: LabelConfig) -> list[str]:
    """Which of val and test the data has, beside the training split that is labelled."""
    places = [demo.data_source(name) for name in config.data]
    return [
        split
        for split in ("val", "test")
        if config.split == "train" and any(has_split(place, split) for place in places)
    ]


def _held_out_sizes(config: LabelConfig, sources: int, there: Sequence[str]) -> dict[str, int]:
    """How many sources are held out for each split, where the data has the splits `there`.

    Raises:
        ConfigError: that leaves nothing to train on, or the data has these splits.
    """
    asked = {"val": config.n_val, "test": config.n_test}
    usual = HELD_OUT if config.split == "train" and sources > LARGE and not there else 0
    sizes = {split: usual if number is None else number for split, number in asked.items()}
    total = sum(sizes.values())
    if total and (config.split != "train" or there):
        name = next(f"n_{split}" for split, size in sizes.items() if size)
        why = f"`split` is {config.split}" if config.split != "train" else f"`data` has a {there[0]} split"
        raise ConfigError(f"`{name}` {getattr(config, name)} takes rows from a training split alone, and {why}: set 0")
    if total >= sources:
        raise ConfigError(
            f"`n_val` {sizes['val']}, `n_test` {sizes['test']} leave none of the {sources} distinct sources to train "
            "on: lower them"
        )
    return sizes


def _check_without_references(config: LabelConfig) -> None:
    """Refuse what compares targets with references that the data does not have."""
    needs = {name: getattr(config, name) is not None for name in ("min_rouge2", "min_chrf")}
    needs["min_script"] = config.min_script is not None and not scripts_of_language(config.tgt_lang)
    needs |= {"targets": config.targets == "reference", "keep": config.keep.startswith("best")}
    for name in (name for name, is_given in needs.items() if is_given):
        instead = ", or name a `tgt_lang` whose script is known" if name == "min_script" else ""
        raise ConfigError(
            f"`{name}` {getattr(config, name)} needs references, and `data` {' '.join(config.data)} has none: leave it "
            f"out, or give data with targets{instead}"
        )


def _check_rouge(config: LabelConfig, references: list[str]) -> None:
    """Refuse to choose or filter targets by a ROUGE that drops most of the references."""
    by_rouge = {"keep": config.keep == "best-rouge", "min_rouge2": config.min_rouge2 is not None}
    given = [f"`{name}` {getattr(config, name)}" for name, is_given in by_rouge.items() if is_given]
    if given and config.rouge_tokenizer == "default":
        dropped = metrics.dropped_by_rouge(references)
        if dropped > MOSTLY_DROPPED:
            raise ConfigError(
                f"{given[0]}: ROUGE keeps only a-z and 0-9, and drops most letters of {dropped:.0%} of the references: "
                "set `rouge_tokenizer` unicode, or choose chrF (best-chrf, `min_chrf`)"
            )
