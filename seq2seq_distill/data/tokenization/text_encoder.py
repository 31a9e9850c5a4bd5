"""Texts to token ids: prefix, truncation, and what a tokenizer does not know or takes for more than text."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.languages import TARGET_TOKEN, special_tokens
from seq2seq_distill.data.tokenization.direct_encoding import direct_encoder
from seq2seq_distill.data.tokenization.token_rows import TokenRows
from seq2seq_distill.data.tokenization.tokenizer_comparison import PROBES
from seq2seq_distill.utils.distributed import num_local_cores

Resample = Callable[[int, list[int]], list[int]]
"""From the number of a text and its token ids, without special tokens and prefix, to other ids of the same text."""
FIRST_ROWS = 64
"""Rows on which the library under a tokenizer's class is compared with the class."""


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of some texts, and what was lost on the way; a list has an entry for each text."""

    rows: TokenRows
    """Special tokens included."""
    truncated: list[bool]
    """Whether the text was longer than the limit."""
    unknown: list[int]
    """Number of unknown tokens."""
    lost: list[str]
    """The characters, each once, for which there is no token but the unknown one."""
    literal: list[bool]
    """Whether the name of a special token was read as that token, since the tokenizer cannot do otherwise."""

    @property
    def ids(self) -> list[list[int]]:
        """The rows as lists."""
        return self.rows.to_lists()


class TextEncoder:
    """Encodes the texts of one side.

    Special tokens that a text names ("</s>", "<pad>", "deu_Latn") are text. Those of the prefix, and a target token
    (">>deu<<", "<2de>") that opens a source, are tokens. A source that opens with a target token of its own gets no
    other one as prefix.

    Args:
        tokenizer: its languages are set.
        side: "text" for sources, "text_target" for targets.
        max_length: most tokens, special ones included; longer texts lose their end, not the special tokens. None for
            any.
        prefix: put before each text.
        threads: of SentencePiece; by default one for each core of this process.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        side: Literal["text", "text_target"] = "text",
        max_length: int | None = None,
        prefix: str = "",
        *,
        threads: int | None = None,
    ) -> None:
        self._tokenizer, self._side, self._max_length, self._prefix = tokenizer, side, max_length, prefix
        specials = special_tokens(tokenizer)
        self._special_ids = {*map(tokenizer.convert_tokens_to_ids, specials)} - {tokenizer.unk_token_id}
        self._special = re.compile("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) or "(?!)")
        self._has_token: dict[str, bool] = {}
        self._direct = direct_encoder(tokenizer, side, threads or num_local_cores())
        self._is_shown = False

    def encode(self, texts: Sequence[str], resample: Resample | None = None) -> EncodedTexts:
        """Encode texts, in order; with `resample`, by the tokens that it gives, which are cut after that."""
        if not texts:
            return EncodedTexts(TokenRows.from_lists([]), [], [], [], [])
        prefixed = [self._prefix_of(text) + text for text in texts] if self._prefix else list(texts)
        rows, truncated = self._whole(prefixed) if resample is None else self._resampled(prefixed, resample)
        literal = [False] * len(texts)
        named = pc.match_substring_regex(pa.array(texts, pa.string()), self._special.pattern)
        framed = {}
        for number in np.flatnonzero(named).tolist():
            text = texts[number]
            opening, body = self._as_text(self._prefix_of(text), text)
            if self._special_ids.intersection(body):
                literal[number] = True
            framed[number], truncated[number] = self._framed(opening + body)
        rows = rows.replaced(framed)
        unknown = [0] * len(texts) if self._unknown_id is None else rows.count(self._unknown_id).tolist()
        lost = [self._lost(text) if count else "" for text, count in zip(texts, unknown, strict=True)]
        return EncodedTexts(rows, truncated, unknown, lost, literal)

    def _prefix_of(self, text: str) -> str:
        has_target_token = TARGET_TOKEN.match(self._prefix) and TARGET_TOKEN.match(text)
        return "" if has_target_token else self._prefix

    def _call(self, texts: list[str], **options: Any) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(**{self._side: texts}, **options)["input_ids"]
        if self._tokenizer.is_fast:  # what a call sets stays, and would be saved with the tokenizer
            self._tokenizer.backend_tokenizer.no_truncation()
            self._tokenizer.backend_tokenizer.encode_special_tokens = False
        return ids

    def _whole(self, texts: list[str]) -> tuple[TokenRows, list[bool]]:
        if self._direct is not None:
            self._show_direct(texts)
        if self._direct is not None:
            return self._cut(self._direct(texts))
        ids, truncated = self._by_class(texts)
        return TokenRows.from_lists(ids), truncated

    def _resampled(self, texts: list[str], resample: Resample) -> tuple[TokenRows, list[bool]]:
        limit, self._max_length = self._max_length, None
        try:
            whole = self._whole(texts)[0].to_lists()
        finally:
            self._max_length = limit
        head, tail = map(len, self._frame)
        opening = self._call([self._prefix], add_special_tokens=False)[0] if self._prefix else []
        rows = []
        for number, row in enumerate(whole):
            body = row[head : len(row) - tail]
            fixed = len(opening) if body[: len(opening)] == opening else 0
            rows.append(self._framed([*body[:fixed], *resample(number, body[fixed:])]))
        return TokenRows.from_lists([row for row, _ in rows]), [is_cut for _, is_cut in rows]

    def _show_direct(self, texts: list[str]) -> None:
        """Compare the library with the class, on probe texts and on the first rows; give it up where they differ."""
        if not self._is_shown:
            self._is_shown = True
            tried = [text for text in [*PROBES, *texts[:FIRST_ROWS]] if not self._special.search(text)]
            assert self._direct is not None
            rows, truncated = self._cut(self._direct(tried))
            if (rows.to_lists(), truncated) != self._by_class(tried):
                self._direct = None

    def _cut(self, rows: TokenRows) -> tuple[TokenRows, list[bool]]:
        """Rows of at most the limit, special tokens kept, and whether they were longer."""
        if self._max_length is None:
            return rows, [False] * len(rows.lengths)
        head, tail = map(len, self._frame)
        room = max(0, self._max_length - head - tail)
        from_left = self._tokenizer.truncation_side == "left"
        cut = rows.cut(head, room + tail) if from_left else rows.cut(head + room, tail)
        return cut, (rows.lengths > self._max_length).tolist()

    def _by_class(self, texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        if self._max_length is None:
            return self._call(texts), [False] * len(texts)
        ids = self._call(texts, max_length=self._max_length, truncation=True)
        truncated = [False] * len(ids)
        # A row of the full length was cut or fits exactly: room for one more token tells which.
        full = [index for index, row in enumerate(ids) if len(row) >= self._max_length]
        if full:
            longer = self._call([texts[index] for index in full], max_length=self._max_length + 1, truncation=True)
            for index, row in zip(full, longer, strict=True):
                truncated[index] = len(row) > self._max_length
        return ids, truncated

    def _as_text(self, opening: str, text: str) -> tuple[list[int], list[int]]:
        """Ids of special tokens that open a text, and of the text, in which there are none; both without the frame."""
        if not opening and (match := TARGET_TOKEN.match(text)):
            opening, text = match[0], text[match.end() :]
        options: dict[str, Any] = {"add_special_tokens": False}
        if not self._special.search(opening):
            return [], self._call([opening + text], split_special_tokens=True, **options)[0]
        return self._call([opening], **options)[0], self._call([text], split_special_tokens=True, **options)[0]

    def _framed(self, body: list[int]) -> tuple[list[int], bool]:
        """A body between the special tokens that every text has, cut to the limit."""
        head, tail = self._frame
        room = len(body) if self._max_length is None else max(0, self._max_length - len(head) - len(tail))
        from_left = self._tokenizer.truncation_side == "left"
        kept = body[max(0, len(body) - room) :] if from_left else body[:room]
        return [*head, *kept, *tail], len(body) > room

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        [whole], [bare] = self._call(["a"]), self._call(["a"], add_special_tokens=False)
        start = next(index for index in range(len(whole)) if whole[index : index + len(bare)] == bare)
        return whole[:start], whole[start + len(bare) :]

    @cached_property
    def _unknown_id(self) -> int | None:
        token = self._tokenizer.unk_token
        vocabulary: dict[str, int] | None = getattr(self._tokenizer, "target_encoder", None)
        if self._side == "text_target" and vocabulary is not None:  # Marian's, of targets alone
            return vocabulary[str(token)]
        return None if token is None else self._tokenizer.unk_token_id

    def _lost(self, text: str) -> str:
        characters = dict.fromkeys("".join(text.split()))
        new = [character for character in characters if character not in self._has_token]
        if new:
            rows = self._call(new, add_special_tokens=False, split_special_tokens=True)
            self._has_token |= {
                character: self._unknown_id not in row for character, row in zip(new, rows, strict=True)
            }
        return "".join(character for character in characters if not self._has_token[character])
