"""Scripts that are written without spaces between words."""

import re
from collections import Counter
from collections.abc import Sequence

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
