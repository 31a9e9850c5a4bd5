"""English and German grammar for the translation data: number words, ordinals, declined noun phrases."""

import hashlib
import random
from typing import NamedTuple

from seq2seq_distill.demo.lexicon import ADJECTIVES, NOUNS, words

HELD_SHARE = 0.1

_DIGITS_EN = words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen""")
_DIGITS_DE = words("""
    null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn
    achtzehn neunzehn""")
_TENS_EN = words("twenty thirty forty fifty sixty seventy eighty ninety")
_TENS_DE = words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")
_IRREGULAR = dict(
    zip(
        words("one two three five eight nine twelve"),
        words("first second third fifth eighth ninth twelfth"),
        strict=True,
    )
)


class Value(NamedTuple):
    """One meaning in both languages; forms not listed are the plain ones. `held` values are not for training."""

    english: str
    german: str
    held: bool = False
    english_forms: dict[str, str] = {}  # never written to
    german_forms: dict[str, str] = {}

    def english_form(self, form: str | None) -> str:
        return self.english_forms.get(form or "", self.english)

    def german_form(self, form: str | None) -> str:
        return self.german_forms.get(form or "", self.german)


def share(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone."""
    return int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) / 2**32


def spell_english(n: int) -> str:
    """0 to 999,999 in words, American: `two hundred thirty-four`."""
    if n < 20:
        return _DIGITS_EN[n]
    if n < 100:
        return _TENS_EN[n // 10 - 2] + (f"-{_DIGITS_EN[n % 10]}" if n % 10 else "")
    size, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    return f"{spell_english(n // size)} {name}" + (f" {spell_english(n % size)}" if n % size else "")


def spell_german(n: int, last: bool = True) -> str:
    """0 to 999,999 in words: `zweihundertvierunddreißig`. 1 is `eins` as the `last` part, else `ein`."""
    if n < 20:
        return "ein" if n == 1 and not last else _DIGITS_DE[n]
    if n < 100:
        return (f"{spell_german(n % 10, False)}und" if n % 10 else "") + _TENS_DE[n // 10 - 2]
    size, name = (1000, "tausend") if n >= 1000 else (100, "hundert")
    return spell_german(n // size, False) + name + (spell_german(n % size, last) if n % size else "")


def ordinal(n: int) -> tuple[str, str]:
    """The n-th in words, n < 100; German with the weak ending -en."""
    head, joint, tail = spell_english(n).rpartition("-")
    tail = _IRREGULAR.get(tail) or (tail[:-1] + "ieth" if tail.endswith("y") else tail + "th")
    german = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}.get(n) or spell_german(n) + ("t" if n < 20 else "st")
    return head + joint + tail, german + "en"


def held_out(*key: object, share_of_all: float = HELD_SHARE) -> bool:
    """Whether what the key names is kept for validation and test."""
    return share(*key) < share_of_all


# Endings by gender, for nominative, accusative and dative: of the article after its stem, and of an adjective.
_DEFINITE = {
    "m": (("der", "den", "dem"), ("e", "en", "en")),
    "f": (("die", "die", "der"), ("e", "e", "en")),
    "n": (("das", "das", "dem"), ("e", "e", "en")),
}
_INDEFINITE = {
    "m": (("", "en", "em"), ("er", "en", "en")),
    "f": (("e", "e", "er"), ("e", "e", "en")),
    "n": (("", "", "em"), ("es", "es", "en")),
}
_STEMS = {"a": "ein", "our": "unser", "my": "mein"}


def noun_phrase(draw: random.Random, kind: str) -> Value:
    """A noun with article or possessive and perhaps an adjective, declined: nominative, `acc`, `dat`."""
    english, german, gender = draw.choice(NOUNS[kind])
    adjective = draw.choice(ADJECTIVES[kind]) if draw.random() < 0.6 else ("", "")
    single = adjective[0] in ("first", "last", "next")
    determiner = draw.choices(("the", "a", "our", "my"), (6, 0 if single else 2, 2, 1))[0]
    if determiner == "the":
        articles, endings = _DEFINITE[gender]
    else:
        tails, endings = _INDEFINITE[gender]
        articles = (_STEMS[determiner] + tails[0], _STEMS[determiner] + tails[1], _STEMS[determiner] + tails[2])
    adjectives = [adjective[1] + ending if adjective[1] else "" for ending in endings]
    forms = [" ".join(filter(None, (*each, german))) for each in zip(articles, adjectives, strict=True)]
    phrase = " ".join(filter(None, (adjective[0], english)))
    determiner = "an" if determiner == "a" and phrase[0] in "aeioAEIO" else determiner
    held = bool(adjective[0]) and held_out("noun", english, adjective[0])
    return Value(f"{determiner} {phrase}", forms[0], held, german_forms={"acc": forms[1], "dat": forms[2]})
