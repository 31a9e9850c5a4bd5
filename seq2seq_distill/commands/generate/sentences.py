"""Texts of several sentences, decoded sentence by sentence."""

from collections.abc import Sequence

from seq2seq_distill.data.sentences import space_between, split_sentences
from seq2seq_distill.decoding.decoder import Hypothesis
from seq2seq_distill.decoding.text_generator import Outputs, TextGenerator


def generate_by_sentence(generator: TextGenerator, texts: Sequence[str]) -> Outputs:
    """The output of each text, joined of those of its sentences; its score is the mean of theirs."""
    options = generator.options
    lines = (" ".join(text.split()) for text in texts)
    parts = [[sentence for sentence, _ in split_sentences(line, options.src_lang)] for line in lines]
    outputs = generator.generate([sentence for sentences in parts for sentence in sentences])
    space = space_between(options.tgt_lang)
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
