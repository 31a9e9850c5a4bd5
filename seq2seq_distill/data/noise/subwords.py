"""Other segmentations of a text into the subwords of a vocabulary, drawn at random.

SentencePiece and the Rust library can draw them too, but the latter knows no seed, and a generator that both keep for
themselves would tie the tokens of a row to a version, a thread and the rows before it. Here a row's tokens follow from
its own generator. Words are segmented one by one, as both libraries do, from the tokens that the tokenizer gives: so
normalisation and white space are the tokenizer's own.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any

from transformers import M2M100Tokenizer, MarianTokenizer, PreTrainedTokenizerBase

from seq2seq_distill.utils.errors import ConfigError

WORD_MARKS = ("▁", "Ġ")
"""What a piece that begins a word begins with, in SentencePiece and in byte-level BPE."""
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
KEPT_WORDS = 2**17
"""Words whose segmentations are kept in memory."""
Lattice = list[tuple[list[int], list[float]]]
"""For each number of letters: where pieces that end there begin, and their cumulative weights."""
Rank = Callable[[str, str], float | None]
"""When two pieces are merged, the lowest first; None if never."""


class SubwordSampler:
    """Draws the subwords of encoded texts.

    Args:
        tokenizer: its languages are set; of its source side.
        strength: of a Unigram model the alpha of subword regularization (Kudo 2018, arXiv 1804.10959), by which
            log-probabilities are multiplied: 0 draws from all segmentations alike, 1 by their probability. Of a BPE
            model the probability that a merge is left out (Provilkov et al. 2020, arXiv 1910.13267).

    Raises:
        ConfigError: the tokenizer is of another kind.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strength: float) -> None:
        model = _pieces_of(tokenizer)
        if model is None:
            raise ConfigError(
                f"`noise.subword_sampling` {strength}: the tokenizer ({type(tokenizer).__name__}) has neither a "
                "Unigram nor a BPE model, of which alone subwords can be sampled: leave it out"
            )
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        self._ids = {piece: id for piece, id in model.ids.items() if id not in special and not BYTE.match(piece)}
        self._pieces = {id: piece for piece, id in self._ids.items()}
        self._segmenter: UnigramSegmenter | BpeSegmenter
        if model.scores is not None:
            scores = {piece: score for piece, score in model.scores.items() if piece in self._ids}
            self._segmenter = UnigramSegmenter(scores, strength)
        else:
            assert model.rank is not None
            self._segmenter = BpeSegmenter(model.rank, strength)

    def sample(self, ids: Sequence[int], rng: Random) -> list[int]:
        """Token ids of the same text; what is no piece of the model (special, unknown and byte tokens) stays, and so
        does the word around it."""
        drawn: list[int] = []
        word: list[str] = []
        for number in ids:
            piece = self._pieces.get(number)
            if piece is None or piece.startswith(WORD_MARKS):
                drawn += self._word(word, rng)
                word = []
            if piece is None:
                drawn.append(number)
            else:
                word.append(piece)
        return drawn + self._word(word, rng)

    def _word(self, pieces: list[str], rng: Random) -> list[int]:
        if not pieces:
            return []
        drawn = self._segmenter.draw(tuple(pieces), rng)
        if any(piece not in self._ids for piece in drawn):  # of a vocabulary without some letters
            drawn = pieces
        return [self._ids[piece] for piece in drawn]


class UnigramSegmenter:
    """Draws a segmentation with a weight of (the product of its pieces' probabilities) ** alpha."""

    def __init__(self, scores: Mapping[str, float], alpha: float) -> None:
        self._scores, self._alpha = scores, alpha
        self._longest = max(map(len, scores), default=0)
        self._lattice: Callable[[str], Lattice] = lru_cache(KEPT_WORDS)(self._forward)

    def draw(self, pieces: tuple[str, ...], rng: Random) -> Sequence[str]:
        word = "".join(pieces)
        lattice = self._lattice(word)
        drawn, end = [], len(word)
        while end:  # from the end: forward filtering, backward sampling
            starts, cumulative = lattice[end]
            start = starts[bisect_right(cumulative, rng.random() * cumulative[-1], hi=len(starts) - 1)]
            drawn.append(word[start:end])
            end = start
        return drawn[::-1]

    def _forward(self, word: str) -> Lattice:
        total, lattice = [0.0], [([0], [1.0])]  # logarithms of the sums over the segmentations of a beginning
        for end in range(1, len(word) + 1):
            starts, logs = [], []
            for start in range(max(0, end - self._longest), end):
                score = self._scores.get(word[start:end])
                if score is not None and total[start] > -math.inf:
                    starts.append(start)
                    logs.append(total[start] + self._alpha * score)
            highest = max(logs, default=-math.inf)
            weights = [math.exp(log - highest) for log in logs]
            total.append(highest + math.log(sum(weights)) if weights else -math.inf)
            lattice.append((starts, list(accumulate(weights))))
        return lattice


class BpeSegmenter:
    """Merges the letters of a word as BPE does, but leaves out each possible merge at random at each turn."""

    def __init__(self, rank: Rank, dropout: float) -> None:
        self._rank, self._dropout = rank, dropout
        self._is_rebuilt: Callable[[tuple[str, ...]], bool] = lru_cache(KEPT_WORDS)(self._check)

    def draw(self, pieces: tuple[str, ...], rng: Random) -> Sequence[str]:
        if not self._is_rebuilt(pieces):
            return pieces  # the tokenizer splits this word before it merges
        return self._merged("".join(pieces), rng)

    def _check(self, pieces: tuple[str, ...]) -> bool:
        return self._merged("".join(pieces), None) == list(pieces)

    def _merged(self, word: str, rng: Random | None) -> list[str]:
        pieces = list(word)
        while len(pieces) > 1:
            possible = (
                (rank, place)
                for place in range(len(pieces) - 1)
                if (rank := self._rank(pieces[place], pieces[place + 1])) is not None
                and (rng is None or rng.random() >= self._dropout)
            )
            best = min(possible, default=None)
            if best is None:
                break
            place = best[1]
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return pieces


@dataclass(frozen=True)
class _Pieces:
    """The pieces of a tokenizer's model."""

    ids: Mapping[str, int]
    scores: Mapping[str, float] | None
    """Log-probabilities, of a Unigram model."""
    rank: Rank | None = None
    """Of a BPE model."""


def _pieces_of(tokenizer: PreTrainedTokenizerBase) -> _Pieces | None:
    """None where there is neither a Unigram nor a BPE model."""
    if isinstance(tokenizer, MarianTokenizer):
        return _of_sentencepiece(tokenizer.spm_source, tokenizer.encoder)
    if isinstance(tokenizer, M2M100Tokenizer):
        return _of_sentencepiece(tokenizer.sp_model, tokenizer.encoder)
    if not tokenizer.is_fast:
        return None
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        ids = {piece: number for number, (piece, _) in enumerate(model["vocab"])}
        return _Pieces(ids, dict(map(tuple, model["vocab"])))
    if model["type"] == "BPE" and not (model["continuing_subword_prefix"] or model["end_of_word_suffix"]):
        merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        ranks = {(left, right): rank for rank, (left, right) in enumerate(merges)}
        return _Pieces(model["vocab"], None, lambda left, right: ranks.get((left, right)))
    return None


def _of_sentencepiece(model: Any, ids: Any) -> _Pieces:
    """Of a SentencePiece model, whose pieces have other ids in a vocabulary."""
    numbers = [n for n in range(model.get_piece_size()) if not (model.is_control(n) or model.is_unknown(n))]
    scores = {model.id_to_piece(n): model.get_score(n) for n in numbers}
    known = {piece: ids[piece] for piece in scores if piece in ids}
    if any(score != int(score) for score in scores.values()):
        return _Pieces(known, scores)
    ranks = {piece: -score for piece, score in scores.items()}  # of BPE: the n-th merge has the score -n
    return _Pieces(known, None, lambda left, right: ranks.get(left + right))
