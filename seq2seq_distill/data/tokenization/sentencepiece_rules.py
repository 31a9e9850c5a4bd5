"""What a SentencePiece model does to a text, in terms of the Rust library `tokenizers`, which tokenizer.json holds."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from functools import cached_property, partial
from typing import Any
from unicodedata import category, combining, is_normalized, normalize

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from tokenizers import Regex, models, normalizers, pre_tokenizers

SPACE = "▁"
"""SentencePiece's mark of a space."""
UNKNOWN = "\uffff"
"""A character that no text and no vocabulary has."""
JOINED, BREAK = r"\p{M}\u200c\u200d\uff9e\uff9f\u0e33\u0eb3\n", "\ufff0"
"""Characters that Unicode joins to the one before, and one that no text has, which keeps them apart."""
AFTER_SYLLABLES = "(?<=[\uac00-\ud7a3])(?=[\u11a8-\u11c2])"
"""Before the final consonant of Hangul, after a whole syllable."""
UNK_PENALTY = 10.0
"""SentencePiece scores an unknown character by so much lower than its worst piece."""
NEVER = -1e4
"""Score of tokens that the model does not have: lower than that of any way to write one with pieces that it has."""

_protos: Any = sentencepiece_model_pb2  # its classes are made when it is imported
_PIECE = _protos.ModelProto.SentencePiece


class SentencePieceRules:
    """Normalizer, pre-tokenizer and model of a SentencePiece model whose pieces have other ids in a vocabulary.

    The vocabulary may have tokens that the model does not have, such as those of the target side.

    Args:
        processor: has the SentencePiece model.
        ids: the vocabulary.
        unk_token: its unknown token.
        specials: tokens of the vocabulary that are no text.
    """

    def __init__(
        self, processor: SentencePieceProcessor, ids: Mapping[str, int], unk_token: str, specials: Collection[str]
    ) -> None:
        self._processor, self._ids, self._unk_token, self._specials = processor, ids, unk_token, specials
        self._proto = _protos.ModelProto.FromString(processor.serialized_model_proto())
        self._trainer = self._proto.trainer_spec
        normal = {piece.piece: piece.score for piece in self._proto.pieces if piece.type == _PIECE.NORMAL}
        self._lowest, highest = min(normal.values()), max(normal.values())
        # The bonus makes SentencePiece choose a symbol of the user's wherever it stands.
        symbols = [piece.piece for piece in self._proto.pieces if piece.type == _PIECE.USER_DEFINED]
        self._scores = {**normal, **{symbol: len(symbol.encode()) * highest - 0.1 for symbol in symbols}}
        self._known = frozenset("".join(normal)) | {" "}
        self._symbols = [symbol for symbol in symbols if {*symbol} - self._known]

    @property
    def is_unigram(self) -> bool:
        """Whether the model takes the cut with the highest sum of scores; BPE merges pairs in order of theirs."""
        return bool(self._trainer.model_type == _protos.TrainerSpec.UNIGRAM)

    def score(self, token: str) -> float:
        """That of a piece, or of an unknown character."""
        return self._scores.get(token, self._lowest - UNK_PENALTY)

    def normalizer(self) -> normalizers.Normalizer:
        """The rules for characters and spaces; unknown characters in a row become one, as SentencePiece has it."""
        spec = self._proto.normalizer_spec
        parts: list[normalizers.Normalizer] = []
        if spec.precompiled_charsmap:
            parts += self._character_rules(spec.precompiled_charsmap)
        if spec.remove_extra_whitespaces:
            # Each engine of regular expressions has its own ^ and $.
            parts += [
                normalizers.Replace(Regex(r"(?<![\s\S]) +"), ""),
                normalizers.Replace(Regex(rf"[ {SPACE}]+(?![\s\S])"), ""),
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        if self._foreign:
            parts.append(normalizers.Replace(Regex(self._several_unknown()), UNKNOWN))
        if spec.add_dummy_prefix:
            parts.append(normalizers.Prepend(" "))
        return normalizers.Sequence(parts)

    def _character_rules(self, charsmap: bytes) -> list[normalizers.Normalizer]:
        # Of several characters that Unicode joins, the library applies the first rule that fits their start, and drops
        # the rest: so each is kept apart.
        parts: list[normalizers.Normalizer] = [
            normalizers.Replace(Regex(rf"(?<=[\s\S])(?=[{JOINED}])|{AFTER_SYLLABLES}"), BREAK),
            normalizers.Precompiled(charsmap),
        ]
        if self._processor.normalize("e\u0301").endswith("\u00e9"):
            # Rules for several characters (decomposed accents, Hangul, kana) make up NFC, which also sorts marks.
            parts += [normalizers.Replace(Regex(_breaks_within_letters()), ""), normalizers.NFC()]
        return [*parts, normalizers.Replace(BREAK, "")]

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """Cuts at spaces, unless pieces contain some."""
        return pre_tokenizers.Metaspace(
            SPACE, prepend_scheme="never", split=not any(SPACE in piece[1:] for piece in self._scores)
        )

    def model(self) -> models.Model:
        """Unigram or BPE."""
        fallback: dict[str, Any] = {"byte_fallback": self._trainer.byte_fallback}
        if not self.is_unigram:
            return models.BPE(dict(self._ids), self._merges(), unk_token=self._unk_token, fuse_unk=True, **fallback)
        used = {*self._scores, *self._foreign}
        ranked = sorted(self._ids, key=self._ids.__getitem__)
        vocabulary = [(token, self.score(token) if token in used else NEVER) for token in ranked]
        return models.Unigram(vocabulary, unk_id=self._ids[self._unk_token], **fallback)

    def _merges(self) -> list[tuple[str, str]]:
        """Each way to merge a piece from two, the best piece first."""
        ranked = sorted(self._scores, key=lambda piece: -self._scores[piece])
        halves = ((piece[:cut], piece[cut:]) for piece in ranked for cut in range(1, len(piece)))
        return [(left, right) for left, right in halves if left in self._scores and right in self._scores]

    @cached_property
    def _foreign(self) -> frozenset[str]:
        """Tokens without any character that the model knows: it hands these on, and the vocabulary knows them."""
        if self._trainer.byte_fallback:
            return frozenset()  # characters become bytes
        return frozenset(token for token in self._ids if token not in self._specials and not self._known & {*token})

    def _several_unknown(self) -> str:
        """Matches several unknown characters in a row, all there are, unless they are one token of the vocabulary."""
        other = f"[^{_escaped(''.join(sorted(self._known)), '-')}]"
        in_run = f"(?:(?!{_any_of(self._symbols)}){other})" if self._symbols else other
        tokens = [token for token in self._foreign if len(token) > 1]
        no_token = f"(?!{_any_of(tokens)}(?!{other}))" if tokens else ""
        return f"(?<!{other}){no_token}{in_run}{{2,}}"


def _breaks_within_letters() -> str:
    """Matches a break where a letter of several characters goes on: before marks that NFC joins with what precedes.

    Rules have letters in all their parts alone, in NFC's order: "ê" and a dot below stay two characters.
    """
    letters = filter(partial(is_normalized, "NFC"), map(chr, range(sys.maxunicode + 1)))
    parts_of = {letter: parts for letter in letters if len(parts := normalize("NFD", letter)) > 1}
    starts, ends = ({mark for p in parts_of.values() if category(mark := p[at]).startswith("M")} for at in (0, -1))
    whole = "".join(letter for letter, parts in parts_of.items() if parts[-1] in ends)
    patterns = []
    for order in sorted(set(map(combining, ends))):
        before = sorted(mark for mark in starts | ends if combining(mark) <= order)
        marks = sorted(mark for mark in ends if combining(mark) == order)
        patterns.append(rf"(?<=[^\p{{M}}{whole}]|[{''.join(before)}]){BREAK}(?=[{''.join(marks)}])")
    return "|".join(patterns)


def _any_of(texts: Collection[str]) -> str:
    return f"(?:{'|'.join(_escaped(text) for text in sorted(texts))})"


def _escaped(text: str, more: str = "") -> str:
    """As in `re.escape`, but with those escapes alone that JavaScript permits."""
    return re.sub(rf"[\\^$.*+?()\[\]{{}}|{more}]", lambda match: "\\" + match[0], text)
