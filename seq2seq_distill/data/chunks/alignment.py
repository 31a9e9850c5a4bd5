"""Two tokenisations of one text, in chunks at whose ends tokens of both end.

A teacher's log-probability of a chunk is comparable with a student's only where both are about to begin a word: else
the chunk's last token also says what does not follow. Without the teacher's distributions, which would tell how likely
a word ends, chunks are whole words.
"""

import re
import unicodedata
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from seq2seq_distill.data.tokenization.offsets import Ends, byte_offsets
from seq2seq_distill.utils.constants import NO_SPACES

_ANY = NO_SPACES.pattern
_WORD_END = re.compile(rf"(?<=\S)(?=\s)|(?<={_ANY})(?=\S)|(?<=\S)(?={_ANY})")


def word_ends(text: str) -> set[int]:
    """Where words of a text end, in UTF-8 bytes, its own end included.

    A word ends before white space, with its punctuation. In scripts without spaces (`NO_SPACES`) each character, with
    the marks on it, is a word.
    """
    offsets = byte_offsets(text)
    places = [match.start() for match in _WORD_END.finditer(text)]
    return {int(offsets[place]) for place in places if unicodedata.category(text[place])[0] != "M"} | {int(offsets[-1])}


def align(
    text: str, teacher_ends: Ends | NDArray[np.int32], log_probabilities: NDArray[np.floating], student_ends: Ends
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The chunk of each token of the student's, [student's tokens], and the teacher's log-probability of each chunk.

    Chunks follow each other without gaps from the first token of the text on, to the last place where both
    tokenisations are at the end of a word; tokens behind it, such as those of a word that was cut, are in none (-1).
    The end of the sequence is a chunk by itself, where both have it.

    Args:
        text: that both have encoded.
        teacher_ends: [T], where the teacher's tokens end in UTF-8 bytes of the text, ascending; the end of the sequence
            ends one byte behind the text.
        log_probabilities: [T], of the teacher's tokens.
        student_ends: the student's, likewise; below 0 for special tokens, before and behind all others.
    """
    numbers = np.full(len(student_ends), -1, dtype=np.int32)
    inside = np.flatnonzero(student_ends >= 0)
    size, without_space = (len(part.encode()) for part in (text, text.rstrip()))
    first = int(inside[0]) if len(inside) else 0
    student, teacher = (
        [size if without_space <= end <= size else end for end in ends.tolist()]
        for ends in (student_ends[inside], teacher_ends)
    )
    common = {*student} & {*teacher}
    meeting = sorted(common & word_ends(text)) + [size + 1] * ({size, size + 1} <= common)
    stops = [bisect_right(student, end) for end in meeting]
    for number, (start, stop) in enumerate(zip([0, *stops], stops, strict=False)):
        numbers[first + start : first + stop] = number
    sums = np.concatenate([[0.0], np.cumsum(log_probabilities, dtype=np.float64)])
    totals = sums[[bisect_right(teacher, end) for end in meeting]] if meeting else sums[:0]
    return numbers, np.diff(totals, prepend=0.0).astype(np.float32)
