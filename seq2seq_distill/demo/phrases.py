"""English-German sentence pairs: values from CLDR data (dates, times, amounts, measures, names) in written templates.

As in texts that people translated, the German side is one of several that would do: words, the order of parts and the
kind of sentence are drawn, the usual ones more often.

Values that can be composed (numbers, dates, times), a few names, and some combinations of templates are held out: they
never occur in training, and every sentence of the other splits has at least one of them. All is a function of the seed
and of Babel's data.
"""

import random
import re
from typing import NamedTuple

from seq2seq_distill.demo.grammar import Value, held_out
from seq2seq_distill.demo.lexicon import CLAUSES, FRAMES, Clause
from seq2seq_distill.demo.slots import draw_value
from seq2seq_distill.demo.wordings import choose, reword

VERSION = 5
TRAIN_ROWS, VAL_ROWS, TEST_ROWS = 25_000, 500, 1_000
WORDS = (6, 30)

_SLOT = re.compile(r"\{(([a-z]+)\d?)(?::([a-z]+))?\}")
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "’": "'", "−": "-", "‑": "-", "\u200e": None})
_CONTRACTIONS = {
    "in dem": "im",
    "an dem": "am",
    "von dem": "vom",
    "zu dem": "zum",
    "zu der": "zur",
    "bei dem": "beim",
}
_CONTRACTED = re.compile(rf"\b(?:{'|'.join(_CONTRACTIONS)})\b")
# A German sentence after a colon begins like any other.
_AFTER_COLON = re.compile(r"(?<=: )\w")
_NO_DATE_BEFORE = re.compile(
    r"\{(?:date|day|ago|weekdays|year)\b| (?:comes|weighs|has|speaks|is \{length\}|is \{data\}) "
)


class SentencePair(NamedTuple):
    """An English sentence, its German translation, and whether it has something that is held out of training."""

    english: str
    german: str
    held: bool


class Splits(NamedTuple):
    """The three splits, and the counts of what was drawn and removed."""

    train: list[SentencePair]
    val: list[SentencePair]
    test: list[SentencePair]
    counts: dict[str, int]


def _fill(pattern: str, values: dict[str, Value], german: bool) -> str:
    def text(match: re.Match[str]) -> str:
        value = values[match[1]]
        return value.german_form(match[3]) if german else value.english_form(match[3])

    return _SLOT.sub(text, pattern)


def _values(pattern: str, draw: random.Random) -> dict[str, Value]:
    """A value for each slot of the pattern; no two of a kind are equal."""
    values: dict[str, Value] = {}
    for match in _SLOT.finditer(pattern):
        while match[1] not in values:
            value = draw_value(match[2], draw)
            if all(value.english != other.english for other in values.values()):
                values[match[1]] = value
    return values


def _finish(sentence: str, german: bool) -> str:
    sentence = " ".join(sentence.translate(_SPACES).split())
    if german:
        sentence = _CONTRACTED.sub(lambda match: _CONTRACTIONS[match[0]], sentence)
        sentence = _AFTER_COLON.sub(lambda match: match[0].upper(), sentence)
    return sentence[0].upper() + sentence[1:]


def draw_sentence(draw: random.Random) -> SentencePair:
    """One random sentence of one or two clauses, in both languages."""
    _, english, ways = draw.choices(FRAMES, [frame[0] for frame in FRAMES])[0]
    german = choose(ways, draw)
    names = [name for name in "ab" if f"{{{name}}}" in english]
    clauses: dict[str, Clause] = {}
    for name in names:
        clause = draw.choice(CLAUSES)
        while clause in clauses.values() or ("{date}" in english and _NO_DATE_BEFORE.search(clause.english)):
            clause = draw.choice(CLAUSES)
        clauses[name] = clause
    held = len(names) > 1 and held_out("combination", english, *(clause.english for clause in clauses.values()))
    for name, clause in clauses.items():
        values = _values(clause.english, draw)
        held = held or any(value.held for value in values.values())
        english = english.replace(f"{{{name}}}", _fill(clause.english, values, german=False))
        turned = choose((False, True), draw)
        [(slot, order)] = re.findall(rf"(\{{{name}:(\w+)\}})", german)
        german = german.replace(slot, _fill(clause.german(order, turned), values, german=True))
    values = _values(english, draw)
    held = held or any(value.held for value in values.values())
    english = _finish(_fill(english, values, False), False)
    german = _finish(reword(_fill(german, values, True), draw), True)
    return SentencePair(english, german, held)


def build(seed: int = 0, train_rows: int = TRAIN_ROWS, val_rows: int = VAL_ROWS, test_rows: int = TEST_ROWS) -> Splits:
    """So many sentence pairs, no English or German sentence twice; the same for the same arguments and Babel data."""
    draw = random.Random(seed)
    seen: set[str] = set()
    train: list[SentencePair] = []
    held_out: list[SentencePair] = []
    counts = {"drawn": 0, "removed copies": 0, "left out for length": 0}
    while len(train) < train_rows or len(held_out) < val_rows + test_rows:
        pair = draw_sentence(draw)
        counts["drawn"] += 1
        if not all(WORDS[0] <= len(text.split()) <= WORDS[1] for text in pair[:2]):
            counts["left out for length"] += 1
        elif not seen.isdisjoint(pair[:2]):
            counts["removed copies"] += 1
        else:
            seen.update(pair[:2])
            rows, most = (held_out, val_rows + test_rows) if pair.held else (train, train_rows)
            if len(rows) < most:
                rows.append(pair)
    return Splits(train, held_out[:val_rows], held_out[val_rows:], counts)
