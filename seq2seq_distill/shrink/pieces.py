"""The pieces that a kept piece of a tokenizer needs, and the tables of pieces to choose from.

A text whose pieces are all kept is segmented as before, if the rest of its tokenizer is cut by these rules:

Unigram takes the path of the highest score. A path that is still there is still the best, as long as an unknown
character, whose score lies below the lowest of all pieces, does not become cheaper: the piece of the lowest score
stays.

BPE merges the applicable pair of the lowest rank. Of each merge that makes a kept piece, both parts stay, and so on
down to single characters; then every merge that the text had is still there, and none is new.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""What stands for the bytes of characters that have no piece, where a tokenizer has such pieces."""

Side = Literal["source", "target"]
Parts = Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class PieceTable:
    """The tokens of one vocabulary, of both sides or of one."""

    ids: Mapping[str, int]
    """Rows of the embeddings, by token."""
    special: tuple[str, ...]
    """Special tokens and languages that stay, in their new order: they get the lowest ids."""
    required: frozenset[str] = frozenset()
    """Other tokens that stay."""
    dropped: frozenset[str] = frozenset()
    """Tokens that go, however often they occur: sentinels of pretraining, and languages that are not wanted."""
    parts: Parts = field(default=lambda piece: ())
    """The pieces that a piece is merged from."""
    spells_bytes: bool = False
    """Whether its pieces spell any text, byte by byte."""

    def with_ancestors(self, pieces: Iterable[str], kept: Collection[str] = ()) -> set[str]:
        """The pieces with all that they are merged from, down to single characters; without those already kept."""
        found: set[str] = set()
        open_pieces = [piece for piece in pieces if piece not in kept]
        while open_pieces:
            piece = open_pieces.pop()
            if piece in found or piece in kept or piece not in self.ids:
                continue
            found.add(piece)
            open_pieces.extend(self.parts(piece))
        return found

    def characters(self) -> set[str]:
        """Those that have a piece to themselves."""
        return {token for token in self.ids if len(token) == 1}


def parts_by_merges(merges: Iterable[tuple[str, str]], prefix: str = "") -> Parts:
    """The parts of each piece by the merges of a BPE model, of which several may make the same piece.

    `prefix` opens pieces that continue a word, and is dropped from the second part of a merge.
    """
    table: dict[str, set[str]] = {}
    for left, right in merges:
        table.setdefault(left + right.removeprefix(prefix), set()).update((left, right))
    return lambda piece: table.get(piece, ())


def parts_by_splits(pieces: Collection[str]) -> Parts:
    """The parts of each piece by SentencePiece's BPE, which merges any two symbols that make a piece."""

    def parts(piece: str) -> Iterator[str]:
        for end in range(1, len(piece)):
            halves = piece[:end], piece[end:]
            if all(len(half) == 1 or half in pieces for half in halves):
                yield from halves

    return parts
