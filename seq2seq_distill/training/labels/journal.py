"""Answers of a server, kept as they come: a line of JSON for each row, in a file for each shard.

    answers/00000.jsonl   the answers to each row, in the order in which they came
    answers/00000.json    what a whole shard took, and what was taken off its answers

A line is written before anything else happens with an answer, so that a kill costs the requests in flight alone. Lines
name the source and the request by their hashes, which are checked whenever they are read.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seq2seq_distill.data.readers.parquet import SOURCE_HASH, text_hash
from seq2seq_distill.decoding.language_model.answers import Answer, TokenScores
from seq2seq_distill.decoding.language_model.client import Spent
from seq2seq_distill.utils.errors import DataError


@dataclass(frozen=True)
class Entry:
    """All answers to a row."""

    answers: Sequence[Answer]
    spent: Spent
    model: str
    fingerprint: str | None = None
    """Of the server."""
    rejected: str | None = None
    """Why the server refuses the row's prompt."""


class Journal:
    """The answers to the rows of a shard.

    Args:
        path: of the file.
        request: fingerprint of all that requests depend on besides the source.
    """

    def __init__(self, path: Path, request: str) -> None:
        self._path, self._request = path, request

    def add(self, row: int, source: str, entry: Entry) -> None:
        """Write the answers to a row: after a kill they are there, after a power failure perhaps not."""
        record = {
            "row": row,
            SOURCE_HASH: text_hash(source),
            "request": self._request,
            "model": entry.model,
            "fingerprint": entry.fingerprint,
            **asdict(entry.spent),
            "rejected": entry.rejected,
            "answers": [_answer_record(answer) for answer in entry.answers],
        }
        with open(self._path, "ab") as file:
            file.write(json.dumps(record).encode() + b"\n")

    def sync(self) -> None:
        """Make sure that what was written outlives a power failure."""
        with open(self._path, "rb+") as file:
            os.fsync(file.fileno())

    def open(self) -> None:
        """Make ready for further answers: the folder, and a file without a line that was torn by a kill."""
        self._path.parent.mkdir(exist_ok=True)
        with open(self._path, "ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)

    def read(self, sources: Mapping[int, str]) -> dict[int, Entry]:
        """The rows that have answers; a last line that was torn by a kill does not count.

        Args:
            sources: of the shard's rows, by row.

        Raises:
            DataError: a line is damaged, or of another source or request.
        """
        found: dict[int, Entry] = {}
        if not self._path.exists():
            return found
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = json.loads(line)
                    row, entry = record["row"], _entry(record)
                    names = (record[SOURCE_HASH], record["request"])
                except (ValueError, KeyError, TypeError):
                    raise DataError(f"{self._path} line {number} is damaged: remove the line") from None
                if row not in sources or names != (text_hash(sources[row]), self._request):
                    raise DataError(
                        f"{self._path} line {number} is of another source or prompt: remove the file, and run again"
                    )
                found[row] = entry
        return found


def _answer_record(answer: Answer) -> dict[str, Any]:
    scores = answer.scores
    return {
        "text": answer.text,
        "at_limit": answer.at_limit,
        "log_probabilities": scores and [round(value, 6) for value in scores.log_probabilities],
        "ends": scores and scores.ends,
        "mean_log_probability": answer.mean_log_probability,
    }


def _entry(record: Mapping[str, Any]) -> Entry:
    answers = [
        Answer(
            answer["text"],
            answer["at_limit"],
            answer["ends"] and TokenScores(tuple(answer["log_probabilities"]), tuple(answer["ends"])),
            answer["mean_log_probability"],
        )
        for answer in record["answers"]
    ]
    spent = Spent(*(record[name] for name in ("requests", "prompt_tokens", "completion_tokens")))
    return Entry(answers, spent, record["model"], record["fingerprint"], record["rejected"])
