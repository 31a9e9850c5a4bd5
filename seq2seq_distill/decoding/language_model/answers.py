"""What a language model answers, and what of it is the target."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

CLEANED = ("reasoning", "opening", "fence", "quotes", "more_lines", "invalid_characters", "empty")
"""What is taken off answers, in this order; and answers of which nothing is left."""


class TokenScores(NamedTuple):
    """What the model says of the tokens of its answer."""

    log_probabilities: tuple[float, ...]
    ends: tuple[int, ...]
    """Where each token ends, in bytes of the text in UTF-8. The end of the sequence, where the answer ended by itself,
    comes last and ends one byte behind the text; other special tokens are left out."""


@dataclass(frozen=True)
class Answer:
    """One answer to a prompt."""

    text: str
    at_limit: bool
    """Whether it was stopped at the limit of tokens."""
    scores: TokenScores | None = None
    """None where the model gave none, or none that belong to this text."""
    mean_log_probability: float | None = None
    """Of all tokens, whatever they spell; None where the model gave none."""


_REASONING = re.compile(r"\s*<(think|thinking|thought|reasoning)>", re.I)
_END_OF_REASONING = re.compile(r"</(think|thinking|thought|reasoning)>", re.I)
_WORK = r"(?:translat|summar|übersetz|zusammenfass|traduc|traduz|résum|resum|riassunt|перевод|翻译|译文|摘要)"
_WORK_IN_SOURCE = re.compile(f"{_WORK}|[:：]", re.I)
_OPENING = re.compile(
    r"[*_#\s]*(?:(?:sure|certainly|of course|okay|ok|absolutely|gladly)\b[,.!: ]*)?"
    r"(?:(?:(?:here|this|below|the|your|my|hier|voici|ecco|aquí|aqui|вот)\b|以下)"
    rf"[^\n:：]{{0,60}}(?:{_WORK}|\b(?:text|version)\b)[^\n:：]{{0,60}}"
    rf"|(?:[\w-]+ ){{0,2}}{_WORK}\w*(?: [^\n:：]{{0,30}})?)"
    r"[*_]*[:：][*_]*\s*",
    re.I,
)
_FENCE = re.compile(r"\s*```[\w-]*[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.S)
_QUOTES = ('""', "''", "“”", "„“", "„”", "«»", "»«", "‘’", "‚‘", "「」", "『』", "``")
_ANY_QUOTE = frozenset("".join(_QUOTES))
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

Span = tuple[int, int]
"""Start and end in the characters of an answer."""


def clean(answer: Answer, source: str, *, one_line: bool) -> tuple[Answer, list[str]]:
    """The answer without what is around the target, and which of `CLEANED` was found.

    The target is a piece of the answer: nothing inside it changes, but for characters that no UTF-8 can spell. The log-
    probabilities stay those of the tokens inside it, and are dropped where a token is partly outside.

    Args:
        answer: as the model gave it.
        source: what it was asked about; what stands in the source is not taken off.
        one_line: whether a source of one line has a target of one line.
    """
    text, found = answer.text, []
    if _SURROGATE.search(text):
        text, found = _SURROGATE.sub("\ufffd", text), ["invalid_characters"]
        answer = replace(answer, text=text, scores=None)
    start, end = _stripped(text, (0, len(text)))
    for name, take_off in _STEPS:
        if name == "more_lines" and not (one_line and "\n" not in source.strip()):
            continue
        span = _stripped(text, take_off(text[start:end], source), start)
        if span != (start, end):
            found.append(name)
        start, end = span
    if start == end:
        found.append("empty")
    at_limit = answer.at_limit and "more_lines" not in found
    scores = answer.scores and _within(answer.scores, text, start, end)
    return replace(answer, text=text[start:end], at_limit=at_limit, scores=scores), found


def _reasoning(text: str, source: str) -> Span:
    """All before the target that the model thinks aloud; the opening tag may be in the prompt."""
    if _REASONING.search(source) or _END_OF_REASONING.search(source):
        return 0, len(text)
    ends = [match.end() for match in _END_OF_REASONING.finditer(text)]
    if ends:
        return ends[-1], len(text)
    return (len(text), len(text)) if _REASONING.match(text) else (0, len(text))


def _opening(text: str, source: str) -> Span:
    """Words before the target such as "Here is the translation:"; not where the source may say such a thing."""
    match = None if _WORK_IN_SOURCE.search(source) else _OPENING.match(text)
    return (match.end() if match else 0), len(text)


def _fence(text: str, source: str) -> Span:
    """The marks of a block of code, and what follows the block."""
    match = None if "```" in source else _FENCE.match(text)
    return match.span("inside") if match else (0, len(text))


def _quotes(text: str, source: str) -> Span:
    """A pair of quotation marks around the whole target, where the source neither begins nor ends with one."""
    ends = {source.strip()[:1], source.strip()[-1:]}
    inside = _APOSTROPHE.sub("", text[1:-1])
    is_quoted = text[:1] + text[-1:] in _QUOTES and len(text) > 2 and not _ANY_QUOTE & set(inside)
    return (1, len(text) - 1) if is_quoted and not ends & _ANY_QUOTE else (0, len(text))


def _more_lines(text: str, source: str) -> Span:
    """Notes below the target of a source of one line."""
    first = text.find("\n")
    return 0, len(text) if first < 0 else first


_STEPS: Sequence[tuple[str, Callable[[str, str], Span]]] = (
    ("reasoning", _reasoning),
    ("opening", _opening),
    ("fence", _fence),
    ("quotes", _quotes),
    ("more_lines", _more_lines),
)


def _stripped(text: str, span: Span, offset: int = 0) -> Span:
    """A span, counted from `offset`, without the white space at its ends."""
    start, end = span[0] + offset, span[1] + offset
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return start, max(start, start + len(inside.strip()))


def align(tokens: Sequence[bytes], log_probabilities: Sequence[float], text: str, *, ended: bool) -> TokenScores | None:
    """The scores of a text (without outer white space) whose tokens, in order, are these.

    Tokens before it (such as a chain of thought that the server keeps apart) and white space around it are left out.

    Args:
        tokens: their bytes, which may end inside a character.
        log_probabilities: of each.
        text: what the server says that they spell.
        ended: whether the answer ended by itself; its last token may then be the end of the sequence, spelt in any way.

    Returns:
        None where the tokens do not spell the text.
    """
    whole = text.strip().encode("utf-8", "surrogatepass")
    may_have_end = ended and bool(tokens)
    for with_end in [True] if may_have_end and not tokens[-1] else [False, True][: 1 + may_have_end]:
        body = tokens[:-1] if with_end else tokens
        joined = b"".join(body)
        # What the model thinks first is not in the text, and white space may be lost at both ends.
        first = len(joined.rstrip()) - len(whole)
        if whole and first >= 0 and joined[first : first + len(whole)] == whole:
            ends = accumulate(map(len, body))
            pairs = [(value, end) for value, end, token in zip(log_probabilities, ends, body, strict=False) if token]
            if with_end:
                pairs.append((log_probabilities[-1], len(joined) + 1))
            return _inside(pairs, joined, first, first + len(whole))
    return None


def _within(scores: TokenScores, text: str, start: int, end: int) -> TokenScores | None:
    first = len(text[:start].encode())
    tokens = list(zip(*scores, strict=True))
    return _inside(tokens, text.encode(), first, first + len(text[start:end].encode()))


def _inside(tokens: Sequence[tuple[float, int]], data: bytes, first: int, last: int) -> TokenScores | None:
    """The scores of the tokens in `data[first:last]`; None where a token is partly outside, white space apart.

    The end of the sequence stays where nothing but white space stands between.

    Args:
        tokens: log-probability and end in `data` of each.
        data: the whole answer.
        first, last: bytes of the target.
    """
    kept, previous = [], 0
    for log_probability, end in tokens:
        if end > len(data):
            if not data[last:].strip():
                kept.append((log_probability, last - first + 1))
        elif end > first and previous < last:
            if data[min(previous, first) : first].strip() or data[last : max(end, last)].strip():
                return None
            kept.append((log_probability, min(end, last) - first))
        previous = end
    if not kept or not all(math.isfinite(log_probability) for log_probability, _ in kept):
        return None
    log_probabilities, ends = zip(*kept, strict=True)
    return TokenScores(tuple(min(value, 0.0) for value in log_probabilities), ends)  # rounding may leave more than 0
