"""A server with OpenAI's protocol that makes up its answers, and fails as it is told to; the standard library's own."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


class FakeServer(ThreadingHTTPServer):
    """Answers with `answer(source, draw)`; the source is the last line of the prompt.

    Args:
        answer: from a source and the number of the choice to the text of that choice.
        fault: from a source and how often it was asked about before, to what goes wrong: None, a status, (status,
            Retry-After), or one of drop, stall, truncate, prose.
        latency: seconds that an answer takes.
        ignores_n: whether there is one choice, whatever is asked for.
        logprobs: from a choice's text to the field of that name, by the API.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        answer: Callable[[str, int], str] = lambda source, draw: source.upper(),
        fault: Callable[[str, int], Any] = lambda source, before: None,
        *,
        latency: float = 0.0,
        ignores_n: bool = False,
        logprobs: Callable[[str, str], Any] = lambda text, api: None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.fault, self.latency = answer, fault, latency
        self.ignores_n, self.logprobs = ignores_n, logprobs
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.bodies: list[Body] = []
        self.keys: set[str | None] = set()
        self.at_once = self.most_at_once = 0
        self.finish_reason, self.counts_tokens = "stop", True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or has waited long enough, is no error of the server."""


@contextmanager
def serving(server: FakeServer) -> Iterator[FakeServer]:
    """The server runs inside the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # headers and body in one packet
    server: FakeServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, source = self.server, _source(body)
        with server.lock:
            before = server.asked[source]
            server.asked[source] += 1
            server.bodies.append(body)
            server.keys.add(self.headers.get("Authorization"))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self._respond(body, source, server.fault(source, before))
        finally:
            with server.lock:
                server.at_once -= 1

    def _respond(self, body: Body, source: str, fault: Any) -> None:
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
            return
        time.sleep(2.0 if fault == "stall" else self.server.latency)
        if isinstance(fault, int | tuple):
            status, after = fault if isinstance(fault, tuple) else (fault, None)
            key = self.headers.get("Authorization")
            self._send(status, {"error": {"message": f"status {status} for {key}"}}, retry_after=after)
        elif fault == "prose":
            self._send(200, b"<html>The model is busy.</html>")
        else:
            self._send(200, self._completion(body, source), cut=fault == "truncate")

    def _completion(self, body: Body, source: str) -> Body:
        server, api = self.server, "chat" if "messages" in body else "completions"
        choices = []
        for number in range(1 if server.ignores_n else body.get("n", 1)):
            text = server.answer(source, number)
            choice: Body = {"index": number, "finish_reason": server.finish_reason}
            choice |= {"message": {"role": "assistant", "content": text}} if api == "chat" else {"text": text}
            choices.append(choice | {"logprobs": server.logprobs(text, api) if "logprobs" in body else None})
        usage = {"prompt_tokens": 10, "completion_tokens": 5 * len(choices), "total_tokens": 10 + 5 * len(choices)}
        return {
            "choices": choices[::-1],
            "usage": usage if server.counts_tokens else None,
            "system_fingerprint": "fp_1",
            "model": body["model"],
        }

    def _send(self, status: int, body: Body | bytes, *, cut: bool = False, retry_after: str | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def _source(body: Body) -> str:
    if "messages" in body:
        return str(body["messages"][-1]["content"].rpartition("\n")[2])
    lines = str(body["prompt"]).splitlines()
    return lines[-2].partition(": ")[2]
