"""Scripts: those that are written without spaces between words, and those of a language."""

import re
from collections import Counter
from collections.abc import Sequence

from babel.core import get_global

from seq2seq_distill.data.languages import base_language, plain_code

MOSTLY_DROPPED = 0.5
"""Share of references that ROUGE's default tokenizer drops most of, above which its scores choose nothing."""
SAMPLE = 1000
"""Texts that tell the script."""
_LANGUAGES = {
    "th": "\u0e00-\u0e7f",
    "lo": "\u0e80-\u0eff",
    "bo": "\u0f00-\u0fff",
    "my": "\u1000-\u109f",
    "km": "\u1780-\u17ff",
    "ja": "\u3040-\u30ff\uff66-\uff9f",
    "zh": "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}
NAMES = {
    "th": "Thai",
    "lo": "Lao",
    "bo": "Tibetan",
    "my": "Burmese",
    "km": "Khmer",
    "ja": "Japanese",
    "zh": "Chinese",
}
_KANA = 0.05
"""Share of kana among Japanese characters from which on a text is Japanese; Chinese has none."""


def language_without_spaces(texts: Sequence[str]) -> str | None:
    """The language of texts most letters of which are of a script without spaces (`NAMES` lists them), else None."""
    text = "".join(texts[:SAMPLE])
    counts = Counter({code: len(re.findall(f"[{letters}]", text)) for code, letters in _LANGUAGES.items()})
    if 2 * counts.total() <= sum(map(str.isalpha, text)):
        return None
    if counts["ja"] > _KANA * (counts["ja"] + counts["zh"]):
        counts["ja"] += counts["zh"]
        counts["zh"] = 0
    return counts.most_common(1)[0][0] if counts.total() else None


_SCRIPTS = {
    **{"Hans": "CJK", "Hant": "CJK", "Jpan": "CJK HIRAGANA KATAKANA", "Kore": "HANGUL CJK"},
    **{"Latn": "LATIN", "Cyrl": "CYRILLIC", "Grek": "GREEK", "Arab": "ARABIC", "Hebr": "HEBREW", "Armn": "ARMENIAN"},
    **{"Geor": "GEORGIAN", "Deva": "DEVANAGARI", "Beng": "BENGALI", "Guru": "GURMUKHI", "Gujr": "GUJARATI"},
    **{"Orya": "ORIYA", "Taml": "TAMIL", "Telu": "TELUGU", "Knda": "KANNADA", "Mlym": "MALAYALAM", "Sinh": "SINHALA"},
    **{"Thai": "THAI", "Laoo": "LAO", "Tibt": "TIBETAN", "Mymr": "MYANMAR", "Khmr": "KHMER", "Ethi": "ETHIOPIC"},
}
"""First words of the Unicode names of letters, by the code of a script (ISO 15924)."""


def scripts_of_language(language: str | None) -> frozenset[str]:
    """The first words of the Unicode names of a language's letters; none for a language that CLDR does not know.

    Args:
        language: de, de_DE or deu_Latn, say; a script that it names counts.
    """
    parts = re.split("[_-]", plain_code(language or ""))
    named = [part.title() for part in parts[1:] if part.title() in _SCRIPTS]
    likely = get_global("likely_subtags").get(base_language(parts[0]), "").split("_")
    script = (named or [part for part in likely if part in _SCRIPTS] or [""])[0]
    return frozenset(_SCRIPTS.get(script, "").split())
