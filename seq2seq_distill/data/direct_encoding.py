"""The libraries under a tokenizer's class, called directly: the same ids, many times faster.

The classes of transformers build a Python object for every text and, for Marian and M2M100, split texts one by one.
`TextEncoder` compares the ids on probe texts and on the first rows before it relies on these functions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from transformers import M2M100Tokenizer, MarianTokenizer, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import TARGET_TOKEN, special_tokens

Side = Literal["text", "text_target"]
Encode = Callable[[Sequence[str]], list[list[int]]]


def direct_encoder(tokenizer: PreTrainedTokenizerBase, side: Side) -> Encode | None:
    """Gives the ids of texts, special tokens included, nothing cut; None where the class does all by itself."""
    if tokenizer.is_fast:
        return _of_tokenizers(tokenizer, side)
    if any(str(token) not in special_tokens(tokenizer) for token in tokenizer.added_tokens_encoder):
        return None  # added words are split off before SentencePiece sees the text
    if type(tokenizer) is MarianTokenizer:
        return _of_marian(tokenizer, side)
    if type(tokenizer) is M2M100Tokenizer:
        return _of_m2m100(tokenizer, side)
    return None


@contextmanager
def _mode(tokenizer: Any, side: Side) -> Iterator[None]:
    """The tokenizer in the mode of a side; languages and vocabularies depend on it."""
    switches = side == "text_target" and hasattr(tokenizer, "_switch_to_target_mode")
    if switches:
        tokenizer._switch_to_target_mode()
    try:
        yield
    finally:
        if switches:
            tokenizer._switch_to_input_mode()


def _of_tokenizers(tokenizer: PreTrainedTokenizerBase, side: Side) -> Encode:
    backend = tokenizer.backend_tokenizer

    def encode(texts: Sequence[str]) -> list[list[int]]:
        with _mode(tokenizer, side):
            backend.no_truncation()
            backend.no_padding()
            return [encoding.ids for encoding in backend.encode_batch_fast(list(texts))]

    return encode


def _of_marian(tokenizer: Any, side: Side) -> Encode:
    with _mode(tokenizer, side):
        pieces, ids = tokenizer.current_spm, tokenizer.current_encoder
    unknown, end = ids[str(tokenizer.unk_token)], tokenizer.eos_token_id

    def encode(texts: Sequence[str]) -> list[list[int]]:
        opening = [match and match[0] for match in map(TARGET_TOKEN.match, texts)]
        rest = [text[len(code or "") :] for code, text in zip(opening, texts, strict=True)]
        rows = [[ids.get(piece, unknown) for piece in row] for row in pieces.encode(rest, out_type=str)]
        heads = [[] if code is None else [ids.get(code, unknown)] for code in opening]
        return [[*head, *row, end] for head, row in zip(heads, rows, strict=True)]

    return encode


def _of_m2m100(tokenizer: Any, side: Side) -> Encode:
    with _mode(tokenizer, side):
        head, tail = list(tokenizer.prefix_tokens), list(tokenizer.suffix_tokens)
    ids, pieces = tokenizer.encoder, tokenizer.sp_model
    unknown = ids[str(tokenizer.unk_token)]

    def encode(texts: Sequence[str]) -> list[list[int]]:
        rows = pieces.encode(list(texts), out_type=str)
        return [[*head, *(ids.get(piece, unknown) for piece in row), *tail] for row in rows]

    return encode
