"""Copying data: source = target = a few random words.

Random words cannot be learned by heart, so a model from scratch has to form attention to its source, which it then
keeps in a second stage of training on real pairs.
"""

import random
from collections.abc import Sequence

VERSION = 1
WORDS_PER_LINE = (3, 14)


def copy_lines(words: Sequence[str], rows: int, seed: int) -> list[str]:
    """`rows` lines of 3 to 14 `words` each, drawn evenly; the same for the same arguments."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(*WORDS_PER_LINE))) for _ in range(rows)]
