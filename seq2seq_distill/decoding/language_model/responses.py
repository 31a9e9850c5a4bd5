"""Responses of servers that speak OpenAI's protocol: what is asked for, and what comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from seq2seq_distill.decoding.language_model.answers import Answer, align
from seq2seq_distill.decoding.language_model.prompts import Api, Prompts

PATHS: Mapping[Api, str] = {"chat": "chat/completions", "completions": "completions"}


class InvalidResponse(Exception):
    """What the server sent is no response of the protocol."""


@dataclass(frozen=True)
class Response:
    """What a server says to one request."""

    answers: list[Answer]
    """In the order of their numbers."""
    prompt_tokens: int
    completion_tokens: int
    """Of all answers."""
    fingerprint: str | None
    """`system_fingerprint`: of the server's software and configuration."""
    has_usage: bool
    """Whether the server counts tokens."""
    has_log_probabilities: bool
    """Whether there are any, of whatever use."""


def request_body(prompts: Prompts, api: Api, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request about a source.

    Args:
        prompts: make the prompt.
        api: which of the two ways of asking; a completion of a source of one line ends with its line.
        options: the model and all that says how to decode.
    """
    if api == "chat":
        return {**options, "messages": prompts.messages(source)}
    stop = {} if "stop" in options or "\n" in source.strip() else {"stop": ["\n"]}
    return {**options, **stop, "prompt": prompts.text(source)}


def parse_response(body: Any, api: Api) -> Response:
    """The response in a server's JSON.

    Raises:
        InvalidResponse: it has another form.
    """
    try:
        choices = sorted(body["choices"], key=lambda choice: choice.get("index") or 0)
        if not choices:
            raise ValueError("no choices")
        usage = body.get("usage") or {}
        return Response(
            [_answer(choice, api) for choice in choices],
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
            body.get("system_fingerprint"),
            bool(usage),
            any(choice.get("logprobs") for choice in choices),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidResponse(f"{type(error).__name__}: {error}") from None


def _answer(choice: Mapping[str, Any], api: Api) -> Answer:
    content = choice["message"].get("content") if api == "chat" else choice["text"]
    text = "" if content is None else content
    if not isinstance(text, str):
        raise TypeError("the text of an answer is no text")
    reason, log_probabilities = choice.get("finish_reason"), choice.get("logprobs")
    scores = mean = None
    if log_probabilities:
        read = _chat_tokens if "content" in log_probabilities else _completion_tokens  # llama.cpp has one form alone
        tokens, values = read(log_probabilities, text)
        scores = align(tokens, values, text, ended=reason == "stop")
        mean = fmean(values) if values else None
    # The scores are those of the text without the white space around it, which no target has.
    return Answer(text.strip() if scores else text, reason == "length", scores, mean)


def _chat_tokens(log_probabilities: Mapping[str, Any], text: str) -> tuple[list[bytes], list[float]]:
    tokens = log_probabilities["content"] or []
    spelt = [bytes(token["bytes"]) if token.get("bytes") is not None else _bytes(token["token"]) for token in tokens]
    return spelt, [float(token["logprob"]) for token in tokens]


def _completion_tokens(log_probabilities: Mapping[str, Any], text: str) -> tuple[list[bytes], list[float]]:
    """`text_offset` says where tokens begin, in characters; what is written for a token may differ from its text."""
    tokens: Sequence[str] = log_probabilities["tokens"] or []
    offsets: Sequence[int] = log_probabilities.get("text_offset") or []
    values = [float(value) for value in log_probabilities["token_logprobs"][: len(tokens)]]
    if len(offsets) != len(tokens):
        return [_bytes(token) for token in tokens], values
    starts = [offset - offsets[0] for offset in offsets] + [len(text)]
    pieces = [text[start:end] for start, end in zip(starts, starts[1:], strict=False)]
    # A token that is a part of a character has no text of its own; where it ends is then unknown.
    if any(not piece for piece in pieces[:-1]) or starts != sorted(starts):
        return [b""] * len(tokens), values
    return [_bytes(piece) for piece in pieces], values


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
