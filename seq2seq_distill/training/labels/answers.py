"""From what a language model answers to the candidates of a shard, and what labelling it took."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from seq2seq_distill.config.labels import LabelConfig
from seq2seq_distill.decoding.language_model.answers import CLEANED, Answer, clean
from seq2seq_distill.decoding.language_model.client import Spent
from seq2seq_distill.training.labels.choice import Candidate
from seq2seq_distill.training.labels.shards import LabelFolder
from seq2seq_distill.utils.files import write_json


@dataclass
class Counts:
    """What the answers of a shard took, and what became of them."""

    spent: Spent = field(default_factory=Spent)
    answers: int = 0
    refused: int = 0
    """Rows whose prompt the model does not take: it is too long, or the server refuses it."""
    cleaned: Counter[str] = field(default_factory=Counter)
    """Answers from which each of `CLEANED` was taken off."""

    def __iadd__(self, other: Self) -> Self:
        self.spent += other.spent
        self.answers += other.answers
        self.refused += other.refused
        self.cleaned += other.cleaned
        return self

    def record(self) -> dict[str, Any]:
        """As plain values."""
        cleaned = {name: self.cleaned[name] for name in CLEANED}
        return {**asdict(self.spent), "answers": self.answers, "refused": self.refused, "cleaned": cleaned}


def counts_path(folder: LabelFolder, shard: int) -> Path:
    """Where the counts of a shard are."""
    return folder.path / "answers" / f"{shard:05d}.json"


def write_counts(folder: LabelFolder, shard: int, counts: Counts) -> None:
    """Keep the counts of a shard; this comes before its candidates are written."""
    path = counts_path(folder, shard)
    path.parent.mkdir(exist_ok=True)
    write_json(path, counts.record())


def counts_of(folder: LabelFolder, shards: Iterable[int] | None = None) -> Counts:
    """The counts of some shards together, or of all; those that are not there yet count nothing."""
    total = Counts()
    for path in (counts_path(folder, shard) for shard in (folder.shards if shards is None else shards)):
        if path.exists():
            record = json.loads(path.read_text("utf-8"))
            cleaned, answers, refused = (record.pop(name) for name in ("cleaned", "answers", "refused"))
            total += Counts(Spent(**record), answers, refused, Counter(cleaned))
    return total


def candidates_of(
    config: LabelConfig, sources: Sequence[str], answers: Sequence[Sequence[Answer]], counts: Counts
) -> list[list[Candidate]]:
    """The candidates of each source, cleaned; of those that are sampled the likeliest first, if all have scores.

    Args:
        config: of the command.
        sources: the texts.
        answers: to each; none for a prompt that was refused, which gives an empty target.
        counts: what is taken off answers is counted here.
    """
    found = []
    for source, row in zip(sources, answers, strict=True):
        candidates = [_candidate(config, source, answer, counts) for answer in row]
        if config.sample and all(candidate.score is not None for candidate in candidates):
            candidates.sort(key=lambda candidate: -(candidate.score or 0.0))
        counts.refused += not row
        found.append(candidates or [Candidate("", None, source_cut=True, target_cut=False)])
    return found


def _candidate(config: LabelConfig, source: str, answer: Answer, counts: Counts) -> Candidate:
    cleaned, names = clean(answer, source, one_line=config.task == "translation")
    counts.answers += 1
    counts.cleaned.update(names)
    scores = cleaned.scores
    score = answer.mean_log_probability if scores is None else fmean(scores.log_probabilities)
    tokens = (scores.log_probabilities, scores.ends) if config.logprobs and scores else (None, None)
    return Candidate(cleaned.text, score, None, False, cleaned.at_limit, *tokens)
