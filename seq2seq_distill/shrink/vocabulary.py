"""From a tokenizer to its vocabulary, and to a tokenizer with some of its tokens."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from transformers import M2M100Tokenizer, MarianTokenizer, PLBartTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import language_tokens, match_language, plain_code, some_languages, target_tokens
from seq2seq_distill.data.tokenization.tokenizers import tokenizer_of
from seq2seq_distill.shrink.pieces import PieceTable, Side
from seq2seq_distill.shrink.sentencepiece_files import M2M100Vocabulary, MarianVocabulary, PLBartVocabulary
from seq2seq_distill.shrink.tokenizers_json import JsonVocabulary
from seq2seq_distill.utils.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


class Vocabulary(Protocol):
    """The vocabulary of a tokenizer, or its two."""

    @property
    def sides(self) -> tuple[tuple[Side, ...], ...]:
        """The sides, `source` and `target`, that each table is for."""
        ...

    @property
    def tables(self) -> tuple[PieceTable, ...]:
        """One table, or one for sources and one for targets."""
        ...

    def order(self, kept: Sequence[Collection[str]]) -> tuple[list[str], ...]:
        """The kept tokens of each table, by their new ids."""
        ...

    def write(self, orders: Sequence[Sequence[str]], folder: Path) -> None:
        """Write the tokenizer's files with these tokens alone."""
        ...


def vocabulary_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    separate: bool = False,
    languages: Collection[str] | None = None,
) -> Vocabulary:
    """The vocabulary of a model.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        separate: whether sources and targets are to have a vocabulary each.
        languages: codes of the languages that stay; None for all.

    Raises:
        ModelError: a vocabulary of this kind cannot be cut, or not into two.
        ConfigError: a language is not known.
    """
    kind, name = model.config.model_type, type(tokenizer).__name__
    if kind in ("fsmt", "prophetnet"):
        raise ModelError(f"the vocabulary of {kind} models cannot be trimmed: leave `trim` out")
    if separate and type(tokenizer) is not MarianTokenizer:
        raise ModelError(
            f"`trim.separate` true: a {kind} model has one vocabulary for both sides: leave it out; only Marian "
            "models can have two"
        )
    stay, go = _languages(model, tokenizer, languages)
    if tokenizer.is_fast:
        return JsonVocabulary(tokenizer, go, stay)
    if type(tokenizer) is MarianTokenizer:
        return MarianVocabulary(tokenizer, go, stay, separate=separate)
    if type(tokenizer) in (M2M100Tokenizer, PLBartTokenizer):
        if go:
            logger.info("the class %s has its languages built in: all of them stay, with a row each", name)
        return M2M100Vocabulary(tokenizer) if type(tokenizer) is M2M100Tokenizer else PLBartVocabulary(tokenizer)
    raise ModelError(f"the vocabulary of a {name} cannot be trimmed: leave `trim` out")


def cut_tokenizer(
    vocabulary: Vocabulary, kept: Sequence[Collection[str]], config: PreTrainedConfig
) -> tuple[PreTrainedTokenizerBase, tuple[list[str], ...]]:
    """A tokenizer with the kept tokens, loaded from files as transformers loads it, and its tokens by id.

    Classes that put tokens back when they are loaded (mBART its languages) keep these. `config` is the model's: the
    class of a tokenizer may depend on it.

    Raises:
        ModelError: the class gives a token another id than its place.
    """
    stay = [set(tokens) for tokens in kept]
    while True:
        orders = vocabulary.order(stay)
        with tempfile.TemporaryDirectory() as name:
            config.save_pretrained(name)
            vocabulary.write(orders, Path(name))
            tokenizer = tokenizer_of(name, "model")
        found = _vocabularies(tokenizer)[: len(orders)]
        back = [ids.keys() - set(order) for ids, order in zip(found, orders, strict=True)]
        known = [tokens & set(table.ids) for tokens, table in zip(back, vocabulary.tables, strict=True)]
        if not any(known):
            break
        for tokens, further in zip(stay, known, strict=True):
            tokens |= further
    for ids, order, new in zip(found, orders, back, strict=True):
        wrong = [token for number, token in enumerate(order) if ids.get(token) != number]
        if wrong or new:
            token = (wrong or sorted(new))[0]
            raise ModelError(
                f"the class {type(tokenizer).__name__} does not keep {token!r} in the place that it gets in a trimmed "
                "vocabulary: choose another model, or leave `trim` out"
            )
    return tokenizer, orders


def _vocabularies(tokenizer: PreTrainedTokenizerBase) -> list[dict[str, int]]:
    """The ids of sources, and of targets if they are others."""
    separate = getattr(tokenizer, "target_encoder", None)
    return [tokenizer.get_vocab(), *([] if separate is None else [separate])]


def _languages(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, languages: Collection[str] | None
) -> tuple[list[str], list[str]]:
    """The tokens of the languages that stay, and of those that go."""
    tokens = target_tokens(tokenizer, model.config.model_type)
    if not tokens and hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        tokens = {plain_code(token): token for token in language_tokens(tokenizer)}
    if languages is None:
        return list(tokens.values()), []
    if not tokens:
        raise ConfigError(
            f"`trim.languages` {' '.join(languages)}: the model has no tokens for languages: leave it out"
        )
    wanted = set()
    for language in languages:
        code = match_language(plain_code(language), tokens)
        if code is None:
            raise ConfigError(
                f"`trim.languages` {language}: the tokenizer does not know this language: choose "
                f"{some_languages(tokens, language)}"
            )
        wanted.add(tokens[code])
    return [token for token in tokens.values() if token in wanted], [t for t in tokens.values() if t not in wanted]
