"""The kinds of noise: functions from a source and its target to noisy ones.

Each draws what it needs from the generator that it is given and from nothing else. What a text has no place for (case
in a script without it, a stop that is not there) leaves it as it is.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from seq2seq_distill.config.noise import NoiseKind
from seq2seq_distill.data.noise.typos import PROTECTED, with_typos

Pair = tuple[str, str]
Languages = tuple[str | None, str | None]
Noise = Callable[[Pair, Random, Languages], Pair]

EMOJI = ("🙂", "😀", "😂", "😉", "😍", "😭", "🤔", "👍", "🙏", "🎉", "🔥", "✨", "✅", "❤️", "☀️")
STOP = re.compile(r"\s*[.!?…。！？｡।؟۔]+\s*$")
WORD_START = re.compile(r"(?<![\w'’])[^\W\d_]")
EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
CURLY = str.maketrans({"'": "’", '"': "”"})
STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})
FULL_WIDTH = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
DOTTED_I = ("tr", "az")
LINE_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?-_/()#*+=%&"


def _upper(pair: Pair, rng: Random, languages: Languages) -> Pair:
    source, target = (_outside_protected(text, _capitals(code)) for text, code in zip(pair, languages, strict=True))
    return source, target


def _title(pair: Pair, rng: Random, languages: Languages) -> Pair:
    def titled(text: str, code: str | None) -> str:
        capital = _capitals(code)
        return _outside_protected(text, lambda part: WORD_START.sub(lambda start: capital(start[0])[:1], part))

    source, target = (titled(text, code) for text, code in zip(pair, languages, strict=True))
    return source, target


def _no_stop(pair: Pair, rng: Random, languages: Languages) -> Pair:
    source, target = (STOP.sub("", text) or text for text in pair)
    return source, target


def _typos(pair: Pair, rng: Random, languages: Languages) -> Pair:
    return with_typos(pair[0], rng), pair[1]


def _unicode(pair: Pair, rng: Random, languages: Languages) -> Pair:
    source = pair[0]
    forms = [unicodedata.normalize("NFD", source), source.translate(CURLY), source.translate(STRAIGHT)]
    if EAST_ASIAN.search(source):
        forms.append(_outside_protected(source, lambda part: part.translate(FULL_WIDTH)))
    others = [form for form in dict.fromkeys(forms) if form != source]
    return (rng.choice(others) if others else source), pair[1]


def _emoji(pair: Pair, rng: Random, languages: Languages) -> Pair:
    emoji, is_last = rng.choice(EMOJI), rng.random() < 0.8
    source, target = (f"{text} {emoji}" if is_last else f"{emoji} {text}" for text in pair)
    return source, target


def _line(pair: Pair, rng: Random, languages: Languages) -> Pair:
    words = ("".join(rng.choices(LINE_CHARACTERS, k=rng.randint(1, 12))) for _ in range(rng.randint(2, 8)))
    line = " ".join(words)
    return line, line


KINDS: Final[Mapping[NoiseKind, Noise]] = MappingProxyType(
    {
        "upper": _upper,
        "title": _title,
        "no_stop": _no_stop,
        "typos": _typos,
        "unicode": _unicode,
        "emoji": _emoji,
        "lines": _line,
    }
)
"""By name, a function of (source, target), a generator, and the languages of both."""


def with_noise(source: str, target: str, rates: Mapping[NoiseKind, float], rng: Random, languages: Languages) -> Pair:
    """A source and target with noise of some kinds: each at its rate, of upper and title one at most, a noise line
    alone."""
    draws = {kind: rng.random() for kind in KINDS}
    chosen = [kind for kind in KINDS if draws[kind] < rates.get(kind, 0.0)]
    if "lines" in chosen:
        chosen = ["lines"]
    elif "upper" in chosen and "title" in chosen:
        chosen.remove("title")
    pair = source, target
    for kind in chosen:
        pair = KINDS[kind](pair, rng, languages)
    return pair


def _capitals(language: str | None) -> Callable[[str], str]:
    """Upper case by the rules of a language: Turkish and Azerbaijani have a dotted and a dotless i."""
    if (language or "").lower()[:2] in DOTTED_I:
        return lambda text: text.replace("i", "İ").upper()
    return str.upper


def _outside_protected(text: str, function: Callable[[str], str]) -> str:
    """The function of each part of a text that is no URL, address, tag or placeholder."""
    parts, end = [], 0
    for found in PROTECTED.finditer(text):
        parts += [function(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*parts, function(text[end:])])
