"""ROUGE of pairs of texts (Lin 2004), equal to rouge-score's and fast on long texts.

rouge-score fills a table of n x m cells in Python for a longest common subsequence. Here a row of that table is the
bits of one integer (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): the length is a count of bits, and
the rows are enough to trace an alignment back.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache

from nltk.stem.porter import PorterStemmer
from sentencex import segment

from seq2seq_distill.config.tasks import RougeTokenizer
from seq2seq_distill.utils.constants import NO_SPACES

Tokens = list[str]


def rouge_fmeasures(
    predictions: Sequence[str], references: Sequence[str], keys: Sequence[str], tokenizer: RougeTokenizer = "default"
) -> dict[str, list[float]]:
    """F-measures, 0 to 1, of each pair of texts.

    Args:
        predictions, references: as many texts.
        keys: of rouge1 to rouge9, rougeL and rougeLsum.
        tokenizer: "default" keeps a-z and 0-9 and stems, as rouge-score does; "unicode" keeps letters, marks and digits
            of every script, those of scripts without spaces one by one, and does not stem.
    """
    tokens = {"default": _default_tokens, "unicode": _unicode_tokens}[tokenizer]
    found: dict[str, list[float]] = {key: [] for key in keys}
    for prediction, reference in zip(predictions, references, strict=True):
        for key, value in _pair(prediction, reference, keys, tokens):
            found[key].append(value)
    return found


def _pair(
    prediction: str, reference: str, keys: Sequence[str], tokens: Callable[[str], Tokens]
) -> Iterator[tuple[str, float]]:
    if "rougeLsum" in keys:  # a line break is a space to all other scores
        sentences = [[tokens(line) for line in _sentences(text)] for text in (prediction, reference)]
        ours, theirs = ([token for line in lines for token in line] for lines in sentences)
    else:
        ours, theirs = tokens(prediction), tokens(reference)
    for key in keys:
        if key == "rougeLsum":
            yield key, _union_fmeasure(*sentences)
        elif key == "rougeL":
            yield key, _fmeasure(_lcs_length(ours, theirs), len(ours), len(theirs))
        else:
            order = int(key.removeprefix("rouge"))
            grams = [Counter(zip(*(text[start:] for start in range(order)), strict=False)) for text in (ours, theirs)]
            yield key, _fmeasure((grams[0] & grams[1]).total(), *(counts.total() for counts in grams))


def _fmeasure(hits: int, predicted: int, expected: int) -> float:
    """The harmonic mean of hits / predicted and hits / expected."""
    return 2 * hits / (predicted + expected) if hits else 0.0


def _sentences(text: str) -> list[str]:
    """Sentences, split at line breaks and where English ones end: ROUGE reads English letters alone."""
    # sentencex 1.0.32 panics at a no-break space behind an initial; which space it is makes no difference to ROUGE.
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [sentence for line in lines for sentence in segment("en", line)]


# ---- tokens ----


def _default_tokens(text: str) -> Tokens:
    return [_stem(word) if len(word) > 3 else word for word in re.findall("[a-z0-9]+", text.lower())]


_stem = lru_cache(1 << 17)(PorterStemmer().stem)
"""Porter's stemmer, which takes most of the time, once a word."""


def _unicode_tokens(text: str) -> Tokens:
    text = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(character if _is_kept(character) else " " for character in text)
    return re.sub(NO_SPACES, r" \g<0> ", kept).split()


@cache
def _is_kept(character: str) -> bool:
    """Letters, marks (vowels of many scripts are marks) and digits."""
    return unicodedata.category(character)[0] in "LMN"


# ---- longest common subsequences ----


def _lcs_length(first: Tokens, second: Tokens) -> int:
    *_, last = _lcs_rows(first, _positions(second), len(second))
    return len(second) - last.bit_count()


def _positions(tokens: Tokens) -> dict[str, int]:
    """Of each token, the bits of the places where it stands."""
    places: dict[str, int] = {}
    for index, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << index
    return places


def _lcs_rows(tokens: Tokens, places: Mapping[str, int], width: int) -> Iterator[int]:
    """The rows of the table of lengths, before and after each token: a bit is 0 where the length grows by one."""
    full = (1 << width) - 1
    row = full
    yield row
    for token in tokens:
        if matches := places.get(token):
            here = row & matches
            row = (row + here | row - here) & full
        yield row


def _aligned(reference: Tokens, places: Mapping[str, int], width: int) -> Iterator[int]:
    """The positions in the reference of a longest common subsequence, the last first.

    Of several the one of rouge-score: from the end of both texts back; at equal tokens it takes them, otherwise it goes
    one back in the candidate if the rest has a longer subsequence so than one back in the reference.
    """
    rows = list(_lcs_rows(reference, places, width))
    i, j = len(reference), width
    length = j - rows[i].bit_count()
    while length:
        if places.get(reference[i - 1], 0) >> (j - 1) & 1:
            i, j, length = i - 1, j - 1, length - 1
            yield i
            continue
        above = j - (rows[i - 1] & ((1 << j) - 1)).bit_count()
        if rows[i] >> (j - 1) & 1 and above < length:
            j -= 1
        else:
            i, length = i - 1, above


def _union_fmeasure(predicted: list[Tokens], expected: list[Tokens]) -> float:
    """ROUGE-Lsum (Lin 2004, section 3.2): of each reference sentence, the tokens that are in a longest common
    subsequence with any predicted sentence; no token counts more often than either text has it."""
    candidates = [(_positions(sentence), len(sentence)) for sentence in predicted if sentence]
    left = [Counter(token for sentence in text for token in sentence) for text in (predicted, expected)]
    totals = [counts.total() for counts in left]
    hits = 0
    for sentence in expected:
        known = set(sentence)
        union: set[int] = set()
        for places, width in candidates:
            if not known.isdisjoint(places):
                union.update(_aligned(sentence, places, width))
        for position in sorted(union):
            token = sentence[position]
            if left[0][token] > 0 and left[1][token] > 0:
                hits += 1
                for counts in left:
                    counts[token] -= 1
    return _fmeasure(hits, *totals)
