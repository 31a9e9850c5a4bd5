"""ROUGE beside rouge-score: equal scores on the given data, and the time for long texts.

python -m benchmarks.rouge demo:summarization [FOLDER ...]
"""

import random
import sys
import time

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from seq2seq_distill import demo
from seq2seq_distill.data.sources import load_split
from seq2seq_distill.metrics.corpus import ROUGE, rouge_per_example
from seq2seq_distill.metrics.rouge import _sentences

WORDS, PAIRS = 800, 500


def peer(prediction: str, reference: str, keys: tuple[str, ...] = ROUGE) -> dict[str, float]:
    """rouge-score's F-measures, with sentences split as here."""
    scorer = RougeScorer(list(keys), tokenizer=DefaultTokenizer(use_stemmer=True))
    lines = ["\n".join(_sentences(text)) for text in (reference, prediction)]
    return {key: 100 * score.fmeasure for key, score in scorer.score(*lines).items()}


def largest_difference(source: str) -> tuple[int, float]:
    """Number of test pairs, and the largest difference of any score; a target's prediction is another row's target."""
    targets = load_split(demo.data_source(source), "test")["target"][:]
    predictions = [f"{targets[row - 1]} {targets[row - 2]}" for row in range(len(targets))]
    ours = rouge_per_example(predictions, targets)
    gaps = [
        abs(ours[key][row] - value)
        for row, pair in enumerate(zip(predictions, targets, strict=True))
        for key, value in peer(*pair).items()
    ]
    return len(targets), max(gaps)


def long_texts(pairs: int) -> tuple[list[str], list[str]]:
    """Pairs of texts of 800 words, in sentences of 20, of a vocabulary of 2,000 words."""
    chance = random.Random(0)
    vocabulary = [f"{stem}{ending}" for stem in map(_word, range(500)) for ending in ("", "s", "ing", "ed")]
    texts = [
        " ".join(" ".join(chance.choices(vocabulary, k=20)).capitalize() + "." for _ in range(WORDS // 20))
        for _ in range(2 * pairs)
    ]
    return texts[:pairs], texts[pairs:]


def _word(number: int) -> str:
    letters = "bcdfghjklm"
    return "".join(letters[int(digit)] + "aeiou"[int(digit) % 5] for digit in f"{number:03d}")


def main() -> None:
    for source in sys.argv[1:]:
        rows, gap = largest_difference(source)
        print(f"{source}: {rows} test pairs, largest difference from rouge-score {gap:.1e}")
    predictions, references = long_texts(PAIRS)
    for keys in (ROUGE, ("rougeL",)):
        start = time.process_time()
        rouge_per_example(predictions, references, keys)
        ours = (time.process_time() - start) / PAIRS
        start = time.process_time()
        for pair in zip(predictions[:5], references[:5], strict=True):
            peer(*pair, keys)
        theirs = (time.process_time() - start) / 5
        print(
            f"{', '.join(keys)}: {1000 * ours:.1f} ms a pair of {WORDS} words, {PAIRS * ours:.1f} s for {PAIRS}; "
            f"rouge-score {1000 * theirs:.0f} ms: {theirs / ours:.0f} times"
        )


if __name__ == "__main__":
    main()
