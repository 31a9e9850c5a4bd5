"""Arrays of token ids are what lists would be."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq_distill.data.tokenization.token_rows import TokenRows

tokens = st.lists(st.integers(0, 9), max_size=6)
rows = st.lists(tokens, max_size=5)
frames = st.lists(st.integers(0, 9), max_size=2)


@settings(deadline=None, max_examples=100)
@given(rows=rows, head=frames, tail=frames, first=st.integers(0, 4), last=st.integers(0, 4))
def test_operations_are_those_of_lists(rows, head, tail, first, last):
    array = TokenRows.from_lists(rows)
    assert array.to_lists() == rows
    assert array.to_arrow(pa.list_(pa.uint8())).to_pylist() == rows
    assert array.between(head, tail).to_lists() == [[*head, *row, *tail] for row in rows]
    assert array.every(first + 1).to_lists() == rows[:: first + 1]
    assert array.without([3, 4]).to_lists() == [[token for token in row if token not in (3, 4)] for row in rows]
    assert array.count(3).tolist() == [row.count(3) for row in rows]
    cut = [row if len(row) <= first + last else row[:first] + row[len(row) - last :] for row in rows]
    assert array.cut(first, last).to_lists() == cut
    if rows:
        assert array.replaced({len(rows) - 1: [7, 8, 9]}).to_lists() == [*rows[:-1], [7, 8, 9]]


def test_a_type_that_is_too_narrow_is_an_error():
    with pytest.raises(pa.ArrowInvalid):
        TokenRows.from_lists([[256]]).to_arrow(pa.list_(pa.uint8()))
