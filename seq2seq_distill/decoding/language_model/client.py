"""A client of servers that speak OpenAI's protocol: bounded, patient, and within a budget."""

import asyncio
import email.utils
import json
import logging
import math
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from seq2seq_distill.decoding.language_model.prompts import Api
from seq2seq_distill.decoding.language_model.responses import PATHS, InvalidResponse, Response, parse_response
from seq2seq_distill.utils.errors import ConfigError, RunError, format_value, one_line
from seq2seq_distill.utils.redaction import without_secrets

logger = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0
"""Seconds before a request is repeated: they double each time, up to the second."""
LONGEST_RETRY_AFTER = 3600.0
"""Seconds: of what a server asks for, in its header Retry-After."""
_REPEATED = frozenset((408, 409, 425, 429))
_OF_THIS_REQUEST = frozenset((400, 413, 422))
_REMEDIES = {
    401: "set the environment variable of `key_variable` to a valid key",
    403: "use a key that may call this model",
    404: "check the URL, which ends in /v1 for most servers, and the name of the `model`",
}
_FAILURES = (aiohttp.ClientError, asyncio.TimeoutError, OSError, InvalidResponse, UnicodeDecodeError)


class Rejected(Exception):
    """The server refuses this request, and would refuse it again."""


class Unanswered(Exception):
    """A request has failed as often as it may be repeated."""


@dataclass
class Spent:
    """What was spent on answers."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def __iadd__(self, other: Self) -> Self:
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        return self


@dataclass(frozen=True)
class Budget:
    """What may be spent at most; None is no limit."""

    max_requests: int | None = None
    max_total_tokens: int | None = None

    def check(self, spent: Spent) -> None:
        """Raises RunError where no further request may be sent."""
        for name, count in (("max_requests", spent.requests), ("max_total_tokens", spent.tokens)):
            limit = getattr(self, name)
            if limit is not None and count >= limit:
                raise RunError(f"`{name}` {limit} is used up ({count}): raise it, and repeat the command to go on")


class Client:
    """Sends requests, at most `concurrency` at once; used as an asynchronous context manager.

    Args:
        server: its URL, as OpenAI's base URL.
        api: chat or plain completions.
        key: sent as a bearer token, unless the URL has a user; None sends none.
        concurrency: of requests.
        timeout: seconds for one request.
        max_retries: how often a request is repeated that fails for a reason that may pass.
        budget: checked before each request; those that are being answered then may add to it.
        spent: what was spent before; counted on.
    """

    def __init__(
        self,
        server: str,
        api: Api,
        key: str | None = None,
        *,
        concurrency: int = 64,
        timeout: float = 600.0,
        max_retries: int = 8,
        budget: Budget | None = None,
        spent: Spent | None = None,
    ) -> None:
        self.spent = spent or Spent()
        self._budget = budget or Budget()
        self._url, self._api = f"{server.rstrip('/')}/{PATHS[api]}", api
        self._key = None if urlsplit(server).username else key  # a request can have one authorization
        self._slots, self._timeout, self._max_retries = asyncio.Semaphore(concurrency), timeout, max_retries
        self._random = random.Random()  # of waiting times: requests that failed together must not come back together
        self._stopped = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the slots are the limit
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            trust_env=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    def stop(self) -> None:
        """Send no further requests; those in flight are answered."""
        self._stopped.set()

    async def ask(self, body: Mapping[str, Any], spent: Spent) -> Response:
        """The response to a request.

        Args:
            body: of the request.
            spent: what it takes is added to this, as to that of all requests.

        Raises:
            Rejected: the server refuses this request.
            Unanswered: it failed too often, or the client was stopped.
            ConfigError: the server refuses any request.
            RunError: the budget is used up.
        """
        reason = "stopped"
        for attempt in range(self._max_retries + 1):
            wait = 0.0
            async with self._slots:
                if self._stopped.is_set():
                    break
                self._budget.check(self.spent)
                for counts in (self.spent, spent):
                    counts += Spent(1)
                try:
                    response, reason, wait = await self._send(body)
                except _FAILURES as error:
                    response, reason = None, self._failure(error)
            if response is not None:
                for counts in (self.spent, spent):
                    counts += Spent(0, response.prompt_tokens, response.completion_tokens)
                return response
            if attempt < self._max_retries:
                longest = min(LONGEST_DELAY, FIRST_DELAY * 2**attempt)
                logger.debug("a request failed: %s", reason)
                await self._pause(max(wait, longest * self._random.uniform(0.5, 1)))
        raise Unanswered(reason)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the client is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _send(self, body: Mapping[str, Any]) -> tuple[Response | None, str, float]:
        """The response; or else what went wrong, and the seconds that the server asks to wait."""
        assert self._session is not None
        async with self._session.post(self._url, json=body, allow_redirects=False) as reply:
            text = self._without_key((await reply.read()).decode("utf-8"))
            if reply.status == 200:
                return self._parsed(text), "", 0.0
            message = f"status {reply.status}: {_message(text)}"
            if reply.status in _REPEATED or reply.status >= 500:
                return None, message, _retry_after(reply.headers.get("Retry-After"))
        if reply.status in _OF_THIS_REQUEST:
            raise Rejected(message)
        remedy = _REMEDIES.get(reply.status, "check the URL and the server")
        raise ConfigError(f"`server` {self._url} answers with {message}: {remedy}")

    def _parsed(self, text: str) -> Response:
        try:
            body = json.loads(text)
        except ValueError:
            raise InvalidResponse(f"no JSON: {format_value(text, 60)}") from None
        return parse_response(body, self._api)

    def _without_key(self, text: str) -> str:
        """What the server sends back may hold the key: it goes no further."""
        return without_secrets(text, [self._key]) if self._key else text

    def _failure(self, error: BaseException) -> str:
        if isinstance(error, asyncio.TimeoutError):
            return f"no answer within {self._timeout:g} s"
        return self._without_key(one_line(error)) if isinstance(error, Exception) else type(error).__name__


def _retry_after(value: str | None) -> float:
    """Seconds that the header asks for, as a number or as a date."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else 0.0


def _message(text: str) -> str:
    """What a server says in the body of an error: `error.message`, `error`, `message` or `detail`, or all of it."""
    try:
        body = json.loads(text)
        error = body.get("error", body)
        found = error if isinstance(error, str) else error.get("message") or error.get("detail") or text
    except (AttributeError, ValueError):
        found = text
    return format_value(" ".join(str(found).split()) or "without a message").rstrip(".")
