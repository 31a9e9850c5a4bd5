"""The bytes that tokens stand for, of tokenizers whose tokens are pieces of the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def spellings(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[list[bytes]]:
    """The bytes of each token, once for each way of spelling that the tokens may be in: byte-level BPE (a letter for a
    byte) and SentencePiece ("▁" for a space, "<0x0A>" for a byte). Special tokens have none.

    Which way is the right one shows when the bytes are compared with the decoded text; both may be wrong.
    """
    special = set(tokenizer.all_special_ids) | {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    tokens = [None if number in special else tokenizer.convert_ids_to_tokens(number) for number in ids]
    ways: list[Callable[[str], bytes]] = [_piece]
    if all(set(token or "") <= _BYTES.keys() for token in tokens):
        ways.insert(0, _byte_level)
    return [[b"" if token is None else way(str(token)) for token in tokens] for way in ways]


def _byte_level(token: str) -> bytes:
    return bytes(_BYTES[character] for character in token)


def _piece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode("utf-8", "surrogatepass")
