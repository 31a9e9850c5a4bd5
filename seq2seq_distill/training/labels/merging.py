"""From the raw candidates to the data set: choose, filter, write. Cheap, so that thresholds may change at any time.

Shards are read, filtered and written one after the other; of all rows at once there are only numbers, one a row.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from datasets import Dataset

from seq2seq_distill import metrics
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.languages import base_language
from seq2seq_distill.data.readers.parquet import SOURCE_HASH, TEACHER_TARGET
from seq2seq_distill.metrics.scripts import scripts_of_language
from seq2seq_distill.training.labels.choice import choose
from seq2seq_distill.training.labels.distinct_sources import Numbers
from seq2seq_distill.training.labels.filters import (
    DROPPED,
    MEASURES,
    BoolArray,
    FloatArray,
    Pairs,
    passes,
    scripts_of,
    worst,
)
from seq2seq_distill.training.labels.label_rows import LabelRows
from seq2seq_distill.training.labels.shards import LabelFolder, write_table
from seq2seq_distill.training.labels.support import CAPITALISES_NOUNS
from seq2seq_distill.utils.files import write_json

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source", pa.string()),
        (SOURCE_HASH, pa.string()),
        ("target", pa.string()),
        ("score", pa.float64()),
        ("gain", pa.float64()),
        ("rank", pa.int32()),
        ("origin", pa.string()),
        ("reference", pa.string()),
        ("backward_score", pa.float64()),
        ("source_cut", pa.bool_()),
        ("target_cut", pa.bool_()),
        ("token_logprobs", pa.list_(pa.float32())),
        ("token_ends", pa.list_(pa.int32())),
    ]
)
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
REFERENCES = 10_000
"""References that tell which script targets are in."""


@dataclass(frozen=True)
class _Merging:
    """What choosing and filtering depend on, besides the shard."""

    config: LabelConfig
    folder: LabelFolder
    rows: LabelRows
    origin: str
    language: str | None
    """Of BLEU."""
    scripts: frozenset[str]
    thresholds: Mapping[str, float]


def merge(
    config: LabelConfig, folder: LabelFolder, rows: LabelRows, origin: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the data set's files, and the report of what each filter removed; returns the report.

    Old files go first: while some are missing, the folder is no data set. `more` goes into the report.

    Raises:
        DataError: a shard's rows are not those of the data.
    """
    folder.clear()
    merging = _merging(config, folder, rows, origin)
    counts: Counter[str] = Counter()
    held_out: dict[str, list[pa.Table]] = {split: [] for split, sources in rows.held_out.items() if len(sources)}
    with folder.passed() as passed, folder.numbers("score") as scores, folder.numbers("backward") as backward:
        for shard in folder.shards:
            whole, labelled = _filtered(merging, shard, counts)
            table = _training_rows(whole, labelled, rows, held_out)
            counts["held out"] += len(whole) - len(table)
            scores.append(table["score"].to_numpy())
            if config.drop_fraction:
                backward.append(table["backward_score"].to_numpy())
            write_table(passed(shard), table)
        kept, quantiles = len(scores.map()), _quantiles(scores.map())
        dropped = worst(backward.map(), config.drop_fraction)
        start = 0
        for shard in folder.shards:
            if config.drop_fraction:
                table = pyarrow.parquet.read_table(passed(shard)).cast(SCHEMA)
                start, own = start + len(table), dropped[start : start + len(table)]
                write_table(folder.final(shard), table.filter(pa.array(~own)))
            else:
                passed(shard).replace(folder.final(shard))
    sizes = {split: _write_held_out(folder.held_out(split), tables) for split, tables in held_out.items()}
    removed = int(dropped.sum())
    filters = {
        name: {"threshold": value, "removed": counts[f"removed {name}"], "alone": counts[f"alone {name}"]}
        for name, value in merging.thresholds.items()
    }
    if config.drop_fraction:
        filters["drop_fraction"] = {"threshold": config.drop_fraction, "removed": removed, "alone": removed}
    report = {
        "rows": len(rows.dataset),
        "distinct_sources": len(rows.labelled),
        "chosen": counts["chosen"],
        "kept": kept - removed,
        **({"held_out": counts["held out"], **sizes} if sizes else {}),
        "cut": {side: counts[f"cut {side}"] for side in ("sources", "targets")},
        "filters": filters,
        "score_quantiles": quantiles,
        **(more or {}),
    }
    write_json(folder.report, report)
    return report


def _merging(config: LabelConfig, folder: LabelFolder, rows: LabelRows, origin: str) -> _Merging:
    references = references_of(rows.dataset)
    by_bleu = config.keep in ("best-bleu", "mbr-bleu")
    language = metrics.bleu_language(config.tgt_lang, references) if by_bleu else None
    scripts = (
        scripts_of(references) if references or config.min_script is None else scripts_of_language(config.tgt_lang)
    )
    return _Merging(config, folder, rows, origin, language, scripts, _thresholds(config))


def _training_rows(
    table: pa.Table, labelled: Numbers, rows: LabelRows, held_out: dict[str, list[pa.Table]]
) -> pa.Table:
    """What is left of a shard's rows for training; the rest goes to the splits that are held out, a row a source."""
    stays = np.ones(len(table), dtype=bool)
    for split, tables in held_out.items():
        inside = rows.are_in(split, labelled)
        stays &= ~inside
        places = np.flatnonzero(inside)
        tables.append(table.take(places[np.unique(labelled[places], return_index=True)[1]]))
    return table if stays.all() else table.filter(pa.array(stays))


def _write_held_out(path: Path, tables: Sequence[pa.Table]) -> int:
    """Write a split that is held out. Its targets are the references where there are any; the model's are beside."""
    table = pa.concat_tables(tables)
    table = table.append_column(TEACHER_TARGET, table["target"])
    targets = pc.coalesce(table["reference"], table["target"])
    write_table(path, table.set_column(table.column_names.index("target"), "target", targets))
    return len(table)


def references_of(dataset: Dataset) -> list[str]:
    """The first references, which tell the script that targets are in; none, where the data has no targets."""
    return list(dataset[:REFERENCES].get("target", []))


def _thresholds(config: LabelConfig) -> dict[str, float]:
    """The filters that are on."""
    thresholds = {name: getattr(config, name) for name in MEASURES}
    thresholds |= {name: 0.0 if thresholds[name] else None for name in DROPPED}
    return {name: value for name, value in thresholds.items() if value is not None}


def _filtered(merging: _Merging, shard: int, counts: Counter[str]) -> tuple[pa.Table, Numbers]:
    """Of a shard, what passes the filters, and the number of the labelled row of each; what is chosen, cut and removed
    is counted."""
    chosen, labelled = _chosen(merging, shard)
    failed = _failed(merging, chosen)
    number = failed.sum(0)
    for name, misses in zip(merging.thresholds, failed, strict=True):
        counts[f"removed {name}"] += int(misses.sum())
        counts[f"alone {name}"] += int((misses & (number == 1)).sum())
    counts["chosen"] += len(chosen)
    for side in ("source", "target"):
        counts[f"cut {side}s"] += pc.sum(chosen[f"{side}_cut"]).as_py() or 0
    passed = number == 0
    return chosen.filter(pa.array(passed)), labelled[passed]


def _chosen(merging: _Merging, shard: int) -> tuple[pa.Table, Numbers]:
    """The candidates that `keep` leaves of each row whose source is in a shard, with source and reference; and the
    number of the labelled row of each."""
    config, shard_rows = merging.config, merging.folder.rows(shard)
    sources = merging.rows.labelled[shard_rows.start : shard_rows.stop]["source"]
    candidates = merging.folder.read_raw(shard, sources)
    backward = merging.folder.read_backward(shard, candidates) if config.backward_model else None
    rows, labelled = merging.rows.rows_of(shard_rows, first_alone=config.duplicates == "drop")
    texts = _texts(merging.rows.dataset, rows)
    ends = np.append(np.flatnonzero(candidates["rank"].to_numpy() == 0), len(candidates))
    places, numbers = _choice(merging, candidates, ends, labelled - shard_rows.start, texts)
    chosen = candidates.take(pa.array(numbers))
    columns = {name: chosen[name] for name in SCHEMA.names if name in chosen.column_names}
    columns["row"] = pa.array(rows[places])
    columns["source"] = texts["source"].take(pa.array(places))
    columns["origin"] = pa.repeat(merging.origin, len(chosen))
    columns["reference"] = texts["target"].take(pa.array(places)) if "target" in texts.column_names else None
    columns["backward_score"] = None if backward is None else backward.take(pa.array(numbers))
    empty = pa.nulls(len(chosen))
    arrays = [(empty if columns[field.name] is None else columns[field.name]).cast(field.type) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA).combine_chunks(), labelled[places]


def _texts(dataset: Dataset, rows: Numbers) -> pa.Table:
    """Rows of a data set; where they follow each other, without an index of each."""
    texts = dataset.with_format("arrow")
    if len(rows) == rows[-1] - rows[0] + 1:
        return texts[int(rows[0]) : int(rows[-1]) + 1]
    return texts[rows]


def _choice(
    merging: _Merging, candidates: pa.Table, ends: Numbers, sources: Numbers, texts: pa.Table
) -> tuple[Numbers, Numbers]:
    """Which candidates `keep` leaves: the place of the row of each, and the candidate's number.

    Args:
        merging: what else it depends on.
        candidates: of the shard.
        ends: where those of each source of the shard begin, and where the last one's end.
        sources: of each row, the place of its source in the shard.
        texts: of the rows.
    """
    config = merging.config
    starts = ends[sources]
    if config.keep == "top1" or len(ends) == len(candidates) + 1:
        return np.arange(len(sources)), starts
    targets = candidates["target"].to_pylist()
    references = texts["target"].to_pylist() if "target" in texts.column_names else [""] * len(texts)
    places, numbers = [], []
    for place, (start, end, reference) in enumerate(zip(starts, ends[sources + 1], references, strict=True)):
        chosen = choose(config.keep, targets[start:end], reference, merging.language, config.rouge_tokenizer)
        places += [place] * len(chosen)
        numbers += [start + rank for rank in chosen]
    return np.array(places), np.array(numbers)


def _failed(merging: _Merging, chosen: pa.Table) -> BoolArray:
    """Whether each filter [F] removes each candidate [N]."""
    names = ("source", "target", "reference", "score", "gain")
    columns = {f"{name}s": chosen[name].to_pylist() for name in names}
    cut = pc.or_(*(pc.fill_null(chosen[f"{side}_cut"], False) for side in ("source", "target"))).to_pylist()
    pairs = Pairs(
        **columns,
        cut=cut,
        scripts=merging.scripts,
        rouge_tokenizer=merging.config.rouge_tokenizer,
        unsupported_kinds=_unsupported_kinds(merging.config),
    )
    passed = [passes(name, value, pairs) for name, value in merging.thresholds.items()]
    return ~np.array(passed, bool).reshape(len(passed), len(chosen))


def _unsupported_kinds(config: LabelConfig) -> list[str]:
    """What targets are searched for: no names where all nouns look like them."""
    language = base_language(config.tgt_lang or "")
    return [kind for kind in config.drop_unsupported if kind != "names" or language not in CAPITALISES_NOUNS]


def _quantiles(values: FloatArray) -> dict[str, float]:
    """Some quantiles of the values [N], whose order is lost; those that are unknown (NaN) do not count."""
    if np.isnan(values).any():
        values = values[~np.isnan(values)]
    if not len(values):
        return {}
    found = np.quantile(values, QUANTILES, overwrite_input=True)
    return {f"{share:.0%}": round(float(value), 4) for share, value in zip(QUANTILES, found, strict=True)}
