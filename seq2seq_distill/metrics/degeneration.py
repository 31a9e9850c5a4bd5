"""How generated texts behave beside their references, and in words when a model has collapsed."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq_distill.utils.constants import NO_SPACES
from seq2seq_distill.utils.errors import DataError

NGRAM = 4
"""Units of a repetition, as in seq-rep-4."""
MAX_WORD_LENGTH = 40
"""What is longer is no word, but a loop without spaces (or an address): it counts by its characters."""
COLLAPSE_SHARE = 0.5
"""More than this share of empty or of identical outputs is a collapse."""
LOOPING_SHARE = 0.3
"""So is this much more repetition than in the references; ordinary text has below 0.05."""
LENGTH_RATIO_BOUNDS = (1 / 3, 3.0)
"""And a ratio of lengths outside these."""
MIN_TIMES = 3
"""So often a phrase is said in a text that goes on otherwise, for the text to be a loop."""
MIN_JOINED = 3
"""Letters of a part that may be repeated within one word: mama and bonbon are words, "hellohello" is none."""
COPIED_CHRF = 0.9
"""An output that shares more than this with its source is a copy of it."""


@dataclass(frozen=True)
class OutputStatistics:
    """Figures about the outputs of one split. A unit is a word or, in a script without spaces, a character."""

    empty: float
    """Share of outputs without any unit, 0 to 1."""
    repetition: float
    """Share of the outputs' 4-grams that the same output has had before, 0 to 1."""
    length_ratio: float
    """Units of all outputs over units of all references."""
    identical: float
    """Share of the most frequent output, 0 to 1: 1 is one output for everything."""
    commonest: str
    """That output."""
    usual_empty: float
    """As `empty`, of the references."""
    usual_repetition: float
    """As `repetition`, of the references."""
    usual_identical: float
    """As `identical`, of the references."""

    def named(self, prefix: str = "") -> dict[str, float]:
        """What is logged of it: empty, repetition and length_ratio, `prefix` before each name."""
        return {f"{prefix}{name}": getattr(self, name) for name in ("empty", "repetition", "length_ratio")}


def output_statistics(outputs: Sequence[str], references: Sequence[str]) -> OutputStatistics:
    """Count emptiness, repetition, length and sameness of a split's outputs, and of its references to compare with.

    Repetition is seq-rep-4 of Welleck et al. 2020 (arXiv 1908.04319, section 6.1), 1 - distinct / all 4-grams of a
    text, pooled over the texts, so that a long loop weighs more than a short text. Units are what stands between
    white space; a word in a script without spaces (Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer) or of
    more than 40 characters counts by its characters. Pegasus' `<n>` is white space.

    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    if len(outputs) != len(references):
        raise ValueError(f"{len(outputs)} outputs for {len(references)} references")
    if not references:
        raise DataError("there is nothing to judge: give at least one output and its reference")
    ours, theirs = [units(text) for text in outputs], [units(text) for text in references]
    commonest, identical = _commonest(outputs)
    return OutputStatistics(
        empty=_empty(ours),
        repetition=repetition(ours),
        length_ratio=sum(map(len, ours)) / max(1, sum(map(len, theirs))),
        identical=identical,
        commonest=commonest,
        usual_empty=_empty(theirs),
        usual_repetition=repetition(theirs),
        usual_identical=_commonest(references)[1],
    )


@dataclass(frozen=True)
class OutputFaults:
    """Shares (0 to 1) of outputs with a fault, each output judged by itself. A unit is as in `OutputStatistics`."""

    empty: float
    """Without any unit."""
    repeated: float
    """More than 0.3 of its 4-grams were in it before, or it is a short loop and its reference is none: see
    `is_loop`."""
    copied: float
    """It is its source, but for less than a tenth: twice the units in common over the units of both is above 0.9."""
    wrong_length: float
    """Less than a third or more than three times as long as its reference; empty outputs are not counted again."""


def count_faults(outputs: Sequence[str], sources: Sequence[str], references: Sequence[str]) -> OutputFaults:
    """Count the outputs that one would not show to anybody.

    Raises DataError for an empty corpus, ValueError for unequal lengths.
    """
    if not outputs:
        raise DataError("there is nothing to judge: give at least one output and its reference")
    found = []
    for output, source, reference in zip(outputs, sources, references, strict=True):
        own, read, expected = map(units, (output, source, reference))
        found.append(
            (
                not own,
                repetition([own]) > LOOPING_SHARE or is_loop(output) and not is_loop(reference),
                2 * (Counter(own) & Counter(read)).total() > COPIED_CHRF * (len(own) + len(read)),
                bool(own) and not LENGTH_RATIO_BOUNDS[0] <= len(own) / max(1, len(expected)) <= LENGTH_RATIO_BOUNDS[1],
            )
        )
    return OutputFaults(*(sum(column) / len(found) for column in zip(*found, strict=True)))


def is_loop(text: str) -> bool:
    """Whether a text is little else than one word or phrase said again at once: "Hello hello", "h h h", "yes, yes yes".

    Capitals and punctuation do not matter. The repetitions make up more than half of the units, or all of them where
    there are only two. 4-grams do not see it in short texts.
    """
    said = [word for unit in units(text) if (word := _letters(unit))]
    # A doubled character is a word in Chinese, and so is a doubled syllable in many languages.
    shortest = 2 if NO_SPACES.search(text) else 1
    if _repeats(said, shortest) or len(said) == 1 and _repeats(list(said[0]), MIN_JOINED + 1):
        return True
    for length in range(1, len(said) // MIN_TIMES + 1):
        run = longest = 0
        for index in range(length, len(said)):
            run = run + 1 if said[index] == said[index - length] else 0
            longest = max(longest, run)
        if longest >= (MIN_TIMES - 1) * length and 2 * (longest + length) > len(said):
            return True
    return False


def _letters(unit: str) -> str:
    """Without capitals, and without what is neither letter, mark nor digit: marks are vowels in many scripts."""
    return "".join(c for c in unicodedata.normalize("NFKC", unit).casefold() if unicodedata.category(c)[0] in "LMN")


def _repeats(said: Sequence[str], shortest: int) -> bool:
    """Whether the whole is one part, of at least `shortest` units, again and again."""
    lengths = range(shortest, len(said) // 2 + 1)
    return any(len(said) % length == 0 and said[:-length] == said[length:] for length in lengths)


def collapse(figures: OutputStatistics) -> str | None:
    """One line that says in words how a model in training has collapsed and what to change; None if it has not.

    Where the references themselves are empty, alike or repetitive, the outputs may be so too.
    """
    symptoms = []
    if figures.empty > max(COLLAPSE_SHARE, 2 * figures.usual_empty):
        symptoms.append(f"{figures.empty:.0%} of the outputs are empty")
    elif figures.identical > max(COLLAPSE_SHARE, 2 * figures.usual_identical):
        symptoms.append(
            f"{figures.identical:.0%} of the outputs are one and the same text, {_shorten(figures.commonest)}"
        )
    if figures.repetition > LOOPING_SHARE + figures.usual_repetition:
        symptoms.append(f"{figures.repetition:.0%} of the outputs is repetition within a text")
    lengths = f"the outputs are {figures.length_ratio:.2g} times as long as the references"
    if symptoms:
        symptoms += [lengths] if figures.length_ratio > LENGTH_RATIO_BOUNDS[1] else []
        remedy = "lower `optim.lr`, raise `optim.warmup_steps` or train longer"
        return f"the student has collapsed, or not begun to learn: {', '.join(symptoms)}: {remedy}"
    if figures.length_ratio < LENGTH_RATIO_BOUNDS[0]:
        return f"{lengths}: raise `eval.max_target_length`, `encode.max_target_length` or `eval.length_penalty`"
    if figures.length_ratio > LENGTH_RATIO_BOUNDS[1]:
        return f"{lengths}: train longer, or lower `eval.length_penalty` or `eval.max_target_length`"
    return None


def units(text: str) -> list[str]:
    """The words of a text; those of a script without spaces, and overlong ones, by their characters."""
    words = text.replace("<n>", "\n").split()
    if not NO_SPACES.search(text) and max(map(len, words), default=0) <= MAX_WORD_LENGTH:
        return words
    found: list[str] = []
    for word in words:
        if len(word) > MAX_WORD_LENGTH or NO_SPACES.search(word):
            found.extend(word)
        else:
            found.append(word)
    return found


def _empty(texts: Sequence[Sequence[str]]) -> float:
    return sum(not units for units in texts) / len(texts)


def repetition(texts: Sequence[Sequence[str]]) -> float:
    """Share of the texts' 4-grams that the same text has had before, 0 to 1; a text is a list of units."""
    total = distinct = 0
    for units in texts:
        ngrams = [tuple(units[i : i + NGRAM]) for i in range(len(units) - NGRAM + 1)]
        total += len(ngrams)
        distinct += len(set(ngrams))
    return (total - distinct) / max(1, total)


def _commonest(texts: Sequence[str]) -> tuple[str, float]:
    text, count = Counter(text.strip() for text in texts).most_common(1)[0]
    return text, count / len(texts)


def _shorten(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 3] + "...")
