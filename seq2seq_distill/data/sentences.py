"""Where sentences end, and what stands between them."""

import re

from sentencex import segment

from seq2seq_distill.data.languages import base_language

WITHOUT_SPACES = frozenset(("zh", "yue", "ja"))
"""Languages that put no space between sentences."""
_SPACE = re.compile(r"[^\S\n]")


def split_sentences(text: str, language: str | None) -> list[tuple[str, str]]:
    """The sentences of a text, each with the white space behind it; by the rules of English where its language is not
    known. Spaces of every kind become plain ones."""
    found: list[tuple[str, str]] = []
    # sentencex 1.0.32 panics at a no-break space behind an initial.
    for piece in segment(base_language(language or "en"), _SPACE.sub(" ", text)):
        if sentence := piece.strip():
            found.append((sentence, piece[len(piece.rstrip()) :]))
        elif found:
            found[-1] = found[-1][0], found[-1][1] + piece
    return found


def space_between(language: str | None) -> str:
    """What stands between two sentences of a language."""
    return "" if language and base_language(language) in WITHOUT_SPACES else " "
