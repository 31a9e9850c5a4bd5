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
from types import TracebackType
from typing import Any, Self

from seq2seq_distill.data.readers.parquet import SOURCE_HASH, text_hash
from seq2seq_distill.decoding.language_model.answers import Answer, TokenScores
from seq2seq_distill.decoding.language_model.client import Spent
from seq2seq_distill.utils.errors import DataError

SYNCED = 256
"""Lines after which the file is synced to disk: a kill loses none of them, a power failure these at most."""


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
    """The answers to the rows of a shard; a context manager that is entered to add some.

    Args:
        path: of the file.
        request: fingerprint of all that requests depend on besides the source.
    """

    def __init__(self, path: Path, request: str) -> None:
        self._path, self._request = path, request
        self._file: int | None = None
        self._unsynced = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(exist_ok=True)
        self._drop_torn_line()
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        os.fsync(self._file)
        os.close(self._file)
        self._file = None

    def add(self, row: int, source: str, entry: Entry) -> None:
        """Write the answers to a row."""
        assert self._file is not None
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
        line = memoryview(json.dumps(record).encode() + b"\n")
        while line:
            line = line[os.write(self._file, line) :]
        self._unsynced += 1
        if self._unsynced >= SYNCED:
            os.fsync(self._file)
            self._unsynced = 0

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

    def _drop_torn_line(self) -> None:
        if not self._path.exists():
            return
        with open(self._path, "rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)


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
