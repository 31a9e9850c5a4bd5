"""What transformers raises for a config that it cannot read, in one line, and keys that a config does not have."""

import difflib
from typing import Final

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from seq2seq_distill.utils.errors import format_value

CONFIG_ERRORS: Final = (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError)
STRUCTURE_KEYS: Final = frozenset(
    {"model_type", "architectures", "dtype", "is_encoder_decoder", "tie_word_embeddings", "return_dict"}
)
"""Keys that say what a model is, which no override changes."""


def unknown_key(prefix: str, config: PreTrainedConfig, key: str) -> str:
    """Message for a key that `config` does not have, with the nearest ones that it has."""
    close = difflib.get_close_matches(key, config.to_dict().keys() - STRUCTURE_KEYS, n=3)
    hint = f": did you mean {' or '.join(close)}?" if close else ": check its name"
    return f"{prefix} is not a key of a {config.model_type} config that can be overridden{hint}"


def first_line(error: Exception) -> str:
    """First line of a library's error, with the next one if it ends in a colon: our messages are one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return format_value(" ".join(lines[:2]) if lines[0].endswith(":") else lines[0], 300)
