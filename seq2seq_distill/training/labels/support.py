"""Numbers and names of a target that its source does not have: a sign of text that the model made up."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

CAPITALISES_NOUNS = frozenset(("de", "deu", "lb", "ltz", "gsw", "nds"))
"""Languages that write common nouns as others write names."""

_NUMBER = re.compile(r"\d+(?:[.,:'’\u00a0\u202f]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_OPENING = " \t\"'“”„«»‹›([—–-"
_SENTENCE_ENDS = ".!?…:;\n"


def unsupported_numbers(source: str, target: str) -> int:
    """How many numbers of a target its source does not have; 1,000 and 1.000 are equal."""
    known = set(_numbers(source))
    return sum(number not in known for number in _numbers(target))


def unsupported_names(source: str, target: str) -> int:
    """How many capitalised words of a target its source does not have, in whatever case; the first word of a sentence
    is no name."""
    known = {part for word in _WORD.findall(source) for part in _forms(word)}
    return sum(known.isdisjoint(_forms(name)) for name in _names(target))


KINDS = {"numbers": unsupported_numbers, "names": unsupported_names}


def unsupported(kinds: Sequence[str], source: str, target: str) -> int:
    """How many numbers or names, by `kinds`, of a target its source does not have."""
    return sum(KINDS[kind](source, target) for kind in kinds)


def _numbers(text: str) -> Iterator[str]:
    for number in _NUMBER.findall(text):
        yield "".join(str(unicodedata.digit(character)) for character in number if character.isdigit())


def _names(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        before = text[: match.start()].rstrip(_OPENING)
        if match[0][0].isupper() and before and before[-1] not in _SENTENCE_ENDS:
            yield match[0]


def _forms(word: str) -> set[str]:
    """A word as it is compared: without case, and also without what follows an apostrophe ("London's")."""
    folded = word.casefold().replace("’", "'")
    return {folded, folded.split("'")[0]}
