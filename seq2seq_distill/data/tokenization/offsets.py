"""Where the tokens of a text end, in UTF-8 bytes of the text: what tokenizers of all kinds have in common."""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import M2M100Tokenizer, MarianTokenizer, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import special_tokens
from seq2seq_distill.utils.errors import ModelError

Ends = NDArray[np.int64]
NO_TEXT = -1
"""End of a special token other than the end of the sequence."""

_Pieces = Callable[[Sequence[str]], list[tuple[list[int], Ends]]]
"""Ids and ends of the tokens of texts, without special tokens."""


def byte_offsets(text: str) -> Ends:
    """UTF-8 bytes before each character, and of the whole text, [characters + 1]."""
    if text.isascii():
        return np.arange(len(text) + 1)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (codes >= 1 << 7).astype(np.int64) + (codes >= 1 << 11) + (codes >= 1 << 16)
    return np.concatenate([[0], np.cumsum(widths)])


class TargetOffsets:
    """Ends of the tokens of targets that a tokenizer has encoded.

    Args:
        tokenizer: its languages are set.

    Raises:
        ModelError: its class tells no offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._pieces = _pieces(tokenizer)
        ids = map(tokenizer.convert_tokens_to_ids, special_tokens(tokenizer))
        self._special = {*ids} - {tokenizer.unk_token_id}
        self._end = tokenizer.eos_token_id

    def ends(self, texts: Sequence[str], labels: Iterable[Sequence[int] | NDArray[np.integer]]) -> list[Ends | None]:
        """The end of each label, [labels of the text] each.

        Special tokens end at `NO_TEXT`, but the end of the sequence one byte behind the text, unless the text was cut.
        A token of no width ends where the next one does. None stands for a text that reads otherwise than its labels,
        such as one that names special tokens.
        """
        pairs = zip(texts, labels, self._pieces(texts), strict=True)
        return [self._ends(text, list(own), *pieces) for text, own, pieces in pairs]

    def _ends(self, text: str, labels: list[int], body: list[int], body_ends: Ends) -> Ends | None:
        head = len(list(takewhile(self._special.__contains__, labels)))
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(labels[head:], body, strict=False)))
        tail = labels[head + kept :]
        if not self._special.issuperset(tail) or len(body_ends) != len(body):
            return None
        ends = np.full(len(labels), NO_TEXT)
        ends[head : head + kept] = body_ends[:kept]
        if kept == len(body) and self._end in tail:
            ends[head + kept + tail.index(self._end)] = len(text.encode()) + 1
        return ends


def _pieces(tokenizer: PreTrainedTokenizerBase) -> _Pieces:
    if tokenizer.is_fast:
        return _of_bytes(tokenizer) if _is_byte_level(tokenizer) else _of_spans(tokenizer)
    if type(tokenizer) is MarianTokenizer:
        own: Any = tokenizer
        return _of_sentencepiece(own.spm_target, own.target_encoder if own.separate_vocabs else own.encoder, own)
    if type(tokenizer) is M2M100Tokenizer:
        return _of_sentencepiece(tokenizer.sp_model, tokenizer.encoder, tokenizer)
    raise ModelError(
        f"`loss.alpha_chunk`: a {type(tokenizer).__name__} does not tell where in a text its tokens are: set it to 0, "
        "or choose a student with another tokenizer"
    )


def _is_byte_level(tokenizer: Any) -> bool:
    decoder = tokenizer.backend_tokenizer.decoder
    state = {} if decoder is None else json.loads(decoder.__getstate__())
    return any(part["type"] == "ByteLevel" for part in (state, *state.get("decoders", ())) if part)


def _of_bytes(tokenizer: Any) -> _Pieces:
    """Each character of a token stands for a byte, so that tokens which end inside a character tell where."""

    def encode(texts: Sequence[str]) -> list[tuple[list[int], Ends]]:
        rows = tokenizer(text_target=list(texts), add_special_tokens=False)["input_ids"]
        return [(ids, ends_of(text, ids)) for text, ids in zip(texts, rows, strict=True)]

    def ends_of(text: str, ids: list[int]) -> Ends:
        ends = np.cumsum([len(token) for token in tokenizer.convert_ids_to_tokens(ids)], dtype=np.int64)
        added = (ends[-1] if len(ends) else 0) - len(text.encode())  # a space in front, or the text was changed
        return (ends - added).clip(min=0) if added in (0, 1) else ends[:0]

    return encode


def _of_spans(tokenizer: Any) -> _Pieces:
    def encode(texts: Sequence[str]) -> list[tuple[list[int], Ends]]:
        encoded = tokenizer(text_target=list(texts), add_special_tokens=False, return_offsets_mapping=True)
        rows = zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [(ids, _ends(byte_offsets(text)[np.asarray(spans).reshape(-1, 2)])) for text, ids, spans in rows]

    return encode


def _of_sentencepiece(model: Any, ids: Any, tokenizer: Any) -> _Pieces:
    unknown = ids[str(tokenizer.unk_token)]

    def encode(texts: Sequence[str]) -> list[tuple[list[int], Ends]]:
        rows = [proto.pieces for proto in model.encode(list(texts), return_type="proto")]
        return [
            (
                [ids.get(piece.piece, unknown) for piece in pieces],
                _ends(np.array([(piece.begin, piece.end) for piece in pieces], dtype=np.int64).reshape(-1, 2)),
            )
            for pieces in rows
        ]

    return encode


def _ends(spans: NDArray[np.int64]) -> Ends:
    """Ends [n] of tokens from their first and last bytes, [n, 2].

    Spans may be empty, alike (the bytes of a character) or overlap (a mark of a space, and the word behind it): a token
    ends at the latest where the next one begins, and one without width belongs to the next.
    """
    ends = spans[:, 1].copy()
    for number in range(len(ends) - 2, -1, -1):
        ends[number] = min(ends[number], spans[number + 1, 0])
        if ends[number] <= spans[number, 0]:
            ends[number] = ends[number + 1]
    return np.minimum.accumulate(ends[::-1])[::-1]
