"""The token ids that stand in the configs of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from seq2seq_distill.models import architectures

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LISTS: Final = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "force_words_ids")

Change = Callable[[int], int | None]


def named_ids(model: PreTrainedModel) -> set[int]:
    """Every id that the model's config or generation config names, such as that of pad or of forced first tokens."""
    found: set[int] = set()

    def note(token: int) -> int:
        found.add(token)
        return token

    for record in _records(model):
        _changed(record, note)
    return found


def replace_ids(model: PreTrainedModel, new: Callable[[int], int | None]) -> None:
    """Replace each id in the model's configs, in place; None where a token is gone."""
    for record in _records(model):
        record.update(_changed(record, new))


def _records(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    configs = (model.config, *architectures.stack_configs(model.config), model.generation_config)
    for config in {id(config): config for config in configs if config is not None}.values():
        yield vars(config)
        tasks = getattr(config, "task_specific_params", None)
        if isinstance(tasks, dict):
            yield from (options for options in tasks.values() if isinstance(options, dict))


def _changed(record: dict[str, Any], new: Change) -> dict[str, Any]:
    """The entries that hold ids, with these replaced."""
    changed = {
        key: _replaced(value, new)
        for key, value in record.items()
        if value is not None and (key in _LISTS or (key.endswith("_token_id") and not key.startswith("_")))
    }
    if record.get("forced_decoder_ids"):
        changed["forced_decoder_ids"] = [[place, new(token)] for place, token in record["forced_decoder_ids"]]
    bias = record.get("sequence_bias")
    if isinstance(bias, dict):
        changed["sequence_bias"] = {tuple(_replaced(list(ids), new)): value for ids, value in bias.items()}
    elif bias:
        changed["sequence_bias"] = [[_replaced(ids, new), value] for ids, value in bias]
    return changed


def _replaced(value: Any, new: Change) -> Any:
    if isinstance(value, list | tuple):
        return [item for item in (_replaced(item, new) for item in value) if item is not None]
    return new(int(value)) if isinstance(value, int) and value >= 0 else value
