"""Documents as sentences that are translated one by one, and the translations as documents again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seq2seq_distill.data.sentences import space_between, split_sentences
from seq2seq_distill.training.labels.choice import Candidate


@dataclass(frozen=True)
class SplitTexts:
    """Texts as their sentences."""

    sentences: list[str]
    """Of all texts, one text after the other."""
    separators: list[list[str]]
    """Of each text, the white space behind each of its sentences."""

    def join(self, candidates: Sequence[Candidate], lengths: Sequence[int], language: str | None) -> list[Candidate]:
        """One candidate for each text, from those of its sentences.

        Args:
            candidates: of each sentence.
            lengths: tokens of each; a score is the mean over all tokens of a text.
            language: of the candidates: some put no space between sentences.
        """
        rows = iter(zip(candidates, lengths, strict=True))
        return [_joined([next(rows) for _ in separators], separators, language) for separators in self.separators]


def split_texts(texts: Sequence[str], language: str | None) -> SplitTexts:
    """The sentences of texts."""
    sentences: list[str] = []
    separators: list[list[str]] = []
    for text in texts:
        parts = split_sentences(text, language)
        sentences += [sentence for sentence, _ in parts]
        separators.append([separator for _, separator in parts])
    return SplitTexts(sentences, separators)


def _joined(rows: Sequence[tuple[Candidate, int]], separators: Sequence[str], language: str | None) -> Candidate:
    candidates, lengths = zip(*rows, strict=True)
    space = space_between(language)
    between = [text if "\n" in text else space for text in separators]
    text = "".join(each.text + separator for each, separator in zip(candidates, between, strict=True)).strip()
    score = sum((each.score or 0.0) * length for each, length in rows) / max(1, sum(lengths))
    return replace(
        candidates[0],
        text=text,
        score=score,
        source_cut=any(each.source_cut for each in candidates),
        target_cut=any(each.target_cut for each in candidates),
    )
