"""Rows with equal sources are found."""

import numpy as np
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_distill.training.labels.distinct_sources import DistinctSources, find_distinct


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.sampled_from(["a", "b", "c", "d", "é"]), min_size=1, max_size=12))
def test_numbers_are_those_of_a_dictionary(texts):
    found = find_distinct(Dataset.from_dict({"source": texts}))
    rows_of = {}
    for row, text in enumerate(texts):
        rows_of.setdefault(text, []).append(row)
    assert found.first_rows.tolist() == [rows[0] for rows in rows_of.values()]
    assert found.duplicates == len(texts) - len(rows_of)
    groups = list(rows_of.values())
    for start in range(len(groups)):
        for stop in range(start + 1, len(groups) + 1):
            rows, numbers = found.rows_of(range(start, stop))
            assert rows.tolist() == sorted(sum(groups[start:stop], []))
            assert [texts[row] for row in rows] == [texts[groups[number][0]] for number in numbers]
    assert sorted(found.by_hash.tolist()) == list(range(len(groups)))


def test_the_order_by_hash_is_that_of_the_texts_alone():
    def ordered(texts):
        found = find_distinct(Dataset.from_dict({"source": texts}))
        return [texts[found.first_rows[number]] for number in found.by_hash]

    assert ordered(list("abcdef")) == ordered(list("fbdbaceaf"))


def test_they_come_back_mapped(tmp_path):
    found = find_distinct(Dataset.from_dict({"source": ["a", "b", "a", "c"]}))
    found.save(tmp_path / "sources.npy")
    again = DistinctSources.load(tmp_path / "sources.npy")
    assert isinstance(again.order, np.memmap)
    for name in ("first_rows", "order", "ends", "by_hash"):
        assert getattr(again, name).tolist() == getattr(found, name).tolist()
