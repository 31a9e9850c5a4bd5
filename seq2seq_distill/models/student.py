"""Students: made from a teacher by copying layers, loaded as they are, or fresh from a bare config."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
import yaml
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.tokenizers import asks_for_trust, check_json, code_refused
from seq2seq_distill.models import architectures, layer_map
from seq2seq_distill.models.pruning import (
    CONFIG_ERRORS,
    cut_config,
    first_line,
    keep_prompts,
    override,
    rebuild_settings,
    select_layers,
    unknown_key,
)
from seq2seq_distill.utils.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_LOADING_ERRORS: Final = (OSError, EOFError, RuntimeError, AssertionError, SafetensorError, *CONFIG_ERRORS)
_PROBES: Final = (
    "The quick brown fox, 3.14 times; jumped over the lazy dog's back!",
    "Übergrößenträger zahlten 1.000 € für Straße, naïve façade & señor.",
    "Быстрая лиса 北京的冬天很冷。 مرحبا بالعالم ไทย",
    "snake_case camelCase <n> </s> <pad> [SEP] \t tabs\nand lines",
)


def create_student(
    teacher: PreTrainedModel,
    encoder_layers: int | None = None,
    decoder_layers: int | None = None,
    *,
    encoder_layer_ids: Sequence[int] | None = None,
    decoder_layer_ids: Sequence[int] | None = None,
    choice: Literal["spread", "first"] = "spread",
    overrides: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """A student made of some of the teacher's layers and all the rest of it.

    Everything that is not a layer is a copy of the teacher's, generation config included; what was tied stays
    tied, what was not is not. With all layers the student's logits are the teacher's.

    Args:
        teacher: left as it is.
        encoder_layers, decoder_layers: depths, 1 to the teacher's; by default the whole encoder and a quarter
            of the decoder, rounded up.
        encoder_layer_ids, decoder_layer_ids: the layers to copy, increasing, from 0; they decide the depth.
            If T5's block 0 is not among them, the first copied block gets its relative position biases.
        choice: "spread" takes the layers of `layer_map.copy_layers`, "first" the first ones.
        overrides: config keys with new values, such as {"dropout": 0.0, "decoder_layerdrop": 0.1}; None
            leaves a key as it is. "dropout" also names the `dropout_rate` of T5. They take effect on the
            built modules.

    Returns:
        A model in float32 and, like one from `from_pretrained`, in eval mode. Which layers were copied stands
        in `config.distilled_encoder_layers` and `config.distilled_decoder_layers`.

    Raises:
        ModelError: the architecture is not supported, the teacher has no such layers, or an override is
            unknown or would change the shape of a tensor.
    """
    encoder_depth, decoder_depth = architectures.depths(teacher.config)
    encoder_ids = _layer_ids("encoder", encoder_depth, encoder_layers, encoder_layer_ids, choice, encoder_depth)
    quarter = -(-decoder_depth // 4)
    decoder_ids = _layer_ids("decoder", decoder_depth, decoder_layers, decoder_layer_ids, choice, quarter)

    student = copy.deepcopy(teacher).float().eval()
    select_layers(architectures.encoder_layers(student), encoder_ids)
    select_layers(architectures.decoder_layers(student), decoder_ids)
    if getattr(student.config, "use_prompt", False):
        keep_prompts(student, encoder_ids, decoder_ids)
    cut_config(student.config, encoder_ids, decoder_ids)
    if overrides:
        override(student, overrides)
    rebuild_settings(student)
    return student


def load_student(
    path: str | Path, dtype: torch.dtype = torch.float32, *, field: str = "student.path"
) -> PreTrainedModel:
    """A model from a folder or a hub id, in eval mode, whatever the dtype of the checkpoint.

    Raises:
        ModelError: one line that opens with `field`: nothing there, hub out of reach, not a supported
            encoder-decoder model, or weights missing from the checkpoint.
    """
    name = str(path)
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"`{field}` {name}: the folder has no config.json, so it holds no model: give another")
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise ModelError(f"`{field}` {name}: there is no such folder: check the path")
    source = str(folder) if folder.is_dir() else name
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        if asks_for_trust(error):
            raise code_refused(name, field) from None
        where = "its config.json cannot be read" if folder.is_dir() else "no such folder, and the hub did not give it"
        raise ModelError(f"`{field}` {name}: {where} ({first_line(error)}): give another") from error
    if {"AutoConfig", "AutoModelForSeq2SeqLM"} & (getattr(config, "auto_map", None) or {}).keys():
        raise code_refused(name, field)  # transformers would load its own class instead, and say nothing
    _check_family(config.model_type, f"`{field}` {name}")
    check_json(folder / "generation_config.json", f"`{field}` {name}")  # else transformers would do without it
    architectures.set_depths(config, *architectures.depths(config))
    try:
        model, report = AutoModelForSeq2SeqLM.from_pretrained(
            source, config=config, dtype=dtype, output_loading_info=True, trust_remote_code=False
        )
    except pickle.UnpicklingError:
        raise ModelError(
            f"`{field}` {name}: pytorch_model.bin is damaged, or holds more than tensors, which is never run: "
            "choose a model in safetensors"
        ) from None
    except _LOADING_ERRORS as error:
        reason = first_line(error)
        raise ModelError(f"`{field}` {name}: the model cannot be loaded ({reason}): give a whole one") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"`{field}` {name}: the checkpoint lacks {len(missing)} weights, among them {missing[0]}: give a whole one"
        )
    return model.eval()


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
        raise ModelError(f"`{field}` names no model_type: choose one of {', '.join(architectures.ARCHITECTURES)}")
    _check_family(model_type, f"`{field}`")
    if "transformers_version" not in keys:  # written by hand
        _check_keys(keys, AutoConfig.for_model(model_type), f"`{field}`")
    family = architectures.ARCHITECTURES[model_type]
    try:
        built = AutoConfig.for_model(model_type, **_with_vocabulary(family, keys, vocab_size, tokenizer, field))
        architectures.set_depths(built, *architectures.depths(built))
        model = AutoModelForSeq2SeqLM.from_config(built)
    except (*CONFIG_ERRORS, RuntimeError, AssertionError) as error:
        raise ModelError(f"`{field}`: no {model_type} model can be made from it ({first_line(error)})") from error
    size = model.get_input_embeddings().weight.shape[0]
    needed = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    if size < needed:
        raise ModelError(f"`{field}` vocab_size {size} is less than the tokenizer's {needed}: raise it")
    return model.float().eval()


def check_same_tokenizer(
    student: PreTrainedTokenizerBase,
    teacher: PreTrainedTokenizerBase,
    *,
    subject: str = "`student.path`",
    remedy: str = "choose models of one tokenizer",
) -> None:
    """Check that two tokenizers give a text the same ids: by probe texts, special tokens, vocabularies.

    Raises ModelError, which opens with `subject`, names the first difference, and ends with `remedy`.
    """
    difference = _first_difference(student, teacher)
    if difference:
        raise ModelError(f"{subject}: its tokenizer is not the teacher's: {difference}: {remedy}")


def only_sources_differ(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers give targets the same ids, but sources others: such as Marian's of separate vocabularies.

    By the probe texts, special tokens and vocabularies of `check_same_tokenizer`.
    """
    return (
        _first_difference(student, teacher) is not None
        and _first_difference(student, teacher, targets_alone=True) is None
    )


def _first_difference(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, *, targets_alone: bool = False
) -> str | None:
    for text in _PROBES:
        for side in ("text_target",) if targets_alone else ("text", "text_target"):
            ours, theirs = (tokenizer(**{side: text})["input_ids"] for tokenizer in (student, teacher))
            if ours != theirs:
                at = next(
                    (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
                    min(len(ours), len(theirs)),
                )
                own, other = _token(student, ours, at), _token(teacher, theirs, at)
                return f"in {text!r} token {at} is {own}, the teacher's {other}"
    for role in ("pad", "eos", "bos", "unk"):
        ours, theirs = (getattr(tokenizer, f"{role}_token_id") for tokenizer in (student, teacher))
        if ours != theirs:
            return f"{role} is {ours}, the teacher's {theirs}"
    for target in (True,) if targets_alone else (False, True):
        ours, theirs = _vocabulary(student, target=target), _vocabulary(teacher, target=target)
        differing = [token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)]
        if differing:
            token = min(differing)
            return f"the id of {token!r} is {ours.get(token)}, the teacher's {theirs.get(token)}"
    return None


def _vocabulary(tokenizer: PreTrainedTokenizerBase, *, target: bool) -> dict[str, int]:
    """Ids by token; Marian's may have other ids for targets."""
    own: dict[str, int] | None = getattr(tokenizer, "target_encoder", None)
    return own if target and own is not None else tokenizer.get_vocab()


# --------------------------------------------------------------------------------------------- from a teacher


def _layer_ids(
    side: str, teacher_depth: int, depth: int | None, ids: Sequence[int] | None, choice: str, default: int
) -> layer_map.Layers:
    subject = f"`student.{side}_layers`"
    if ids is not None:
        checked = layer_map.check_layers(ids, teacher_depth, f"`student.{side}_layer_ids`")
        if depth is not None and depth != len(checked):
            raise ModelError(
                f"{subject} {depth} contradicts `student.{side}_layer_ids`, {len(checked)} layers: drop one"
            )
        return checked
    if depth is None:
        depth = default
        logger.info("%s not given: %d of the teacher's %d layers", subject, depth, teacher_depth)
    layer_map.check_depth(teacher_depth, depth, subject)
    return layer_map.first_layers(depth) if choice == "first" else layer_map.copy_layers(teacher_depth, depth, subject)


# --------------------------------------------------------------------------------- configs and error messages


def _read_config(config: str | Path | Mapping[str, Any], field: str) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return copy.deepcopy(dict(config))
    path = Path(config).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ModelError(f"`{field}` {config}: there is no file {path}: check the path")
    try:
        text = path.read_text(encoding="utf-8")
        keys = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ModelError(f"`{field}` {config}: cannot be read ({first_line(error)}): write YAML or JSON") from error
    if not isinstance(keys, dict):
        raise ModelError(f"`{field}` {config}: holds no mapping of config keys: write lines such as `model_type: t5`")
    return keys


def _with_vocabulary(
    family: architectures.Architecture,
    keys: dict[str, Any],
    vocab_size: int,
    tokenizer: PreTrainedTokenizerBase,
    field: str,
) -> dict[str, Any]:
    pad, eos, bos = tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id
    for role, token in (("pad", pad), ("eos", eos)):
        if token is None and keys.get(f"{role}_token_id") is None:
            raise ModelError(f"`{field}`: the tokenizer has no {role} token, and the config sets no {role}_token_id")
    ids: dict[str, Any] = {"pad_token_id": pad, "eos_token_id": eos, "bos_token_id": bos}
    ids |= {key: keys[key] for key in ids if key in keys}
    starts = {"pad": "pad_token_id", "eos": "eos_token_id", "wrap": "eos_token_id", "bos": "bos_token_id"}
    start = ids[starts[family.start]]
    extra = {"decoder_start_token_id": ids["eos_token_id"] if start is None else start}
    if hasattr(AutoConfig.for_model(family.model_type), "forced_eos_token_id"):
        extra["forced_eos_token_id"] = ids["eos_token_id"]
    if family.nested:
        if ids["bos_token_id"] is None:
            ids["bos_token_id"] = ids["pad_token_id"]  # it starts the decoder here
        for side in ("encoder", "decoder"):
            keys[side] = {"vocab_size": vocab_size, **ids, **keys.get(side, {})}
    return {**dict.fromkeys(family.vocab, vocab_size), **ids, **extra, **keys}


def _check_family(model_type: str, prefix: str) -> None:
    try:
        architectures.architecture_named(model_type)
    except ModelError as error:
        raise ModelError(f"{prefix}: {error}") from error


def _check_keys(keys: Mapping[str, Any], config: PreTrainedConfig, subject: str) -> None:
    known = config.to_dict().keys() | config.attribute_map.keys()
    known |= {"pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id", "forced_eos_token_id"}
    for key, value in keys.items():
        if key not in known:
            raise ModelError(unknown_key(f"{subject} {key}", config, key))
        if isinstance(value, Mapping) and isinstance(getattr(config, key, None), PreTrainedConfig):
            _check_keys(value, getattr(config, key), f"{subject} {key}")


def _token(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], at: int) -> str:
    return f"{ids[at]} {tokenizer.convert_ids_to_tokens(ids[at])!r}" if at < len(ids) else "missing"
