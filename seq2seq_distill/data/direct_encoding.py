"""The libraries under a tokenizer's class, called directly: the same ids, many times faster.

The classes of transformers build a Python object for every text and, for Marian and M2M100, split texts one by one.
`TextEncoder` compares the ids on probe texts and on the first rows before it relies on these functions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from transformers import M2M100Tokenizer, MarianTokenizer, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import TARGET_TOKEN, special_tokens
from seq2seq_distill.utils.distributed import num_local_cores

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
        encode_pieces = _sentencepiece(tokenizer.current_spm, tokenizer.current_encoder, str(tokenizer.unk_token))
        ids = tokenizer.current_encoder
    unknown, end = ids[str(tokenizer.unk_token)], tokenizer.eos_token_id

    def encode(texts: Sequence[str]) -> list[list[int]]:
        opening = [match and match[0] for match in map(TARGET_TOKEN.match, texts)]
        if not any(opening):
            return [[*row, end] for row in encode_pieces(texts)]
        rows = encode_pieces([text[len(code or "") :] for code, text in zip(opening, texts, strict=True)])
        heads = [[] if code is None else [ids.get(code, unknown)] for code in opening]
        return [[*head, *row, end] for head, row in zip(heads, rows, strict=True)]

    return encode


def _of_m2m100(tokenizer: Any, side: Side) -> Encode:
    with _mode(tokenizer, side):
        head, tail = list(tokenizer.prefix_tokens), list(tokenizer.suffix_tokens)
    encode_pieces = _sentencepiece(tokenizer.sp_model, tokenizer.encoder, str(tokenizer.unk_token))
    return lambda texts: [[*head, *row, *tail] for row in encode_pieces(texts)]


def _sentencepiece(pieces: Any, ids: Mapping[str, int], unknown_token: str) -> Callable[[Sequence[str]], list[Any]]:
    """Ids of texts by a SentencePiece model whose pieces have other ids in a vocabulary."""
    unknown, threads = ids[unknown_token], num_local_cores()
    id_of = [ids.get(pieces.id_to_piece(piece), unknown) for piece in range(pieces.get_piece_size())].__getitem__
    lost = pieces.unk_id()

    def encode(texts: Sequence[str]) -> list[Any]:
        rows = pieces.encode(list(texts), num_threads=threads)
        # What the model does not know it gives back as it stands, and the vocabulary may know it.
        numbers = [number for number, row in enumerate(rows) if lost in row]
        found: list[Any] = [map(id_of, row) for row in rows]
        for number, row in zip(numbers, pieces.encode([texts[n] for n in numbers], out_type=str), strict=True):
            found[number] = [ids.get(piece, unknown) for piece in row]
        return found

    return encode
