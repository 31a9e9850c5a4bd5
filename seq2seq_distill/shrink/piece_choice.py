"""How often pieces occur, and which of them stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.shrink.pieces import PieceTable
from seq2seq_distill.utils.errors import ConfigError

_TEXTS = 4096
"""Encoded at a time."""

Counts = NDArray[np.int64]


def count_tokens(encoder: TextEncoder, texts: Sequence[str], size: int) -> Counts:
    """How often each id below `size` occurs in texts, tokens that frame a text included."""
    counts = np.zeros(size, np.int64)
    for first in range(0, len(texts), _TEXTS):
        rows = encoder.encode(list(texts[first : first + _TEXTS])).rows
        counts += np.bincount(rows.values, minlength=size)[:size]
    return counts


def without_special(table: PieceTable, counts: Counts) -> Counts:
    """The counts of pieces of text alone."""
    pieces = counts.copy()
    pieces[[table.ids[token] for token in (*table.special, *table.dropped) if token in table.ids]] = 0
    return pieces


def choose_pieces(
    table: PieceTable,
    counts: Sequence[Counts],
    needed: Collection[str] = (),
    *,
    coverage: float | None = None,
    size: int | None = None,
) -> set[str]:
    """The tokens that stay: those that must, and the most frequent ones, with all that they are merged from.

    Single characters that occur must stay, and so do special tokens, bytes, and `needed`.

    Args:
        table: all tokens.
        counts: for each side that the table is for, how often each id occurs.
        needed: further tokens that must stay.
        coverage: on each side, the share of the pieces of text that must have stayed, above 0 and at most 1.
        size: the most tokens that stay, in place of `coverage`.

    Raises:
        ConfigError: `size` is too small for what must stay.
    """
    counts = [without_special(table, each) for each in counts]
    total = np.sum(counts, axis=0)
    token_of = {number: token for token, number in table.ids.items()}
    ranked = [token_of[number] for number in np.argsort(-total, kind="stable") if total[number] and number in token_of]
    seen = set().union(*map(set, ranked))
    kept = table.with_ancestors(
        [
            *table.special,
            *table.required,
            *(token for token in needed if token in table.ids),
            *seen & table.characters(),
        ]
    )
    if size is not None and len(kept) > size:
        raise ConfigError(
            f"`trim.size` {size} is too small for the special tokens, the characters and the bytes that must stay: "
            f"choose at least {len(kept)}"
        )
    sums = [each.sum() for each in counts]
    covered = np.array([each[[table.ids[token] for token in kept]].sum() for each in counts])
    for piece in ranked:
        if coverage is not None and all(part >= coverage * whole for part, whole in zip(covered, sums, strict=True)):
            break
        new = table.with_ancestors([piece], kept)
        if size is not None and len(kept) + len(new) > size:
            break
        kept |= new
        covered += np.array([each[[table.ids[token] for token in new]].sum() for each in counts], np.int64)
    return kept
