"""The libraries under a tokenizer's class, called directly: the same ids, many times faster.

The classes of transformers build a Python object for every text and, for Marian and M2M100, split texts one by one.
`TextEncoder` compares the ids on probe texts and on the first rows before it relies on these functions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from transformers import M2M100Tokenizer, MarianTokenizer, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import TARGET_TOKEN, special_tokens
from seq2seq_distill.data.tokenization.token_rows import TokenRows

Side = Literal["text", "text_target"]
Encode = Callable[[Sequence[str]], TokenRows]


def direct_encoder(tokenizer: PreTrainedTokenizerBase, side: Side, threads: int) -> Encode | None:
    """Gives the ids of texts, special tokens included, nothing cut; None where the class does all by itself.

    SentencePiece takes `threads`; the Rust library takes all cores, unless TOKENIZERS_PARALLELISM is false.
    """
    if tokenizer.is_fast:
        return _of_tokenizers(tokenizer, side)
    if any(str(token) not in special_tokens(tokenizer) for token in tokenizer.added_tokens_encoder):
        return None  # added words are split off before SentencePiece sees the text
    if type(tokenizer) is MarianTokenizer:
        return _of_marian(tokenizer, side, threads)
    if type(tokenizer) is M2M100Tokenizer:
        return _of_m2m100(tokenizer, side, threads)
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

    def encode(texts: Sequence[str]) -> TokenRows:
        with _mode(tokenizer, side):
            backend.no_truncation()
            backend.no_padding()
            return TokenRows.from_lists([encoding.ids for encoding in backend.encode_batch_fast(list(texts))])

    return encode


def _of_marian(tokenizer: Any, side: Side, threads: int) -> Encode:
    with _mode(tokenizer, side):
        encode_pieces = _sentencepiece(
            tokenizer.current_spm, tokenizer.current_encoder, str(tokenizer.unk_token), threads
        )
        ids = tokenizer.current_encoder
    unknown, end = ids[str(tokenizer.unk_token)], tokenizer.eos_token_id

    def encode(texts: Sequence[str]) -> TokenRows:
        opening = [match and match[0] for match in map(TARGET_TOKEN.match, texts)]
        if not any(opening):
            return encode_pieces(texts).between([], [end])
        rows = encode_pieces([text[len(code or "") :] for code, text in zip(opening, texts, strict=True)]).to_lists()
        heads = [[] if code is None else [ids.get(code, unknown)] for code in opening]
        return TokenRows.from_lists([[*head, *row, end] for head, row in zip(heads, rows, strict=True)])

    return encode


def _of_m2m100(tokenizer: Any, side: Side, threads: int) -> Encode:
    with _mode(tokenizer, side):
        head, tail = list(tokenizer.prefix_tokens), list(tokenizer.suffix_tokens)
    encode_pieces = _sentencepiece(tokenizer.sp_model, tokenizer.encoder, str(tokenizer.unk_token), threads)
    return lambda texts: encode_pieces(texts).between(head, tail)


def _sentencepiece(pieces: Any, ids: Mapping[str, int], unknown_token: str, threads: int) -> Encode:
    """Ids of texts by a SentencePiece model whose pieces have other ids in a vocabulary."""
    unknown, lost = ids[unknown_token], pieces.unk_id()
    id_of = np.array([ids.get(pieces.id_to_piece(piece), unknown) for piece in range(pieces.get_piece_size())])

    def encode(texts: Sequence[str]) -> TokenRows:
        rows = TokenRows.from_lists(pieces.encode(list(texts), num_threads=threads))
        found = TokenRows(id_of[rows.values], rows.lengths)
        # What the model does not know it gives back as it stands, and the vocabulary may know it.
        numbers = np.flatnonzero(rows.count(lost)).tolist()
        again = pieces.encode([texts[number] for number in numbers], out_type=str)
        known = ([ids.get(piece, unknown) for piece in row] for row in again)
        return found.replaced(dict(zip(numbers, known, strict=True)))

    return encode
