"""Which pairs of source and target are dropped. Each filter is a measure and a threshold; thresholds are options."""

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from seq2seq_distill import metrics
from seq2seq_distill.config.tasks import RougeTokenizer
from seq2seq_distill.metrics.degeneration import is_loop, repetition, units
from seq2seq_distill.training.labels.support import unsupported

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COMMON = 0.01
"""Share of the references' letters from which on a script is one of theirs."""


@dataclass(frozen=True)
class Pairs:
    """What is measured, row by row."""

    sources: Sequence[str]
    targets: Sequence[str]
    references: Sequence[str | None]
    """None where the data has no targets; measures that compare with references are refused then."""
    scores: Sequence[float | None]
    """Mean log-probability of each target under the model, where it is known."""
    gains: Sequence[float]
    """By how much it is above that for another row's source."""
    scripts: frozenset[str]
    """Of all references."""
    rouge_tokenizer: RougeTokenizer = "default"
    cut: Sequence[bool] = ()
    """Whether the source or the target was cut."""
    unsupported_kinds: Sequence[str] = ()
    """What `unsupported` looks for."""


def words(pairs: Pairs) -> list[float]:
    """Words of each target; in a script without spaces, characters."""
    return [float(len(units(text))) for text in pairs.targets]


def scores(pairs: Pairs) -> list[float]:
    """Mean log-probability of each target; minus infinity where it is unknown."""
    return [-math.inf if score is None else score for score in pairs.scores]


def gains(pairs: Pairs) -> list[float]:
    """How much more likely the source makes each target, in mean log-probability."""
    return list(pairs.gains)


def rouge2(pairs: Pairs) -> list[float]:
    """Agreement with the reference in pairs of words, 0 to 100."""
    return metrics.score_per_example("rouge2", pairs.targets, _given(pairs), None, pairs.rouge_tokenizer)


def chrf(pairs: Pairs) -> list[float]:
    """Agreement with the reference in characters, 0 to 100."""
    return metrics.score_per_example("chrf", pairs.targets, _given(pairs))


def _given(pairs: Pairs) -> list[str]:
    return [reference for reference in pairs.references if reference is not None]


def length_ratio(pairs: Pairs) -> list[float]:
    """Words of each target by those of its source."""
    return [
        len(units(target)) / max(1, len(units(source)))
        for source, target in zip(pairs.sources, pairs.targets, strict=True)
    ]


def repeated(pairs: Pairs) -> list[float]:
    """Share of each target's 4-grams that it has had before, 0 to 1; 1 for a loop that is too short to have any, if its
    reference is none."""
    rows = zip(pairs.targets, pairs.references, strict=True)
    return [
        repetition([units(target)]) or float(is_loop(target) and not is_loop(reference or ""))
        for target, reference in rows
    ]


def copied(pairs: Pairs) -> list[float]:
    """Agreement with the source in characters, 0 to 100."""
    return metrics.score_per_example("chrf", pairs.targets, pairs.sources)


def own_script(pairs: Pairs) -> list[float]:
    """Share of each target's letters that are of the references' scripts, 0 to 1; 1 without letters."""
    shares = []
    for text in pairs.targets:
        counts = letters([text])
        own = sum(count for script, count in counts.items() if script in pairs.scripts)
        shares.append(own / counts.total() if counts else 1.0)
    return shares


def cut(pairs: Pairs) -> list[float]:
    """1 where the source or the target was cut, else 0."""
    return list(map(float, pairs.cut))


def made_up(pairs: Pairs) -> list[float]:
    """How many numbers or names of each target its source does not have."""
    rows = zip(pairs.sources, pairs.targets, strict=True)
    return [float(unsupported(pairs.unsupported_kinds, source, target)) for source, target in rows]


MEASURES: Mapping[str, Callable[[Pairs], list[float]]] = {
    "min_words": words,
    "min_score": scores,
    "min_gain": gains,
    "min_rouge2": rouge2,
    "min_chrf": chrf,
    "min_length_ratio": length_ratio,
    "max_length_ratio": length_ratio,
    "max_repetition": repeated,
    "max_copied": copied,
    "min_script": own_script,
    "drop_cut": cut,
    "drop_unsupported": made_up,
}
"""Option to what is compared with it: a pair stays that has at least `min_...`, at most `max_...`, or 0."""
DROPPED = tuple(name for name in MEASURES if name.startswith("drop_"))
"""The last: filters without a threshold."""


def passes(option: str, threshold: float, pairs: Pairs) -> list[bool]:
    """Whether each pair passes one filter."""
    values = MEASURES[option](pairs)
    return [value >= threshold if option.startswith("min_") else value <= threshold for value in values]


def worst(scores: FloatArray, fraction: float) -> BoolArray:
    """Whether each score [N] is among the lowest, so large a share of them, rounded down; of equal ones the first."""
    count = int(fraction * len(scores))
    if not count:
        return np.zeros(len(scores), bool)
    last = np.partition(scores, count - 1)[count - 1]
    lowest = scores < last
    lowest[np.flatnonzero(scores == last)[: count - int(lowest.sum())]] = True
    return lowest


def scripts_of(texts: Iterable[str]) -> frozenset[str]:
    """The scripts that a hundredth or more of the texts' letters are of."""
    counts = letters(texts)
    return frozenset(script for script, count in counts.items() if count >= COMMON * counts.total())


def letters(texts: Iterable[str]) -> Counter[str]:
    """How many letters of each script the texts have."""
    characters = Counter(character for text in texts for character in text)
    counts: Counter[str] = Counter()
    for character, count in characters.items():
        if character.isalpha():
            counts[_script(character)] += count
    return counts


@cache
def _script(letter: str) -> str:
    """LATIN, CYRILLIC, CJK, ...: the first word of a letter's Unicode name, which names its script."""
    return unicodedata.name(letter, "UNKNOWN").split()[0].partition("-")[0]
