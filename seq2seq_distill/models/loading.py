"""Load a model from a folder or the Hub; every problem is reported in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from seq2seq_distill.data.tokenization.tokenizers import asks_for_trust, check_json, code_refused
from seq2seq_distill.models import architectures
from seq2seq_distill.models.config_errors import CONFIG_ERRORS, first_line
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOADING_ERRORS: Final = (OSError, EOFError, RuntimeError, AssertionError, SafetensorError, *CONFIG_ERRORS)


def load_pretrained(
    path: str | Path, dtype: torch.dtype | Literal["auto"] = torch.float32, *, field: str = "student.path"
) -> PreTrainedModel:
    """An encoder-decoder from a folder or a Hub id, in eval mode, whatever the dtype of the checkpoint.

    Args:
        path: folder or Hub id.
        dtype: of the loaded weights; "auto" for that of the checkpoint.
        field: name of the option that holds `path`; it opens the error.

    Raises:
        ModelError: there is nothing at `path`, the Hub is out of reach, the model is no supported encoder-decoder, or
            the checkpoint lacks weights.
    """
    source, subject = _source(path, field)
    config = _load_config(source, str(path), field)
    check_architecture(config.model_type, subject)
    check_json(Path(source) / "generation_config.json", subject)  # else transformers would do without it
    architectures.set_depths(config, *architectures.depths(config))
    return _load(AutoModelForSeq2SeqLM, source, config, dtype, subject)


def load_causal(path: str | Path, dtype: torch.dtype | str, *, field: str) -> PreTrainedModel:
    """A causal language model from a folder or a Hub id, in eval mode.

    Args:
        path: folder or Hub id.
        dtype: of the loaded weights; "auto" is that of the checkpoint.
        field: name of the option that holds `path`; it opens the error.

    Raises:
        ModelError: there is nothing at `path`, the Hub is out of reach, or the checkpoint lacks weights.
    """
    source, subject = _source(path, field)
    config = _load_config(source, str(path), field)
    check_json(Path(source) / "generation_config.json", subject)
    return _load(AutoModelForCausalLM, source, config, dtype, subject)


def is_causal(path: str | Path, *, field: str) -> bool:
    """Whether there is a causal language model, and no encoder-decoder, in a folder or at a Hub id. Errors are those of
    loading it."""
    config = _load_config(_source(path, field)[0], str(path), field)
    if config.is_encoder_decoder:
        return False
    if config.architectures:
        return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures)
    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _source(path: str | Path, field: str) -> tuple[str, str]:
    """What transformers is to load, and how messages name it."""
    name = str(path)
    subject = f"`{field}` {name}"
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{subject}: the folder has no config.json and therefore no model: choose another")
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(f"{subject}: no such folder: check the path")
    return str(folder) if folder.is_dir() else name, subject


def _load(
    auto_class: Any, source: str, config: PreTrainedConfig, dtype: torch.dtype | str, subject: str
) -> PreTrainedModel:
    try:
        model, report = auto_class.from_pretrained(
            source, config=config, dtype=dtype, output_loading_info=True, trust_remote_code=False
        )
    except pickle.UnpicklingError:
        raise ModelError(
            f"{subject}: pytorch_model.bin is damaged or contains more than tensors, which are never loaded: "
            "choose a model in safetensors format"
        ) from None
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"{subject}: the model cannot be loaded ({first_line(error)}): choose a complete model"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{subject}: the checkpoint lacks {len(missing)} weights, for example {missing[0]}: choose a complete model"
        )
    return model.eval()


def check_architecture(model_type: str, subject: str) -> None:
    """Raise ModelError, which opens with `subject`, for an architecture that is not supported."""
    try:
        architectures.architecture_named(model_type)
    except ModelError as error:
        raise ModelError(f"{subject}: {error}") from error


def _load_config(source: str, name: str, field: str) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        if asks_for_trust(error):
            raise code_refused(name, field) from None
        reason = "no such folder, and it cannot be loaded from the Hub"
        if Path(source).is_dir():
            reason = "its config.json cannot be read"
        raise ModelError(f"`{field}` {name}: {reason} ({first_line(error)}): choose another model") from error
    if {"AutoConfig", "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"} & (
        getattr(config, "auto_map", None) or {}
    ).keys():
        raise code_refused(name, field)  # transformers would load its own class instead, and say nothing
    return config
