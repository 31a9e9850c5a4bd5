"""How models decode: their generation settings, and `generate` on a batch."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from seq2seq_distill.config import RunConfig
from seq2seq_distill.config.decoding import MAX_TARGET_LENGTH, DecodingOptions
from seq2seq_distill.utils.errors import ConfigError, ModelError, format_value

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# Read by sampling alone; a value that a greedy or beam search would not use makes transformers warn.
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# Options that have a flag of their own, and options that would change what comes back.
_FLAGS = {
    "num_beams": "`{}beams`",
    "length_penalty": "`{}length_penalty`",
    "max_length": "`{}max_target_length`",
    "max_new_tokens": "`{}max_target_length`",
    "forced_bos_token_id": "`tgt_lang`",
}
_REFUSED = ("num_return_sequences", "return_dict_in_generate", "output_scores", "output_logits")
# Searches that transformers 5 has as code of the hub alone, which is never run, or for a single source alone; and the
# value that asks for none.
_OTHER_SEARCHES = {
    "constraints": None,
    "force_words_ids": None,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "penalty_alpha": 0.0,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "assistant_early_exit": None,
}
# Computed with before transformers looks at them, or given to an engine that has no words for what is wrong.
_COUNTS = ("min_length", "min_new_tokens", "no_repeat_ngram_size")


@dataclass(frozen=True)
class GenerationSettings:
    """How to decode. None leaves a thing as the model's generation config has it."""

    beams: int | None = None
    """Beams; 1 is greedy search."""
    max_length: int = MAX_TARGET_LENGTH
    """Most tokens to generate, the end of sentence included, the decoder's start token not."""
    length_penalty: float | None = None
    """Exponent of the length by which beam search divides a hypothesis' log-probability."""
    forced_bos_token_id: int | None = None
    """First token of every output: the target language of mBART, M2M100 and NLLB."""
    batch_size: int = 32
    """Rows decoded together."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of transformers' GenerationConfig, {"no_repeat_ngram_size": 3} say."""
    group: str = "eval."
    """The group of these options, for messages: that of a run; empty for a command."""

    @classmethod
    def of_run(cls, config: RunConfig) -> GenerationSettings:
        """How the models of a run decode, in validation, in the final test and wherever they are used later."""
        return cls(
            beams=config.eval.beams,
            max_length=config.eval.max_target_length,
            length_penalty=config.eval.length_penalty,
            batch_size=config.eval.batch_size,
            options=config.eval.generate,
        )

    @classmethod
    def of_command(cls, options: DecodingOptions) -> GenerationSettings:
        """The settings that the options of a command ask for."""
        return cls(options.beams, options.target_limit, options.length_penalty, options=options.generate, group="")


def generation_config(
    model: PreTrainedModel, settings: GenerationSettings, own: GenerationConfig | None = None
) -> GenerationConfig:
    """A copy of the model's generation config, or of `own`, with the settings applied; it may be saved with the model.

    `max_length` in it counts the decoder's start token, as is usual for encoder-decoders. A minimum length
    that does not fit under the maximum is lowered (with a warning), a maximum beyond the model's positions
    too. The cache of keys and values is used always. Sampling is off unless the options ask for it, and a search that
    transformers does not have is replaced by beam search; both are logged.

    Raises ConfigError for an option that is unknown, impossible or has an option of its own, ModelError for a
    model that does not say from which token decoding starts.
    """
    return with_settings(own or model.generation_config, settings, _decoder_positions(model))


def with_settings(own: GenerationConfig, settings: GenerationSettings, positions: int | None) -> GenerationConfig:
    """`generation_config` of a model of which there is only its own generation config and its positions."""
    if own.decoder_start_token_id is None and own.bos_token_id is None:
        raise ModelError("the model names no decoder_start_token_id: add it to its generation_config.json")
    config = _searching(own, settings)
    _set_lengths(config, settings, positions)
    return _validated(config, settings)


def causal_generation_config(model: PreTrainedModel, settings: GenerationSettings) -> GenerationConfig:
    """`generation_config` of a language model without an encoder: lengths in it count new tokens alone."""
    config = _searching(model.generation_config, settings)
    config.max_new_tokens, config.max_length = settings.max_length, None
    config.min_length = 0  # it would count the prompt
    return _validated(config, settings)


def _searching(own: GenerationConfig, settings: GenerationSettings) -> GenerationConfig:
    """A copy with all settings but for lengths."""
    config = copy.deepcopy(own)
    _drop_what_decodes_otherwise(config, settings)
    _apply_options(config, settings)
    if settings.beams is not None:
        config.num_beams = settings.beams
    if settings.length_penalty is not None:
        config.length_penalty = settings.length_penalty
    if settings.forced_bos_token_id is not None:
        config.forced_bos_token_id = settings.forced_bos_token_id
    return config


def _validated(config: GenerationConfig, settings: GenerationSettings) -> GenerationConfig:
    _drop_what_the_search_ignores(config)
    try:
        config.validate()
    except (AttributeError, TypeError, ValueError) as error:  # of the wrong type, or not among the choices
        raise _refused_value(settings, error) from error
    return config


def without_beams(config: GenerationConfig) -> GenerationConfig:
    """The same settings for greedy search."""
    config = copy.deepcopy(config)
    config.num_beams = 1
    _drop_what_the_search_ignores(config)
    return config


def configure_generation(
    model: PreTrainedModel, settings: GenerationSettings, task_params: Mapping[str, Any], start: int | None = None
) -> None:
    """Give the model the generation config that a run uses, so that it decodes alike wherever it is loaded.

    What the model's config says of the task (`task_params`) goes before its general settings, `settings` before both.

    Args:
        model: changed in place.
        settings: the run's.
        task_params: of the model's config, for the task at hand; what is no option of decoding is left out.
        start: id of the token that decoding starts from, where the target language decides it.
    """
    _impose(model.generation_config, task_params, settings)
    if start is not None:
        model.generation_config.decoder_start_token_id = start
    model.generation_config = generation_config(model, settings)
    if settings.options:
        _try_out(model, settings)


def _impose(config: GenerationConfig, task_params: Mapping[str, Any], settings: GenerationSettings) -> None:
    """Apply what the model's config says of a task, and log it: these settings are often older than the model."""
    given = {"max_length"} | {name for name in ("length_penalty",) if settings.length_penalty is not None}
    given |= set(settings.options) | ({"num_beams"} if settings.beams is not None else set())
    imposed = []
    for name, value in task_params.items():
        if name not in vars(config):
            continue
        own = getattr(config, name)
        if name not in given and own != value:
            instead = "" if own is None else f" (generation_config.json: {own})"
            imposed.append(f"{name} {format_value(value, 40)}{instead}")
        setattr(config, name, value)
    if imposed:
        _log_imposed(", ".join(imposed))


@cache
def _log_imposed(settings: str) -> None:
    logger.info("task_specific_params in the model's config.json set %s for this task", settings)


def _try_out(model: PreTrainedModel, settings: GenerationSettings) -> None:
    """Decode two tokens, since transformers checks most options only when it decodes. Raises ConfigError."""
    ids = torch.ones((1, 2), dtype=torch.int64, device=model.device)
    config = copy.deepcopy(model.generation_config)
    config.max_length, config.min_length = 3, 0
    try:
        with torch.random.fork_rng(), torch.no_grad():
            generate_batch(model.eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, config)
    except Exception as error:  # of many types, each for an option
        raise _refused_value(settings, error) from error


def _refused_value(settings: GenerationSettings, error: Exception) -> ConfigError:
    given = f"`{settings.group}generate` {format_value(dict(settings.options))}"
    message = format_value(" ".join(str(error).split()))
    return ConfigError(f"{given}: choose another value; transformers refuses it: {message}")


def generate_batch(model: PreTrainedModel, batch: Mapping[str, Any], config: GenerationConfig) -> list[list[int]]:
    """Decode one collated batch on the model's device; `config` from `generation_config`.

    From `batch` it takes `input_ids [B,S]`, `attention_mask [B,S]` and whatever else the model's forward pass
    reads of the source; labels are left alone. Mode and gradients are the caller's: see `decoding`.

    Returns B lists of ids: a forced first token and the end of sentence kept, decoder start and padding not.
    """
    known = inspect.signature(model.forward).parameters
    inputs = {k: v for k, v in batch.items() if k in known and k != "labels" and not k.startswith("decoder_")}
    own = model.generation_config
    # `generate` fills what is None in a given config from the model's own, and warns where the two disagree.
    model.generation_config = config
    try:
        output = model.generate(**inputs, generation_config=config)  # type: ignore[operator]
    finally:
        model.generation_config = own
    return [_trim(ids, config) for ids in output[:, 1:].tolist()]


def generated_length(ids: Sequence[int], config: GenerationConfig) -> int:
    """Tokens that the model chose in a row of `generate_batch`: all of them but a forced first."""
    return len(ids) - (config.forced_bos_token_id is not None and len(ids) > 0)


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of one output, without special tokens and outer white space."""
    # One by one: `batch_decode` makes one text of no rows.
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()


@contextmanager
def decoding(*models: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards every submodule is in the mode that it was in."""
    # One by one: `model.train()` would also wake the dropout of a frozen encoder.
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def to_device(batch: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """The batch with its tensors on `device`."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def _drop_what_decodes_otherwise(config: GenerationConfig, settings: GenerationSettings) -> None:
    """Take out of a model's settings what it should not impose: drawing, other searches, decoding without a cache."""
    dropped = []
    for name, usual in _OTHER_SEARCHES.items():
        value = getattr(config, name, None)
        if value is not None and value != usual:
            dropped.append(f"{name} {format_value(value, 40)}")
            setattr(config, name, None)
    if config.do_sample and not settings.options.get("do_sample"):
        dropped.append("do_sample true")
        config.do_sample = False
    if config.use_cache is False:
        dropped.append("use_cache false")
    config.use_cache = True
    if dropped:
        _warn_of_dropped(", ".join(dropped))


@cache  # a run configures the same settings for several models, and `evaluate` for each search
def _warn_of_dropped(settings: str) -> None:
    logger.warning(
        "the model's generation_config.json has %s: decoding goes on without, by beam search with a cache", settings
    )


def _apply_options(config: GenerationConfig, settings: GenerationSettings) -> None:
    for name, value in settings.options.items():
        given = f"`{settings.group}generate` {name}={format_value(value)}"
        if name in _FLAGS:
            raise ConfigError(f"{given} has an option of its own: use {_FLAGS[name].format(settings.group)}")
        if name in _OTHER_SEARCHES and value not in (None, _OTHER_SEARCHES[name]):
            raise ConfigError(f"{given} asks for a search that transformers does not have for batches: remove it")
        if name in _REFUSED or name not in vars(config):
            raise ConfigError(f"{given} is no option of decoding a text: remove it")
        if name in _COUNTS and value is not None and not (type(value) is int and value >= 0):
            raise ConfigError(f"{given}: choose a whole number, 0 or more")
        if name == "repetition_penalty" and value is not None and not (type(value) in (int, float) and value > 0):
            raise ConfigError(f"{given}: choose a number above 0")
        setattr(config, name, value)


@cache
def _log_positions(positions: int) -> None:
    """Once: a command prepares several models, and each of them several times."""
    logger.info("the model has %d positions: it generates at most so many tokens", positions)


def _set_lengths(config: GenerationConfig, settings: GenerationSettings, positions: int | None) -> None:
    """Leave one limit of each kind, and no minimum above the maximum."""
    max_length = settings.max_length
    if positions is not None and max_length > positions:
        _log_positions(positions)
        max_length = positions
    minimum = config.min_length or 0
    if config.min_new_tokens is not None:
        minimum = config.min_new_tokens + 1
    if minimum > max_length:
        logger.warning(
            "the generation config's minimum of %d tokens is above `%smax_target_length` %d: lowered",
            minimum - 1,
            settings.group,
            max_length,
        )
    config.max_length, config.max_new_tokens = max_length + 1, None
    # At the last position the end of sentence must be allowed.
    config.min_length, config.min_new_tokens = min(minimum, max_length), None


def _decoder_positions(model: PreTrainedModel) -> int | None:
    """How many tokens the decoder can be fed; None for relative positions."""
    for name in ("max_decoder_position_embeddings", "max_position_embeddings"):
        positions = getattr(model.config, name, None)
        if positions is not None:
            return int(positions)
    return None


def _drop_what_the_search_ignores(config: GenerationConfig) -> None:
    if not config.do_sample:
        config.do_sample = False
        for name in _SAMPLING:
            setattr(config, name, None)
    if config.num_beams is None or config.num_beams == 1:
        config.num_beams, config.early_stopping, config.length_penalty = 1, False, 1.0
    for name in ("return_dict_in_generate", *config.extra_output_flags):
        setattr(config, name, False)


def _trim(ids: list[int], config: GenerationConfig) -> list[int]:
    """Up to the end of sentence, which is kept; without one, up to the padding."""
    ends = config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    # Where a first token is forced, it may be the end of sentence itself.
    first = 0 if config.forced_bos_token_id is None else 1
    for position in range(first, len(ids)):
        if ids[position] in ends:
            return ids[: position + 1]
    length = len(ids)
    while length and ids[length - 1] == config.pad_token_id:
        length -= 1
    return ids[:length]
