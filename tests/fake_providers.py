"""Providers' check requests, spoken over loopback HTTP: what a right and a wrong key get, and servers that misbehave.

The expected requests are written out here a second time, from the providers' API references and not from the table under
test: a mistake in one of the two shows.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.listener import listening

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

KEY = "sk-live-0123456789abcdefghij"
"""The key that every fake accepts."""


@dataclass(frozen=True)
class Expected:
    """A provider's documented request: path with query, the header with ``{key}``, and what a wrong key gets."""

    path: str
    header: str
    value: str
    extra: dict[str, str] = field(default_factory=dict)
    bad_status: int = 401
    bad_body: Any = None


EXPECTED = {
    "anthropic": Expected("/v1/models?limit=1", "x-api-key", "{key}", {"anthropic-version": "2023-06-01"}),
    "assemblyai": Expected("/v2/transcript?limit=1", "Authorization", "{key}"),
    "azure": Expected("/cognitiveservices/voices/list", "Ocp-Apim-Subscription-Key", "{key}"),
    "cartesia": Expected(
        "/voices?limit=1", "Authorization", "Bearer {key}", {"Cartesia-Version": "2025-04-16"}
    ),
    "cerebras": Expected("/v1/models", "Authorization", "Bearer {key}"),
    "deepgram": Expected("/v1/auth/token", "Authorization", "Token {key}"),
    "elevenlabs": Expected("/v1/models", "xi-api-key", "{key}"),
    "fireworksai": Expected("/inference/v1/models", "Authorization", "Bearer {key}"),
    "fishaudio": Expected("/wallet/self/api-credit", "Authorization", "Bearer {key}"),
    "gladia": Expected("/v2/pre-recorded?limit=1", "x-gladia-key", "{key}"),
    "google": Expected(
        "/v1beta/models?pageSize=1",
        "x-goog-api-key",
        "{key}",
        bad_status=400,
        bad_body={
            "error": {
                "code": 400,
                "message": "API key not valid. Please pass a valid API key.",
                "details": [{"reason": "API_KEY_INVALID"}],
            }
        },
    ),
    "groq": Expected("/openai/v1/models", "Authorization", "Bearer {key}"),
    "hume": Expected("/v0/tts/voices?provider=HUME_AI&page_size=1", "X-Hume-Api-Key", "{key}"),
    "inworld": Expected("/tts/v1/voices", "Authorization", "Basic {key}"),
    "lmnt": Expected("/v1/account", "X-API-Key", "{key}", {"lmnt-version": "1.0"}),
    "mistralai": Expected("/v1/models", "Authorization", "Bearer {key}"),
    "neuphonic": Expected("/voices", "x-api-key", "{key}"),
    "ollama": Expected("/api/tags", "Authorization", "Bearer {key}"),
    "openai": Expected("/v1/models", "Authorization", "Bearer {key}"),
    "openai_compatible": Expected("/v1/models", "Authorization", "Bearer {key}"),
    "sarvam": Expected("/voices?limit=1", "api-subscription-key", "{key}", bad_status=403),
    "soniox": Expected("/v1/models", "Authorization", "Bearer {key}"),
    "speechify": Expected("/v1/voices", "Authorization", "Bearer {key}"),
    "speechmatics": Expected("/v2/jobs?limit=1", "Authorization", "Bearer {key}"),
    "xai": Expected(
        "/v1/api-key",
        "Authorization",
        "Bearer {key}",
        bad_status=400,
        bad_body={"error": "Incorrect API key provided."},
    ),
}
"""Type name -> its check request."""


@dataclass
class Server:
    """A running fake: its root URL, and the requests it got as (path, lower-cased headers)."""

    url: str
    port: int
    requests: list[tuple[str, dict[str, str]]]
    released: threading.Event


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(
    respond: Callable[[BaseHTTPRequestHandler, threading.Event], Answer | None],
    *,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Server]:
    """Run a server on a free loopback port; ``respond`` returns an answer, or None when it wrote one itself.

    ``respond``'s second argument is set when the test is over: a server that never answers waits for it, with a bound.
    """
    requests: list[tuple[str, dict[str, str]]] = []
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.close_connection = True
            try:
                answer = respond(self, released)
                if answer is not None:
                    status, headers, body = answer
                    self.send_response(status)
                    for name, value in ({"Content-Length": str(len(body))} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    with listening(Handler, released, tls=tls) as port:
        yield Server(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}", port, requests, released)


def provider(name: str):
    """Return a ``respond`` that checks the documented request of provider type ``name``."""
    expected = EXPECTED[name]

    def respond(handler: BaseHTTPRequestHandler, _: threading.Event) -> Answer:
        if handler.path != expected.path or any(
            handler.headers[each] != v for each, v in expected.extra.items()
        ):
            return 404, {}, b"no such route"
        if handler.headers[expected.header] == expected.value.format(key=KEY):
            return 200, {"Content-Type": "application/json"}, b"{}"
        body = expected.bad_body or {"error": {"message": "Invalid key"}}
        return expected.bad_status, {"Content-Type": "application/json"}, json.dumps(body).encode()

    return respond


def answering(status: int, body: bytes = b"", **headers: str):
    """Return a ``respond`` that always says the same; header names have ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _handler, _released: (status, named, body)


def never_answering(_handler: BaseHTTPRequestHandler, released: threading.Event) -> None:
    """Take the request and say nothing until the test is over."""
    released.wait(30)


def dripping(handler: BaseHTTPRequestHandler, released: threading.Event) -> None:
    """Send a byte of the body every 20 ms, without end."""
    handler.send_response(200)
    handler.end_headers()
    while not released.wait(0.02):
        handler.wfile.write(b".")


def dripping_headers(handler: BaseHTTPRequestHandler, released: threading.Event) -> None:
    """Send a byte of a header every 20 ms, without end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not released.wait(0.02):
        handler.wfile.write(b".")


def endless(size: int, sent: list[int]):
    """Return a ``respond`` with a body of ``size`` bytes; ``sent`` collects how many the other side took."""

    def respond(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        block = b"x" * 65536
        for _ in range(size // len(block)):
            handler.wfile.write(block)
            sent.append(len(block))

    return respond


def not_http(handler: BaseHTTPRequestHandler, _: threading.Event) -> None:
    """Answer in another protocol."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
