"""What a model's config says of a task: the prefix of sources, and the settings of generation."""

import logging
from functools import cache
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from seq2seq_distill.data.languages import base_language, target_prefix, target_tokens
from seq2seq_distill.utils.errors import ModelError, format_value

logger = logging.getLogger(__name__)


def default_prefix(
    model_config: PreTrainedConfig,
    task: str,
    explicit: str | None,
    languages: tuple[str | None, str | None] = (None, None),
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> str:
    """The prefix of each source.

    `explicit` if it is not None, else what the model's config says for the task (for translation: for the two
    languages), else the config's general prefix, else the token of the target language, where the model writes several
    (`tokenizer` knows them), else nothing.

    Raises:
        ConfigError: the model writes several languages, and the target language is none of them.
    """
    if explicit is not None:
        return explicit
    specific = task_params(model_config, task, languages)
    prefix = specific.get("prefix") or getattr(model_config, "prefix", None) or ""
    if not isinstance(prefix, str):
        raise ModelError(
            f"{_place(model_config)}: the prefix {format_value(prefix)} is not text: correct it, or set "
            "the prefix explicitly"
        )
    tokens = target_tokens(tokenizer, model_config.model_type) if tokenizer is not None and not prefix else {}
    if tokens and languages[1] is not None:
        return target_prefix(tokens, languages[1])
    if tokens:
        _warn_of_target_tokens(tuple(sorted(tokens.values())))
    return prefix


@cache  # each model of a run asks for its prefix
def _warn_of_target_tokens(tokens: tuple[str, ...]) -> None:
    logger.warning(
        "the model writes several languages, and reads the one that is wanted at the start of each source: set "
        "`tgt_lang` or the prefix, unless sources open with one of %s",
        ", ".join(tokens[:6]) + (", ..." if len(tokens) > 6 else ""),
    )


def task_params(
    model_config: PreTrainedConfig, task: str, languages: tuple[str | None, str | None] = (None, None)
) -> dict[str, Any]:
    """The task-specific options in a model's config (for translation, of the language pair): prefix, beams, ..."""
    name = task
    if task == "translation" and all(languages):
        name = "translation_{}_to_{}".format(*(base_language(language or "") for language in languages))
    params = getattr(model_config, "task_specific_params", None) or {}
    options = params.get(name) or {} if isinstance(params, dict) else params
    if not isinstance(options, dict):
        raise ModelError(
            f"{_place(model_config)}: task_specific_params {format_value(params)} does not map {name} to "
            "a set of options: correct it"
        )
    return options


def _place(model_config: PreTrainedConfig) -> str:
    return f"config.json of {getattr(model_config, 'name_or_path', '') or 'the model'}"
