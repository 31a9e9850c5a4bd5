"""From the raw candidates to the data set: choose, filter, write. Cheap, so that thresholds may change at any time."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from seq2seq_distill import metrics
from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.readers.parquet import SOURCE_HASH, text_hash
from seq2seq_distill.training.labels.choice import choose
from seq2seq_distill.training.labels.filters import MEASURES, Pairs, passes, scripts_of, worst
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

Records = list[dict[str, Any]]


def merge(
    config: LabelConfig, folder: LabelFolder, dataset: Dataset, origin: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the data set's files, and the report of what each filter removed; returns the report.

    Old files go first: while some are missing, the folder is no data set.

    Raises:
        DataError: a shard's rows are not those of the data.
    """
    for path in [*folder.finals(), folder.report]:
        path.unlink(missing_ok=True)
    thresholds = {name: getattr(config, name) for name in MEASURES if getattr(config, name) is not None}
    thresholds.pop("drop_cut")
    if config.drop_cut:
        thresholds["drop_cut"] = 0.0
    references = references_of(dataset)
    scripts = scripts_of(references)
    language = metrics.bleu_language(config.tgt_lang, references) if config.keep == "best-bleu" else None
    counts: Counter[str] = Counter()
    tables = []
    for shard in folder.shards:
        records = _chosen(config, folder, shard, dataset, origin, language)
        failed = _failed(config, records, thresholds, scripts)
        counts.update(f"{kind} {name}" for kind, name in _counted(failed))
        counts["chosen"] += len(records)
        counts.update(f"cut {side}s" for side in ("source", "target") for record in records if record[f"{side}_cut"])
        passed = [record for record, names in zip(records, failed, strict=True) if not names]
        tables.append(pa.Table.from_pylist(passed, schema=SCHEMA))
    kept, fraction = pa.concat_tables(tables), config.drop_fraction
    dropped = worst(kept["backward_score"].to_pylist(), fraction) if fraction else set()
    numbers = itertools.count()
    for shard, table in enumerate(tables):
        stays = [next(numbers) not in dropped for _ in range(len(table))]
        write_table(folder.final(shard), table.filter(pa.array(stays, pa.bool_())))
    filters = {
        name: {"threshold": value, "removed": counts[f"removed {name}"], "alone": counts[f"alone {name}"]}
        for name, value in thresholds.items()
    }
    if fraction:
        filters["drop_fraction"] = {"threshold": fraction, "removed": len(dropped), "alone": len(dropped)}
    report = {
        "rows": len(dataset),
        "chosen": counts["chosen"],
        "kept": len(kept) - len(dropped),
        "cut": {side: counts[f"cut {side}"] for side in ("sources", "targets")},
        "filters": filters,
        "score_quantiles": _quantiles(kept["score"].drop_null().to_pylist()),
    }
    report |= more or {}
    write_json(folder.report, report)
    return report


def references_of(dataset: Dataset) -> list[str]:
    """The first references, which tell the script that targets are in; none, where the data has no targets."""
    return list(dataset[:REFERENCES].get("target", []))


def _chosen(
    config: LabelConfig, folder: LabelFolder, shard: int, dataset: Dataset, origin: str, language: str | None
) -> Records:
    """The candidates of a shard that `keep` leaves, each with its source and reference."""
    rows = folder.rows(shard)
    texts = dataset[rows.start : rows.stop]
    candidates = folder.read_raw(shard, texts["source"])
    backward = folder.read_backward(shard, candidates) if config.backward_model else None
    records = []
    for i, row in enumerate(rows):
        source = texts["source"][i]
        reference = texts["target"][i] if "target" in texts else None
        for rank in choose(
            config.keep, [each.text for each in candidates[i]], reference or "", language, config.rouge_tokenizer
        ):
            candidate = candidates[i][rank]
            records.append(
                {
                    "row": row,
                    "source": source,
                    SOURCE_HASH: text_hash(source),
                    "target": candidate.text,
                    "score": candidate.score,
                    "gain": candidate.gain,
                    "rank": rank,
                    "origin": origin,
                    "reference": reference,
                    "backward_score": None if backward is None else backward[i][rank],
                    "source_cut": candidate.source_cut,
                    "target_cut": candidate.target_cut,
                    "token_logprobs": candidate.token_logprobs,
                    "token_ends": candidate.token_ends,
                }
            )
    return records


def _failed(
    config: LabelConfig, records: Records, thresholds: Mapping[str, float], scripts: frozenset[str]
) -> list[list[str]]:
    """The filters that each record does not pass."""
    columns = {
        f"{name}s": [record[name] for record in records] for name in ("source", "target", "reference", "score", "gain")
    }
    cut = [bool(record["source_cut"] or record["target_cut"]) for record in records]
    pairs = Pairs(**columns, cut=cut, scripts=scripts, rouge_tokenizer=config.rouge_tokenizer)
    passed = {name: passes(name, value, pairs) for name, value in thresholds.items()}
    return [[name for name in thresholds if not passed[name][i]] for i in range(len(records))]


def _counted(failed: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """What each filter removes, and what it alone does."""
    removed = [("removed", name) for names in failed for name in names]
    return removed + [("alone", names[0]) for names in failed if len(names) == 1]


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        f"{share:.0%}": round(float(value), 4)
        for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    }
