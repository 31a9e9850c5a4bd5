"""Trim the vocabulary of a model to the pieces that its texts need."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.tokenization.text_encoder import TextEncoder
from seq2seq_distill.shrink.lost_mass import lost_mass
from seq2seq_distill.shrink.piece_choice import Counts, choose_pieces, count_tokens, without_special
from seq2seq_distill.shrink.pieces import PieceTable, Side
from seq2seq_distill.shrink.token_ids import named_ids
from seq2seq_distill.shrink.vocabulary import cut_tokenizer, vocabulary_of
from seq2seq_distill.shrink.vocabulary_rows import take_rows
from seq2seq_distill.utils.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

SIDES: Final[tuple[Side, Side]] = ("source", "target")
_SHOWN = 100
"""Characters of a report that are listed."""


@dataclass(frozen=True)
class ParallelTexts:
    """Sources and targets, row by row.

    Examples:
        >>> from seq2seq_distill import ParallelTexts
        >>> texts = ParallelTexts(source=["a dog", "a cat"], target=["ein Hund", "eine Katze"])
        >>> len(texts.source) == len(texts.target)
        True
    """

    source: Sequence[str]
    target: Sequence[str]


@dataclass(frozen=True)
class TrimmedModel:
    """A model with a smaller vocabulary.

    Examples:
        >>> from seq2seq_distill import ParallelTexts, load_teacher, load_tokenizer, trim_vocabulary
        >>> from seq2seq_distill.demo import model_source
        >>> path = model_source("demo:translation")
        >>> texts = ParallelTexts(["The mayor"], ["Der Bürgermeister"])
        >>> trimmed = trim_vocabulary(load_teacher(path).model, load_tokenizer(path), texts, coverage=1.0)
        >>> len(trimmed.rows["target"]) == trimmed.model.config.vocab_size == len(trimmed.tokenizer)
        True
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    rows: Mapping[Side, Sequence[int]]
    """For each new id of a side, the id that the token had."""
    report: dict[str, Any]
    """What stayed and what it costs: see docs/trimming.md."""


def trim_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: ParallelTexts,
    *,
    coverage: float | None = None,
    size: int | None = None,
    separate: bool = False,
    languages: Collection[str] | None = None,
    prefixes: Collection[str] = ("",),
    held_out: ParallelTexts | None = None,
) -> TrimmedModel:
    """Keep the pieces of a vocabulary that texts need; the model's distribution is renormalised over them.

    Texts whose pieces all stay are segmented as before. Special tokens get the lowest ids, if the class of the
    tokenizer lets them.

    Args:
        model: left as it is.
        tokenizer: the model's, its languages set.
        texts: in which pieces are counted, such as the training split.
        coverage: share of the pieces of `texts` that must stay on each side, above 0 and at most 1.
        size: the most tokens that stay, of each vocabulary; give this or `coverage`.
        separate: a vocabulary for each side; for Marian models.
        languages: codes of the languages that stay, besides those that the tokenizer is set to; None for all.
        prefixes: what opens sources, of which there may be several; pieces are counted with the first.
        held_out: texts on which the report tells what is lost, such as the validation split.

    Raises:
        ConfigError: not one of `coverage` and `size`; `size` is too small; a language is not known.
        ModelError: the vocabulary is of a kind that cannot be cut.

    Examples:
        >>> from seq2seq_distill import ParallelTexts, load_teacher, load_tokenizer, trim_vocabulary
        >>> from seq2seq_distill.demo import model_source
        >>> path = model_source("demo:translation")
        >>> texts = ParallelTexts(["The mayor"], ["Der Bürgermeister"])
        >>> trimmed = trim_vocabulary(load_teacher(path).model, load_tokenizer(path), texts, size=300)
        >>> trimmed.report["vocabulary"]
        {'before': {'source': 2000, 'target': 2000}, 'after': {'source': 283, 'target': 283}}
    """
    if (coverage is None) == (size is None):
        raise ConfigError("`trim.coverage` and `trim.size`: give one of the two")
    if languages is not None:
        set_to = (getattr(tokenizer, name, None) for name in ("src_lang", "tgt_lang"))
        languages = [*languages, *(code for code in set_to if code)]
    vocabulary = vocabulary_of(model, tokenizer, separate=separate, languages=languages)
    sizes = _row_numbers(vocabulary.tables)
    encoders = _encoders(tokenizer, next(iter(prefixes), ""))
    counts = {side: count_tokens(encoders[side], getattr(texts, side), sizes) for side in SIDES}
    frame = {side: _frame(tokenizer, side, prefixes) for side in SIDES}
    kept = []
    for table, sides in zip(vocabulary.tables, vocabulary.sides, strict=True):
        needed = named_ids(model).union(*(frame[side] for side in sides))
        tokens = [token for token, number in table.ids.items() if number in needed]
        kept.append(choose_pieces(table, [counts[side] for side in sides], tokens, coverage=coverage, size=size))
    cut, orders = cut_tokenizer(vocabulary, kept, model.config)
    places: dict[Side, int] = {side: number for number, sides in enumerate(vocabulary.sides) for side in sides}
    tables = {side: vocabulary.tables[places[side]] for side in SIDES}
    rows = {side: [tables[side].ids[token] for token in orders[places[side]]] for side in SIDES}
    trimmed = take_rows(model, rows["source"], rows["target"])
    report: dict[str, Any] = {
        "vocabulary": {
            "before": dict(zip(SIDES, trimmed.config.trimmed_vocabulary, strict=True)),
            "after": {side: len(rows[side]) for side in SIDES},
        },
        "pieces": {side: _pieces(tables[side], counts[side], rows[side]) for side in SIDES},
        "lost_characters": _lost_characters(vocabulary.tables, orders),
        "held_out": None,
    }
    if held_out is not None:
        after = _encoders(cut, next(iter(prefixes), ""))
        report["held_out"] = {
            **{side: _growth(tables[side], encoders, after, held_out, side, rows[side], sizes) for side in SIDES},
            "lost_mass": lost_mass(model, tokenizer, encoders, held_out.source, held_out.target, rows["target"]),
        }
    return TrimmedModel(trimmed, cut, rows, report)


def _row_numbers(tables: Sequence[PieceTable]) -> int:
    return 1 + max(number for table in tables for number in table.ids.values())


def _encoders(tokenizer: PreTrainedTokenizerBase, prefix: str) -> dict[Side, TextEncoder]:
    return {"source": TextEncoder(tokenizer, "text", prefix=prefix), "target": TextEncoder(tokenizer, "text_target")}


def _frame(tokenizer: PreTrainedTokenizerBase, side: Side, prefixes: Collection[str]) -> set[int]:
    """Ids that every text has: a prefix, a language, the end."""
    return {number for prefix in prefixes for number in _encoders(tokenizer, prefix)[side].encode([""]).ids[0]}


def _pieces(table: PieceTable, counts: Counts, rows: Sequence[int]) -> dict[str, Any]:
    pieces = without_special(table, counts)
    return {
        "seen": int((pieces > 0).sum()),
        "kept": int((pieces[list(rows)] > 0).sum()),
        "coverage": _share(pieces[list(rows)].sum(), pieces.sum()),
    }


def _growth(
    table: PieceTable,
    before: Mapping[Side, TextEncoder],
    after: Mapping[Side, TextEncoder],
    texts: ParallelTexts,
    side: Side,
    rows: Sequence[int],
    size: int,
) -> dict[str, Any]:
    """What becomes of the held-out texts of a side."""
    lines = getattr(texts, side)
    counts, cut = (count_tokens(encoders[side], lines, size) for encoders in (before, after))
    pieces = without_special(table, counts)
    return {
        "coverage": _share(pieces[list(rows)].sum(), pieces.sum()),
        "length_growth": _share(cut.sum(), counts.sum()),
    }


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


def _lost_characters(tables: Sequence[PieceTable], orders: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The characters that had a piece and have none; where there are pieces for bytes, these write them."""
    lost: set[str] = set()
    for table, order in zip(tables, orders, strict=True):
        if not table.spells_bytes:
            lost |= table.characters() - set(order)
    return {"count": len(lost), "examples": "".join(sorted(lost)[:_SHOWN])}


def log_report(report: Mapping[str, Any]) -> None:
    """Log what a trimmed vocabulary holds, and warn of characters that it cannot write."""
    before, after = report["vocabulary"]["before"], report["vocabulary"]["after"]
    for side in SIDES:
        pieces, held_out = report["pieces"][side], (report["held_out"] or {}).get(side)
        lost = ""
        if held_out and held_out["coverage"] is not None:
            lost = (
                f"; of held-out tokens {held_out['coverage']:.3%} stay, and texts are "
                f"{held_out['length_growth']:.4f} times as long"
            )
        logger.info(
            "trimmed: %d of %d %s tokens stay, among them %d of %d pieces that occur%s",
            *(after[side], before[side], side, pieces["kept"], pieces["seen"], lost),
        )
    if report["held_out"] and report["held_out"]["lost_mass"] is not None:
        logger.info(
            "trimmed: %.4f%% of the model's probability was on other tokens", 100 * report["held_out"]["lost_mass"]
        )
    if report["lost_characters"]["count"]:
        logger.warning(
            "trimmed: %d characters can no longer be written, among them %r: texts that contain them would keep them",
            report["lost_characters"]["count"],
            report["lost_characters"]["examples"][:20],
        )
