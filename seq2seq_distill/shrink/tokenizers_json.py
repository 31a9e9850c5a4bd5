"""The vocabulary of a tokenizer of the Rust library (T5, mBART, NLLB, Pegasus, BART, ...), cut in tokenizer.json."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from seq2seq_distill.data.languages import special_tokens
from seq2seq_distill.shrink.pieces import BYTE_PIECES, PieceTable, Side, parts_by_merges
from seq2seq_distill.utils.errors import ModelError

_SENTINEL = re.compile(r"<(extra_id|unk)_\d+>")
"""Of the pretraining of T5 and Pegasus; nothing but pretraining writes or reads them."""
_UNKNOWN_PENALTY: Final = 10.0
"""How far below the lowest score of a Unigram model an unknown character lies."""
_CUT: Final = ("Unigram", "BPE", "WordLevel")


class JsonVocabulary:
    """The vocabulary in tokenizer.json, one for both sides.

    Args:
        tokenizer: a fast one.
        dropped_languages: tokens of languages that go.
        languages: tokens of languages that stay and are not special tokens.

    Raises:
        ModelError: the model is WordPiece, or another one that cannot be cut.
    """

    sides: tuple[tuple[Side, ...], ...] = (("source", "target"),)

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, dropped_languages: Collection[str], languages: Collection[str]
    ) -> None:
        with tempfile.TemporaryDirectory() as name:
            tokenizer.save_pretrained(name)
            self._json = json.loads((Path(name) / "tokenizer.json").read_text("utf-8"))
            self._config = json.loads((Path(name) / "tokenizer_config.json").read_text("utf-8"))
        self._model = self._json["model"]
        if self._model["type"] not in _CUT:
            raise ModelError(
                f"its tokenizer is of the kind {self._model['type']}, whose vocabulary cannot be trimmed: "
                f"choose a model with one of the kinds {', '.join(_CUT)}"
            )
        vocab = self._model["vocab"]
        self._scores: dict[str, float] = dict(vocab) if self._model["type"] == "Unigram" else {}
        ids = {token: number for number, (token, _) in enumerate(vocab)} if self._scores else dict(vocab)
        ids |= {added["content"]: added["id"] for added in self._json["added_tokens"]}
        special = [*special_tokens(tokenizer), *sorted(languages, key=ids.__getitem__)]
        roles = {token for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
        dropped = {token for token in ids if _SENTINEL.fullmatch(token)} - roles | set(dropped_languages)
        kept = [token for token in dict.fromkeys(special) if token in ids and token not in dropped]
        kept.sort(key=lambda token: (token not in roles, ids[token]))
        self.tables = (
            PieceTable(
                ids,
                tuple(kept),
                frozenset(self._required(ids) - dropped),
                frozenset(dropped),
                parts_by_merges(self._merges(), self._model.get("continuing_subword_prefix") or ""),
                spells_bytes=self._is_byte_level() or BYTE_PIECES[0] in ids,
            ),
        )

    def order(self, kept: Sequence[Collection[str]]) -> tuple[list[str], ...]:
        """The kept tokens in the order of their new ids."""
        table, special = self.tables[0], set(self.tables[0].special)
        rest = sorted((token for token in kept[0] if token not in special), key=table.ids.__getitem__)
        return ([*table.special, *rest],)

    def write(self, orders: Sequence[Sequence[str]], folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json with these tokens, which get their places as ids."""
        new = {token: number for number, token in enumerate(orders[0])}
        content = {**self._json, "model": self._cut_model(new)}
        content["added_tokens"] = sorted(
            ({**added, "id": new[added["content"]]} for added in self._json["added_tokens"] if added["content"] in new),
            key=lambda added: added["id"],
        )
        content["post_processor"] = _with_new_ids(self._json["post_processor"], new)
        if padding := self._json.get("padding"):
            content["padding"] = {**padding, "pad_id": new[padding["pad_token"]]}
        (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        config = cut_config(self._config, new)
        (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")

    def _cut_model(self, new: Mapping[str, int]) -> dict[str, Any]:
        model = dict(self._model)
        if self._scores:
            # A special token gets a row of the model, to have a low id; spelt out in a text, it must not be the best
            # path.
            lowest = min(self._scores.values()) - _UNKNOWN_PENALTY
            model["vocab"] = [[token, self._scores.get(token, lowest * (len(token) + 1))] for token in new]
            if model["unk_id"] is not None:
                model["unk_id"] = new[self._model["vocab"][model["unk_id"]][0]]
            return model
        model["vocab"] = dict(new)
        if "merges" in model:
            prefix = model.get("continuing_subword_prefix") or ""
            model["merges"] = [
                [left, right]
                for left, right in self._merges()
                if left in new and right in new and left + right.removeprefix(prefix) in new
            ]
        return model

    def _required(self, ids: Mapping[str, int]) -> set[str]:
        required = {piece for piece in BYTE_PIECES if piece in ids}
        if self._is_byte_level():
            required |= {character for character in pre_tokenizers.ByteLevel.alphabet() if character in ids}
        if self._scores:
            required.add(min(self._scores, key=self._scores.__getitem__))
        unknown = self._model.get("unk_token")
        return required | ({unknown} if unknown in ids else set())

    def _merges(self) -> list[tuple[str, str]]:
        merges = self._model.get("merges", [])
        return [(left, right) for left, right in (m.split(" ") if isinstance(m, str) else m for m in merges)]

    def _is_byte_level(self) -> bool:
        steps = [self._json["pre_tokenizer"] or {}]
        steps += steps[0].get("pretokenizers", [])
        return any(step.get("type") == "ByteLevel" for step in steps)


def cut_config(config: Mapping[str, Any], new: Mapping[str, int]) -> dict[str, Any]:
    """The content of tokenizer_config.json for a vocabulary with these ids."""
    cut = dict(config)
    for key, none in (("extra_ids", 0), ("offset", 2)):  # how many sentinels the classes of T5 and Pegasus add
        if key in cut:
            cut[key] = none
    for key in ("extra_special_tokens", "additional_special_tokens"):
        if isinstance(cut.get(key), list):
            cut[key] = [token for token in cut[key] if _content(token) in new]
    if "added_tokens_decoder" in cut:
        added = [token for token in cut["added_tokens_decoder"].values() if _content(token) in new]
        added.sort(key=lambda token: new[_content(token)])
        cut["added_tokens_decoder"] = {str(new[_content(token)]): token for token in added}
    return cut


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _with_new_ids(processor: Any, new: Mapping[str, int]) -> Any:
    """A post-processor with the ids of its special tokens replaced; those that are gone stand in no template."""
    if isinstance(processor, list):
        return [_with_new_ids(part, new) for part in processor]
    if not isinstance(processor, dict):
        return processor
    cut = {key: _with_new_ids(value, new) for key, value in processor.items() if key != "special_tokens"}
    for role in ("sep", "cls"):
        if role in cut:
            cut[role] = [cut[role][0], new[cut[role][0]]]
    if "special_tokens" in processor:
        cut["special_tokens"] = {
            name: {**entry, "ids": [new[token] for token in entry["tokens"]]}
            for name, entry in processor["special_tokens"].items()
            if all(token in new for token in entry["tokens"])
        }
    return cut
