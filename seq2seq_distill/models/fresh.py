"""A student with fresh weights, built from a bare config."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedTokenizerBase

from seq2seq_distill.models import architectures
from seq2seq_distill.models.config_errors import CONFIG_ERRORS, first_line, unknown_key
from seq2seq_distill.models.loading import check_architecture
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fresh_student(
    config: str | Path | Mapping[str, Any],
    vocab_size: int,
    tokenizer: PreTrainedTokenizerBase,
    *,
    field: str = "student.config",
) -> PreTrainedModel:
    """A model with fresh weights, in float32 and eval mode; the caller seeds torch.

    Args:
        config: a folder with a config.json, a JSON or YAML file, or the keys themselves, `model_type` among
            them.
        vocab_size: number of embeddings, unless the config sets it; at least the tokenizer's.
        tokenizer: gives the ids of pad, eos and bos that the config does not set; the decoder's start token
            follows from them by the custom of the family.

    Raises:
        ModelError: one line that opens with `field`: unreadable, no or an unsupported model_type, a key that
            the architecture does not know, a vocabulary smaller than the tokenizer's, no pad or eos token.
    """
    keys = _read_config(config, field)
    model_type = keys.pop("model_type", None)
    if model_type is None:
        raise ModelError(f"`{field}` does not set model_type: choose one of {', '.join(architectures.ARCHITECTURES)}")
    check_architecture(model_type, f"`{field}`")
    if "transformers_version" not in keys:  # written by hand
        _check_keys(keys, AutoConfig.for_model(model_type), f"`{field}`")
    architecture = architectures.ARCHITECTURES[model_type]
    try:
        built = AutoConfig.for_model(model_type, **_with_vocabulary(architecture, keys, vocab_size, tokenizer, field))
        architectures.set_depths(built, *architectures.depths(built))
        model = AutoModelForSeq2SeqLM.from_config(built)
    except (*CONFIG_ERRORS, RuntimeError, AssertionError) as error:
        raise ModelError(
            f"`{field}`: no {model_type} model can be built from it ({first_line(error)}): correct its values"
        ) from error
    size = model.get_input_embeddings().weight.shape[0]
    needed = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    if size < needed:
        raise ModelError(f"`{field}` vocab_size {size} is smaller than the tokenizer's {needed}: raise it")
    return model.float().eval()


def _read_config(config: str | Path | Mapping[str, Any], field: str) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return copy.deepcopy(dict(config))
    path = Path(config).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ModelError(f"`{field}` {config}: no such file, seen from the current folder: check the path")
    try:
        text = path.read_text(encoding="utf-8")
        keys = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"`{field}` {config}: cannot be read ({first_line(error)}): write YAML or JSON") from error
    if not isinstance(keys, dict):
        raise ModelError(f"`{field}` {config}: is not a mapping of config keys: write lines such as `model_type: t5`")
    return keys


def _with_vocabulary(
    architecture: architectures.Architecture,
    keys: dict[str, Any],
    vocab_size: int,
    tokenizer: PreTrainedTokenizerBase,
    field: str,
) -> dict[str, Any]:
    pad, eos, bos = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id
    for role, token in (("pad", pad), ("eos", eos)):
        if token is None and keys.get(f"{role}_token_id") is None:
            raise ModelError(
                f"`{field}`: the tokenizer has no {role} token, and the config does not set {role}_token_id: set it"
            )
    ids: dict[str, Any] = {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": bos}
    ids |= {key: keys[key] for key in ids if key in keys}
    starts = {"pad": "pad_token_id", "eos": "eos_token_id", "wrap": "eos_token_id", "bos": "bos_token_id"}
    start = ids[starts[architecture.start]]
    extra = {"decoder_start_token_id": ids["eos_token_id"] if start is None else start}
    if hasattr(AutoConfig.for_model(architecture.model_type), "forced_eos_token_id"):
        extra["forced_eos_token_id"] = ids["eos_token_id"]
    if architecture.nested:
        if ids["bos_token_id"] is None:
            ids["bos_token_id"] = ids["pad_token_id"]  # it starts the decoder here
        for side in ("encoder", "decoder"):
            keys[side] = {"vocab_size": vocab_size, **ids, **keys.get(side, {})}
    return {**dict.fromkeys(architecture.vocab, vocab_size), **ids, **extra, **keys}


def _check_keys(keys: Mapping[str, Any], config: PreTrainedConfig, subject: str) -> None:
    known = config.to_dict().keys() | config.attribute_map.keys()
    known |= {"pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id", "forced_eos_token_id"}
    for key, value in keys.items():
        if key not in known:
            raise ModelError(unknown_key(f"{subject} {key}", config, key))
        if isinstance(value, Mapping) and isinstance(getattr(config, key, None), PreTrainedConfig):
            _check_keys(value, getattr(config, key), f"{subject} {key}")
