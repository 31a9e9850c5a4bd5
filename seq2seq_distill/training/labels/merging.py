"""From the raw candidates to the data set: choose, filter, write. Cheap, so that thresholds may change at any time.

Shards are read, filtered and written one after the other; of all rows at once there are only numbers, one a row.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from datasets import Dataset

from seq2seq_distill import metrics
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.readers.parquet import SOURCE_HASH
from seq2seq_distill.training.labels.choice import choose
from seq2seq_distill.training.labels.filters import (
    MEASURES,
    BoolArray,
    FloatArray,
    Pairs,
    passes,
    scripts_of,
    worst,
)
from seq2seq_distill.training.labels.shards import LabelFolder, write_table
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
    dataset: Dataset
    origin: str
    language: str | None
    """Of BLEU."""
    scripts: frozenset[str]
    thresholds: Mapping[str, float]


def merge(
    config: LabelConfig, folder: LabelFolder, dataset: Dataset, origin: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the data set's files, and the report of what each filter removed; returns the report.

    Old files go first: while some are missing, the folder is no data set. `more` goes into the report.

    Raises:
        DataError: a shard's rows are not those of the data.
    """
    folder.clear()
    references = references_of(dataset)
    language = metrics.bleu_language(config.tgt_lang, references) if config.keep == "best-bleu" else None
    thresholds = _thresholds(config)
    merging = _Merging(config, folder, dataset, origin, language, scripts_of(references), thresholds)
    counts: Counter[str] = Counter()
    scores, backward = array("d"), array("d")
    with folder.passed() as passed:
        for shard, table in enumerate(_filtered(merging, counts)):
            scores.frombytes(table["score"].to_numpy().tobytes())
            if config.drop_fraction:
                backward.frombytes(table["backward_score"].to_numpy().tobytes())
            write_table(passed(shard), table)
        quantiles = _quantiles(np.frombuffer(scores))
        kept = len(scores)
        del scores
        dropped = worst(np.frombuffer(backward), config.drop_fraction)
        start = 0
        for shard in folder.shards:
            if config.drop_fraction:
                table = pyarrow.parquet.read_table(passed(shard))
                start, own = start + len(table), dropped[start : start + len(table)]
                write_table(folder.final(shard), table.filter(pa.array(~own)))
            else:
                passed(shard).replace(folder.final(shard))
    removed = int(dropped.sum())
    filters = {
        name: {"threshold": value, "removed": counts[f"removed {name}"], "alone": counts[f"alone {name}"]}
        for name, value in thresholds.items()
    }
    if config.drop_fraction:
        filters["drop_fraction"] = {"threshold": config.drop_fraction, "removed": removed, "alone": removed}
    report = {
        "rows": len(dataset),
        "chosen": counts["chosen"],
        "kept": kept - removed,
        "cut": {side: counts[f"cut {side}"] for side in ("sources", "targets")},
        "filters": filters,
        "score_quantiles": quantiles,
        **(more or {}),
    }
    write_json(folder.report, report)
    return report


def references_of(dataset: Dataset) -> list[str]:
    """The first references, which tell the script that targets are in; none, where the data has no targets."""
    return list(dataset[:REFERENCES].get("target", []))


def _thresholds(config: LabelConfig) -> dict[str, float]:
    """The filters that are on."""
    thresholds = {name: getattr(config, name) for name in MEASURES if getattr(config, name) is not None}
    thresholds.pop("drop_cut")
    return thresholds | ({"drop_cut": 0.0} if config.drop_cut else {})


def _filtered(merging: _Merging, counts: Counter[str]) -> Iterator[pa.Table]:
    """Of each shard, what passes the filters; what is chosen, cut and removed is counted."""
    for shard in merging.folder.shards:
        chosen = _chosen(merging, shard)
        failed = _failed(merging, chosen)
        number = failed.sum(0)
        for name, misses in zip(merging.thresholds, failed, strict=True):
            counts[f"removed {name}"] += int(misses.sum())
            counts[f"alone {name}"] += int((misses & (number == 1)).sum())
        counts["chosen"] += len(chosen)
        for side in ("source", "target"):
            counts[f"cut {side}s"] += pc.sum(chosen[f"{side}_cut"]).as_py() or 0
        yield chosen.filter(pa.array(number == 0))


def _chosen(merging: _Merging, shard: int) -> pa.Table:
    """The candidates of a shard that `keep` leaves, each with its source and reference."""
    config, rows = merging.config, merging.folder.rows(shard)
    texts = merging.dataset.with_format("arrow")[rows.start : rows.stop]
    candidates = merging.folder.read_raw(shard, texts["source"].to_pylist())
    backward = merging.folder.read_backward(shard, candidates) if config.backward_model else None
    numbers = pa.array(_choice(merging, candidates, texts))
    chosen = candidates.take(numbers)
    places = pa.array(chosen["row"].to_numpy() - rows.start)
    columns = {name: chosen[name] for name in SCHEMA.names if name in chosen.column_names}
    columns["source"] = texts["source"].take(places)
    columns["origin"] = pa.repeat(merging.origin, len(chosen))
    columns["reference"] = texts["target"].take(places) if "target" in texts.column_names else None
    columns["backward_score"] = None if backward is None else backward.take(numbers)
    empty = pa.nulls(len(chosen))
    arrays = [(empty if columns[field.name] is None else columns[field.name]).cast(field.type) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA).combine_chunks()


def _choice(merging: _Merging, candidates: pa.Table, texts: pa.Table) -> Any:
    """Numbers of the candidates that `keep` leaves."""
    config = merging.config
    starts = np.flatnonzero(candidates["rank"].to_numpy() == 0)
    if config.keep == "top1" or len(starts) == len(candidates):
        return starts
    targets = candidates["target"].to_pylist()
    references = texts["target"].to_pylist() if "target" in texts.column_names else [""] * len(texts)
    ends = [*starts[1:], len(candidates)]
    return [
        start + rank
        for start, end, reference in zip(starts, ends, references, strict=True)
        for rank in choose(config.keep, targets[start:end], reference, merging.language, config.rouge_tokenizer)
    ]


def _failed(merging: _Merging, chosen: pa.Table) -> BoolArray:
    """Whether each filter [F] removes each candidate [N]."""
    names = ("source", "target", "reference", "score", "gain")
    columns = {f"{name}s": chosen[name].to_pylist() for name in names}
    cut = pc.or_(*(pc.fill_null(chosen[f"{side}_cut"], False) for side in ("source", "target"))).to_pylist()
    pairs = Pairs(**columns, cut=cut, scripts=merging.scripts, rouge_tokenizer=merging.config.rouge_tokenizer)
    passed = [passes(name, value, pairs) for name, value in merging.thresholds.items()]
    return ~np.array(passed, bool).reshape(len(passed), len(chosen))


def _quantiles(values: FloatArray) -> dict[str, float]:
    """Some quantiles of the values [N], whose order is lost; those that are unknown (NaN) do not count."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    found = np.quantile(values, QUANTILES, overwrite_input=True)
    return {f"{share:.0%}": round(float(value), 4) for share, value in zip(QUANTILES, found, strict=True)}
