"""Options of labelling with a language model, behind a server or in a folder."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from seq2seq_distill.config.bounds import above, at_least, between, option
from seq2seq_distill.config.problems import Problem
from seq2seq_distill.utils.errors import format_value

_SERVERS_OWN = (
    "key_variable",
    "concurrency",
    "timeout",
    "max_retries",
    "skip_unanswered",
    "max_requests",
    "max_total_tokens",
)
_NAME_OF_KEY = re.compile(r"[A-Za-z_]\w*(?i:KEY|TOKEN|SECRET|PASSWORD)")


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions:
    """What a language model is asked, and how its server is used."""

    server: str | None = None
    """Base URL of a server that speaks OpenAI's protocol and runs the language model named by --model, such as
    http://localhost:8000/v1 (default: the model runs in this process)."""
    api: Literal["chat", "completions"] = "chat"
    """How to prompt a language model: chat sends a conversation; completions sends a text to continue, for models
    without a chat template."""
    prompt: str | None = None
    """Text file with the prompt of a language model, with the placeholders {source}, {src_language}, {tgt_language} and
    {style} (default: a built-in prompt for the task)."""
    style: str | None = None
    """Note on style for a language model, such as "formal, with short sentences"."""
    shots: int = option(0, between(0, 100))
    """Number of example pairs in each prompt of a language model, drawn from --shots_data."""
    shots_data: list[str] = option([])
    """Data sources of the example pairs: their val split, or train if they have none (default: --data)."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's API key; if it is not set, no key is sent."""
    concurrency: int = option(64, between(1, 4096))
    """Maximum number of concurrent requests to the server."""
    timeout: float = option(600.0, above(0))
    """Seconds after which a request to the server counts as failed."""
    max_retries: int = option(8, at_least(0))
    """How many times to repeat a request that fails for a temporary reason, such as status 429 or 5xx, a dropped
    connection or a time-out."""
    skip_unanswered: bool = False
    """Leave out rows whose requests still fail after --max_retries while others are answered; otherwise the command
    ends with an error after all other rows."""
    max_requests: int | None = option(None, between(1, 10**15))
    """Stop after this number of requests to the server for this label set; a higher number resumes the command."""
    max_total_tokens: int | None = option(None, between(1, 10**15))
    """Stop once the server has counted this number of tokens, in prompts and answers, for this label set."""
    logprobs: bool = False
    """Store the log-probability of each token of the targets, and where the token ends in the text."""
    dry_run: bool = False
    """Print the language model's prompts for three rows and an estimate of requests and tokens, and stop."""

    def language_model_conflicts(self) -> Iterator[Problem]:
        """What does not go together."""
        if not _NAME_OF_KEY.fullmatch(self.key_variable):  # the value is not shown: it may be a key
            yield Problem(
                ("key_variable",),
                "`key_variable` must be the name of an environment variable that ends with KEY, TOKEN, SECRET or "
                "PASSWORD, so that messages mask what it holds: rename the variable",
            )
        if self.shots_data and not self.shots:
            yield Problem(("shots_data", "shots"), "`shots_data` is not used: add `shots`, the number of pairs")
        if self.server is None:
            defaults = LanguageModelOptions()
            for name in (name for name in _SERVERS_OWN if getattr(self, name) != getattr(defaults, name)):
                value = format_value(getattr(self, name))
                yield Problem((name, "server"), f"`{name}` {value} is for a server: add `server`, or leave it out")
        elif wrong := _url_problem(self.server):
            yield Problem(("server",), f"`server` {wrong}")


def _url_problem(url: str) -> str | None:
    """What is wrong with it, without the parts in which there may be a key."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url:
        return f"{format_value(url.partition('?')[0])} is no URL of a server: give one such as http://localhost:8000/v1"
    if parts.query or parts.fragment:
        return "has a query, which is not shown: give the base URL alone, and the key in the variable of `key_variable`"
    return None
