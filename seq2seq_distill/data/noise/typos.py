"""Typing errors: letters swapped, left out, doubled or missed by a key; spaces left out or put where none belong."""

import re
import unicodedata
from collections.abc import Callable
from random import Random
from types import MappingProxyType

PROTECTED = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+\.\S+"  # URLs and addresses
    r"|\$?\{[^{}]*\}|%(?:\(\w+\)|\d+\$)?[-+#0 ]?[\d.*]*[a-zA-Z]\b|</?[a-zA-Z][^<>]*>|&#?\w+;|[@#]\w+"  # placeholders
)
SENTENCE_END = re.compile(r"(?<=[.!?…])(\s+)")
LAYOUTS = (
    ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
    ("ςερτυθιοπ", "ασδφγηξκλ", "ζχψωβνμ"),
    ("קראטוןםפ", "שדגכעיחלךף", "זסבהנמצתץ"),
    ("ضصثقفغعهخحجد", "شسيبلاتنمكط", "ئءؤرىةوزظ"),
)
"""Rows of keyboards, by script: Latin, Cyrillic, Greek, Hebrew, Arabic."""
NO_TYPOS = re.compile(
    r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Chinese, Japanese and Korean, which are not typed letter by letter."""
SHORTEST = 4
"""Letters of a word in which errors are made."""
JOINERS = "\u200c\u200d"

Typo = Callable[[list[str], Random], None]


def with_typos(text: str, rng: Random) -> str:
    """A text with one to three errors in each sentence, of different kinds; never in numbers, URLs or placeholders."""
    parts = SENTENCE_END.split(text)  # sentences and, between them, the white space
    parts[::2] = [_in_sentence(sentence, rng) for sentence in parts[::2]]
    return "".join(parts)


def _in_sentence(text: str, rng: Random) -> str:
    count = rng.choice((1, 1, 1, 2, 3))
    for typo in rng.sample(TYPOS, count):
        units = _units(text)
        typo(units, rng)
        text = "".join(units)
    return text


def _units(text: str) -> list[str]:
    """Graphemes, each a letter with its marks; what is protected is one unit, and so is a number with its letters."""
    units: list[str] = []
    end = 0
    for found in re.finditer(rf"{PROTECTED.pattern}|\w*\d[\w.,:/-]*", text):
        units += _graphemes(text[end : found.start()])
        units.append(found[0])
        end = found.end()
    return units + _graphemes(text[end:])


def _graphemes(text: str) -> list[str]:
    graphemes: list[str] = []
    for character in text:
        joined = bool(graphemes) and graphemes[-1][-1] in JOINERS
        if graphemes and (joined or character in JOINERS or unicodedata.category(character).startswith("M")):
            graphemes[-1] += character
        else:
            graphemes.append(character)
    return graphemes


def _is_letter(unit: str) -> bool:
    """Whether a unit is a letter with its marks; of a script that is typed by letters."""
    has_marks_alone = all(mark in JOINERS or unicodedata.category(mark).startswith("M") for mark in unit[1:])
    return unit[0].isalpha() and has_marks_alone and not NO_TYPOS.match(unit)


def _words(units: list[str]) -> list[range]:
    """Where words are that are long enough."""
    words, start = [], 0
    for place in range(len(units) + 1):
        if place == len(units) or not _is_letter(units[place]):
            if place - start >= SHORTEST:
                words.append(range(start, place))
            start = place + 1
    return words


def _swap(units: list[str], rng: Random) -> None:
    places = [i for word in _words(units) for i in word[1:-1] if units[i] != units[i + 1]]
    if places:
        place = rng.choice(places)
        units[place : place + 2] = units[place + 1], units[place]


def _drop(units: list[str], rng: Random) -> None:
    if places := [i for word in _words(units) for i in word[1:]]:
        del units[rng.choice(places)]


def _double(units: list[str], rng: Random) -> None:
    if places := [i for word in _words(units) for i in word[1:]]:
        place = rng.choice(places)
        units.insert(place, units[place])


def _miss(units: list[str], rng: Random) -> None:
    """A neighbouring key is hit."""
    places = [i for word in _words(units) for i in word[1:] if units[i].lower() in NEIGHBOURS]
    if places:
        place = rng.choice(places)
        key = rng.choice(NEIGHBOURS[units[place].lower()])
        units[place] = key.upper() if units[place].isupper() else key


def _join(units: list[str], rng: Random) -> None:
    """The space between two words is left out."""
    places = [
        i for i in range(1, len(units) - 1) if units[i] == " " and _is_letter(units[i - 1]) and _is_letter(units[i + 1])
    ]
    if places:
        del units[rng.choice(places)]


def _split(units: list[str], rng: Random) -> None:
    """A space comes inside a word."""
    if places := [i for word in _words(units) for i in word[1:]]:
        units.insert(rng.choice(places), " ")


def _neighbours() -> dict[str, str]:
    """By key, those beside it, and those above and below."""
    found: dict[str, str] = {}
    for rows in LAYOUTS:
        for number, row in enumerate(rows):
            for place, key in enumerate(row):
                beside = row[max(0, place - 1) : place] + row[place + 1 : place + 2]
                others = [rows[other][place : place + 1] for other in (number - 1, number + 1) if 0 <= other < 3]
                found[key] = beside + "".join(others)
    return found


NEIGHBOURS = MappingProxyType(_neighbours())
TYPOS: tuple[Typo, ...] = (_swap, _drop, _double, _miss, _join, _split)
