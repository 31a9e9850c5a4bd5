"""What no message may show: passwords and tokens, of the environment or inside a URL."""

import os
import re
from collections.abc import Iterable

_NAME_OF_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|KEY)$")
_SHORTEST = 8  # to hide shorter values would hide ordinary words
_IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*:/{1,2})[^\s/]+@")


def redacted(text: str) -> str:
    """The text with `***` for the values of HF_TOKEN, WANDB_API_KEY and their like, and for a URL's user and password.

    Which variables hold secrets is told by the ends of their names: TOKEN, SECRET, PASSWORD, PASSWD, KEY.
    """
    secrets = {value for name, value in os.environ.items() if _NAME_OF_SECRET.search(name.upper())}
    return _IN_URL.sub(r"\1***@", without_secrets(text, secrets))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with `***` for each of these, but for those that are too short to be secret."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    return text
