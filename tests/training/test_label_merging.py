"""Merging shard by shard gives what a simple merge of all rows in memory gives, byte for byte."""

import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.data.readers.parquet import text_hash
from seq2seq_distill.training.labels.choice import Candidate, choose
from seq2seq_distill.training.labels.filters import MEASURES, Pairs, passes, scripts_of
from seq2seq_distill.training.labels.label_rows import LabelRows
from seq2seq_distill.training.labels.merging import QUANTILES, SCHEMA, merge
from seq2seq_distill.training.labels.shards import LabelFolder

ROWS, SHARD = 61, 7
WORDS = "the cat sat on a mat sat sat und ein Hund".split()


@pytest.fixture
def chance() -> random.Random:
    return random.Random(0)


def text(chance: random.Random, shortest: int = 1) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(shortest, 7)))


def in_memory(config: LabelConfig, dataset: Dataset, raw: list[list[Candidate]], backward: list[list[float]]) -> Any:
    """The files' bytes and the report, from all rows at once."""
    references = dataset["target"] if "target" in dataset.column_names else [None] * len(dataset)
    records = [
        {
            **{"row": row, "source": source, "source_sha256": text_hash(source), "target": own.text, "rank": rank},
            **{"score": own.score, "gain": own.gain, "origin": "m", "reference": references[row]},
            **{"backward_score": backward[row][rank] if config.backward_model else None},
            **{"source_cut": own.source_cut, "target_cut": own.target_cut},
        }
        for row, source in enumerate(dataset["source"])
        for rank in choose(config.keep, [each.text for each in raw[row]], references[row] or "", "13a")
        for own in [raw[row][rank]]
    ]
    columns = {f"{name}s": [r[name] for r in records] for name in ("source", "target", "reference", "score", "gain")}
    cut = [bool(r["source_cut"] or r["target_cut"]) for r in records]
    pairs = Pairs(**columns, cut=cut, scripts=scripts_of(text for text in references if text))
    thresholds = {name: getattr(config, name) for name in MEASURES if getattr(config, name) not in (None, False, [])}
    thresholds = {name: 0.0 if value is True else value for name, value in thresholds.items()}
    passed = {name: passes(name, value, pairs) for name, value in thresholds.items()}
    failed = [[name for name in thresholds if not passed[name][i]] for i in range(len(records))]
    kept = [record for record, names in zip(records, failed, strict=True) if not names]
    worst = sorted(range(len(kept)), key=lambda number: kept[number]["backward_score"] or 0.0)
    dropped = set(worst[: int(config.drop_fraction * len(kept))])
    files = []
    for first in range(0, ROWS, SHARD):
        rows = [r for n, r in enumerate(kept) if n not in dropped and first <= r["row"] < first + SHARD]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), stream := io.BytesIO())
        files.append(stream.getvalue())
    removed = Counter(name for names in failed for name in names)
    alone = Counter(names[0] for names in failed if len(names) == 1)
    filters: dict[str, Any] = {
        name: {"threshold": value, "removed": removed[name], "alone": alone[name]} for name, value in thresholds.items()
    }
    if config.drop_fraction:
        counts = {"removed": len(dropped), "alone": len(dropped)}
        filters["drop_fraction"] = {"threshold": config.drop_fraction, **counts}
    quantiles = np.quantile([r["score"] for r in kept], QUANTILES)
    report = {
        "rows": ROWS,
        "distinct_sources": ROWS,
        "chosen": len(records),
        "kept": len(kept) - len(dropped),
        "cut": {f"{side}s": sum(bool(r[f"{side}_cut"]) for r in records) for side in ("source", "target")},
        "filters": filters,
        "score_quantiles": {f"{q:.0%}": round(float(v), 4) for q, v in zip(QUANTILES, quantiles, strict=True)},
    }
    return files, report


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"keep": "all", "min_score": -2.0, "max_length_ratio": 2.0, "drop_cut": True},
    {"drop_fraction": 0.3, "backward_model": "b", "min_words": 2},
    {"keep": "all", "drop_fraction": 0.05, "backward_model": "b", "max_copied": 60.0},
    {"keep": "best-chrf", "max_repetition": 0.5, "min_chrf": 10.0},
)


@pytest.mark.parametrize(
    ("options", "with_references"),
    [*((options, True) for options in OPTIONS), *((options, False) for options in OPTIONS[:4])],
    ids=str,
)
def test_files_and_report_are_those_of_a_merge_in_memory(tmp_path: Path, chance, options, with_references) -> None:
    config = LabelConfig(**options)
    columns = {"source": [text(chance) for _ in range(ROWS)], "target": [text(chance) for _ in range(ROWS)]}
    dataset = Dataset.from_dict(columns if with_references else {"source": columns["source"]})
    raw = [
        [
            Candidate(text(chance, 0), round(chance.uniform(-3, 0), 1), None, chance.random() < 0.2, None)
            for _ in range(chance.randint(1, 3))
        ]
        for _ in range(ROWS)
    ]
    backward = [[round(chance.uniform(-3, 0), 1) for _ in own] for own in raw]  # with many equal ones
    folder = LabelFolder(tmp_path, "train", ROWS, SHARD, "b" * 8)
    for shard in folder.shards:
        rows = folder.rows(shard)
        sources = columns["source"][rows.start : rows.stop]
        folder.write_raw(shard, sources, raw[rows.start : rows.stop])
        scores = [score for own in backward[rows.start : rows.stop] for score in own]
        folder.write_backward(shard, folder.read_raw(shard, sources), scores)
    (tmp_path / "train-00000-of-00002.parquet").write_text("of before")
    files, report = in_memory(config, dataset, raw, backward)
    assert merge(config, folder, LabelRows(dataset, "key"), "m") == report == json.loads(folder.report.read_text())
    assert [path.read_bytes() for path in sorted(tmp_path.glob("train-*"))] == files
    assert not list(tmp_path.glob(".*"))
