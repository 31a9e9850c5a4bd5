"""Texts of several sentences, decoded sentence by sentence."""

from collections.abc import Sequence

from sentencex import segment

from seq2seq_distill.data.languages import base_language
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.decoding.text_generator import Outputs, TextGenerator

WITHOUT_SPACES = ("zh", "ja")
"""Languages that put no space between sentences."""


def split_sentences(text: str, language: str | None) -> list[str]:
    """The sentences of a text; by the rules of English where its language is not known."""
    # sentencex 1.0.32 panics at a no-break space behind an initial.
    found = segment(base_language(language) if language else "en", " ".join(text.split()))
    return [sentence for sentence in map(str.strip, found) if sentence]


def generate_by_sentence(generator: TextGenerator, texts: Sequence[str]) -> Outputs:
    """The output of each text, joined of those of its sentences; its score is the mean of theirs."""
    options = generator.options
    parts = [split_sentences(text, options.src_lang) for text in texts]
    outputs = generator.generate([sentence for sentences in parts for sentence in sentences])
    space = "" if options.tgt_lang and base_language(options.tgt_lang) in WITHOUT_SPACES else " "
    rows = iter(zip(outputs.hypotheses, outputs.truncated, strict=True))
    joined, truncated = [], []
    for sentences in parts:
        own = [next(rows) for _ in sentences]
        joined.append([_joined([best for (best, *_), _ in own], space)])
        truncated.append(any(is_cut for _, is_cut in own))
    return Outputs(joined, truncated)


def _joined(parts: Sequence[Hypothesis], space: str) -> Hypothesis:
    scores = [part.score for part in parts if part.score is not None]
    return Hypothesis(
        text=space.join(part.text for part in parts if part.text),
        ids=tuple(token for part in parts for token in part.ids),
        num_tokens=sum(part.num_tokens for part in parts),
        at_limit=any(part.at_limit for part in parts),
        score=sum(scores) / len(scores) if scores else None,
    )
