"""The vocabularies of tokenizers that read SentencePiece models (Marian, M2M100, PLBart), cut in these files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.languages import TARGET_TOKEN, special_tokens
from seq2seq_distill.shrink.pieces import BYTE_PIECES, PieceTable, Side, parts_by_splits
from seq2seq_distill.shrink.tokenizers_json import cut_config
from seq2seq_distill.utils.errors import ModelError

protos: Any = sentencepiece_model_pb2  # its classes are made when it is imported
_NORMAL = protos.ModelProto.SentencePiece.NORMAL
_UNIGRAM, _BPE = protos.TrainerSpec.UNIGRAM, protos.TrainerSpec.BPE


class PieceModel:
    """A SentencePiece model as it stands in its file.

    Raises:
        ModelError: its pieces are words or characters.
    """

    def __init__(self, processor: Any) -> None:
        self._proto = protos.ModelProto.FromString(processor.serialized_model_proto())
        self.normal = {piece.piece: piece.score for piece in self._proto.pieces if piece.type == _NORMAL}
        self.others = [piece.piece for piece in self._proto.pieces if piece.type != _NORMAL]
        if self._proto.trainer_spec.model_type not in (_UNIGRAM, _BPE):
            raise ModelError(
                "its SentencePiece model is neither Unigram nor BPE: choose another model, or leave `trim` out"
            )

    @property
    def required(self) -> set[str]:
        """Pieces that must stay whatever the texts: see `shrink.pieces`."""
        return {*self.others, min(self.normal, key=self.normal.__getitem__)}

    def parts(self, piece: str) -> Iterable[str]:
        """The pieces that a piece is merged from."""
        if self._proto.trainer_spec.model_type == _UNIGRAM or piece not in self.normal:
            return ()
        return parts_by_splits(self.normal)(piece)

    def write(self, kept: Collection[str], file: Path) -> list[str]:
        """Write the model with its kept pieces, those that must stay included; they are returned in order."""
        cut, kept = protos.ModelProto(), {*kept, *self.required}
        cut.CopyFrom(self._proto)
        del cut.pieces[:]
        cut.pieces.extend(piece for piece in self._proto.pieces if piece.piece in kept)
        cut.trainer_spec.vocab_size = len(cut.pieces)
        cut.DiscardUnknownFields()  # samples segmented by the whole model, against which loading would check
        file.write_bytes(cut.SerializeToString())
        return [piece.piece for piece in cut.pieces]


class MarianVocabulary:
    """Two SentencePiece models over one vocab.json, or over one for each side.

    Args:
        tokenizer: Marian's.
        dropped_languages: tokens of target languages (">>deu<<") that go.
        languages: those that stay.
        separate: whether each side gets its own vocabulary.
    """

    def __init__(
        self,
        tokenizer: Any,
        dropped_languages: Collection[str],
        languages: Collection[str],
        *,
        separate: bool,
    ) -> None:
        self._config, self._separate = _saved_config(tokenizer), separate or tokenizer.separate_vocabs
        self._models = [PieceModel(tokenizer.spm_source), PieceModel(tokenizer.spm_target)]
        vocabularies = [tokenizer.encoder, getattr(tokenizer, "target_encoder", tokenizer.encoder)]
        self.sides: tuple[tuple[Side, ...], ...] = (
            (("source",), ("target",)) if self._separate else (("source", "target"),)
        )
        models = [[model] for model in self._models] if self._separate else [self._models]
        self.tables = tuple(
            _marian_table(ids, group, [*special_tokens(tokenizer), *sorted(languages)], dropped_languages)
            for ids, group in zip(vocabularies, models, strict=False)
        )

    def order(self, kept: Sequence[Collection[str]]) -> tuple[list[str], ...]:
        """The kept tokens of each vocabulary in the order of their new ids."""
        return tuple(_special_first(table, tokens) for table, tokens in zip(self.tables, kept, strict=True))

    def write(self, orders: Sequence[Sequence[str]], folder: Path) -> None:
        """Write the two models, vocab.json (and target_vocab.json) and tokenizer_config.json."""
        new = [{token: number for number, token in enumerate(order)} for order in orders]
        for side, model, ids in zip(("source", "target"), self._models, (new[0], new[-1]), strict=True):
            model.write(ids, folder / f"{side}.spm")
        _write_json(folder / "vocab.json", new[0])
        config = cut_config(self._config, new[-1])
        if self._separate:
            _write_json(folder / "target_vocab.json", new[1])
            config["separate_vocabs"] = True
        config.pop("target_vocab_file", None)
        _write_json(folder / "tokenizer_config.json", config)


class M2M100Vocabulary:
    """One SentencePiece model over vocab.json; all languages of the class follow the last of its tokens."""

    sides: tuple[tuple[Side, ...], ...] = (("source", "target"),)

    def __init__(self, tokenizer: Any) -> None:
        self._config, self._model = _saved_config(tokenizer), PieceModel(tokenizer.sp_model)
        self._languages = sorted(tokenizer.lang_token_to_id, key=tokenizer.lang_token_to_id.__getitem__)
        special = [token for token in special_tokens(tokenizer) if token in tokenizer.encoder]
        self.tables = (
            PieceTable(
                {**tokenizer.encoder, **tokenizer.lang_token_to_id},
                tuple(sorted(special, key=tokenizer.encoder.__getitem__)),
                frozenset({*self._languages, *(set(tokenizer.encoder) & self._model.required)}),
                parts=self._model.parts,
                spells_bytes=BYTE_PIECES[0] in self._model.others,
            ),
        )

    def order(self, kept: Sequence[Collection[str]]) -> tuple[list[str], ...]:
        """The kept tokens in the order of their new ids."""
        languages = set(self._languages)
        return ([*_special_first(self.tables[0], [t for t in kept[0] if t not in languages]), *self._languages],)

    def write(self, orders: Sequence[Sequence[str]], folder: Path) -> None:
        """Write the model, vocab.json and tokenizer_config.json."""
        new = {token: number for number, token in enumerate(orders[0])}
        self._model.write(new, folder / "sentencepiece.bpe.model")
        pieces = len(orders[0]) - len(self._languages)
        _write_json(folder / "vocab.json", {token: number for token, number in new.items() if number < pieces})
        config = cut_config(self._config, new)
        # Some checkpoints have forgotten that languages are special tokens.
        config["added_tokens_decoder"] |= {str(new[token]): _special_token(token) for token in self._languages}
        _write_json(folder / "tokenizer_config.json", config)


class PLBartVocabulary:
    """One SentencePiece model, whose pieces are the tokens; all languages of the class follow the last of them."""

    sides: tuple[tuple[Side, ...], ...] = (("source", "target"),)

    def __init__(self, tokenizer: Any) -> None:
        self._config, self._model = _saved_config(tokenizer), PieceModel(tokenizer.sp_model)
        ids = tokenizer.get_vocab()
        last = tokenizer.fairseq_offset + len(tokenizer.sp_model)
        special = sorted(tokenizer.fairseq_tokens_to_ids, key=ids.__getitem__)
        self._first = [token for token in special if ids[token] < last]
        self._last = [token for token in special if ids[token] >= last]
        self.tables = (
            PieceTable(
                ids,
                tuple(self._first),
                frozenset({*self._last, *(set(ids) & self._model.required)}),
                parts=self._model.parts,
                spells_bytes=BYTE_PIECES[0] in self._model.others,
            ),
        )

    def order(self, kept: Sequence[Collection[str]]) -> tuple[list[str], ...]:
        """The kept tokens in the order of their new ids."""
        last = set(self._last)
        return ([*_special_first(self.tables[0], [t for t in kept[0] if t not in last]), *self._last],)

    def write(self, orders: Sequence[Sequence[str]], folder: Path) -> None:
        """Write the model and tokenizer_config.json."""
        self._model.write(orders[0], folder / "sentencepiece.bpe.model")
        new = {token: number for number, token in enumerate(orders[0])}
        _write_json(folder / "tokenizer_config.json", cut_config(self._config, new))


def _marian_table(
    ids: dict[str, int], models: Sequence[PieceModel], special: Collection[str], dropped: Collection[str]
) -> PieceTable:
    """The table of a vocabulary for one or two models; special tokens come before languages, whatever their ids."""

    def parts(piece: str) -> list[str]:
        return [part for model in models for part in model.parts(piece)]

    first = [token for token in dict.fromkeys(special) if token in ids and token not in dropped]
    return PieceTable(
        ids,
        tuple(sorted(first, key=lambda token: (bool(TARGET_TOKEN.fullmatch(token)), ids[token]))),
        frozenset(piece for model in models for piece in model.required if piece in ids),
        frozenset(dropped),
        parts,
        spells_bytes=all(BYTE_PIECES[0] in model.others for model in models),
    )


def _special_first(table: PieceTable, tokens: Collection[str]) -> list[str]:
    special = set(table.special)
    return [*table.special, *sorted((t for t in tokens if t not in special), key=table.ids.__getitem__)]


def _special_token(content: str) -> dict[str, Any]:
    """How tokenizer_config.json describes a special token."""
    return {
        "content": content,
        "special": True,
        **dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False),
    }


def _saved_config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        config: dict[str, Any] = json.loads((Path(name) / "tokenizer_config.json").read_text("utf-8"))
    return config


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
