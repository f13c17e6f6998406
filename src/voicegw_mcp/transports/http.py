"""Serves many clients over HTTP: Streamable HTTP in both protocol eras, and HTTP+SSE. Knows neither tools nor tokens.

Plain ASGI and a table of paths: Starlette's router answers a slash too many with a redirect, on which clients drop body or
header. May import ``errors``, mcp, Starlette, uvicorn and anyio.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import http
import itertools
import json
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from voicegw_mcp.errors import InvalidInput, ServerUnreachable
from voicegw_mcp.transports.events import EventStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import TypeAlias

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    McpServer: TypeAlias = Server[dict[str, Any]]

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_SESSIONS: Final = 2000
"""Open sessions of each kind; one more is answered 503 with Retry-After."""

IDLE_S: Final = 1800.0
RETRY_AFTER_S: Final = 5
HEADERS_S: Final = 15.0
"""How long a connection may take to send the headers of its first request."""

_HINTS: Final = {
    400: "Send one JSON-RPC 2.0 message as JSON in UTF-8.",
    404: "Open a new session: it has ended, or another token opened it.",
    405: "See the header Allow.",
    406: "Send `Accept: application/json, text/event-stream`.",
    415: "Send `Content-Type: application/json`.",
}
"""What to do about a refusal that the SDK leaves without a reason, by status."""

STALLED_S: Final = 60.0
"""How long a client may leave what it was sent unread, once the buffers on the way are full."""

GATHERED_BYTES: Final = 65_536
"""How much is gathered before it is sent."""

COLLECT_EVERY: Final = 256
"""Connections that end before garbage is looked for: sessions leave theirs in circles, and after many left nothing else would."""
COLLECT_AFTER_S: Final = 1.0

KEEP_ALIVE_S: Final = 30
STOPPING_S: Final = 5
"""How long open answers have to end after a signal."""

LET_GO_S: Final = 3.0
"""How long after a signal an answer is ended that did not end by itself; a stream of notices never would."""

_LISTENS: Final = (b"mcp-method", b"subscriptions/listen")

LET_GO: Final = "voicegw.let_go"
"""The key of a request's ASGI scope, when it is answered by a stream, under which is what ends that."""


def bind_session(scope: Scope, holder: str) -> None:
    """Tell the session managers who calls: a session answers only to the holder that opened it, to others it is unknown."""
    scope["user"] = _user(holder)


@functools.lru_cache(maxsize=256)
def _user(holder: str) -> AuthenticatedUser:
    return AuthenticatedUser(AccessToken(token="-", client_id=holder, scopes=[]))  # noqa: S106 - no token is kept


class McpRoutes:
    """The MCP routes of one server, as one ASGI application with a lifespan.

    Args:
        server: made once, shared by all sessions.
        others: further routes by path.
        missing: answers every other path.
        max_sessions: of each kind, open at the same time.
    """

    def __init__(
        self,
        server: McpServer,
        others: Mapping[str, ASGIApp],
        missing: ASGIApp,
        *,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        self._missing = missing
        self._sessions = StreamableHTTPSessionManager(
            server,
            max_sessions=max_sessions,
            session_idle_timeout=IDLE_S,
            max_request_body_size=MAX_BODY_BYTES,
        )
        events = EventStreams(server, "/messages/", max_sessions)
        streamable = _typed(self._sessions.handle_request)
        messages = _typed(events.post)
        self._table: dict[str, ASGIApp] = {
            "/mcp": streamable,
            "/mcp/": streamable,
            "/sse": _typed(events.stream),
            "/messages": messages,
            "/messages/": messages,
            **others,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._table.get(scope["path"], self._missing)(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._sessions.run():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def _typed(app: ASGIApp) -> ASGIApp:
    """Give every refusal a body that a program can read, and say when to come again (503).

    The SDK refuses some requests with JSON-RPC errors, which stay, and others with a line of text or nothing.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, _Refusals(send).send)

    return wrapped


class _Refusals:
    """Holds a refusal back until it is whole, and replaces its text by the one error shape."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._text = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._text += message.get("body", b"")
            if not message.get("more_body", False):
                start, self._start = self._start, None
                await self._refuse(start)

    async def _refuse(self, start: Message) -> None:
        headers = dict(start["headers"])
        if start["status"] == 503:
            headers[b"retry-after"] = b"%d" % RETRY_AFTER_S
        if not headers.get(b"content-type", b"").startswith(b"application/json"):
            self._text = _error_body(start["status"], self._text.decode("utf-8", "replace"))
            headers[b"content-type"] = b"application/json"
        headers[b"content-length"] = b"%d" % len(self._text)
        await self._send({**start, "headers": list(headers.items())})
        await self._send({"type": "http.response.body", "body": self._text})


def _error_body(status: int, text: str) -> bytes:
    message = text.rstrip(".") or http.HTTPStatus(status).phrase
    error = (
        ServerUnreachable(f"{message}.", hint=f"Try again in {RETRY_AFTER_S} seconds.")
        if status >= 500
        else InvalidInput(f"{message}.", hint=_HINTS.get(status, ""))
    )
    return json.dumps(error.payload(), separators=(",", ":")).encode()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 chooses one. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError:
        bound.close()
        raise
    bound.set_inheritable(False)
    return bound


async def serve_http(app: ASGIApp, bound: socket.socket, ready: Callable[[], None]) -> None:
    """Serve ``app`` until SIGINT or SIGTERM, then give open answers ``STOPPING_S`` to end.

    Args:
        app: with a lifespan.
        bound: what ``listen`` returned.
        ready: called once requests are taken.
    """
    letting_go = _LettingGo(app)
    config = uvicorn.Config(
        letting_go,
        http=_Patient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOPPING_S,
    )
    server = _Server(config, ready, letting_go.stop)
    await server.serve(sockets=[bound])


class _LettingGo:
    """Ends answers that would outlast the server: uvicorn cuts them with a traceback each."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: dict[anyio.CancelScope, bool] = {}

    def stop(self) -> None:
        """End streams of notices now, and what is left a little later."""
        self._end(only_streams=True)
        asyncio.get_running_loop().call_later(LET_GO_S, self._end)

    def _end(self, *, only_streams: bool = False) -> None:
        for answering, is_stream in list(self._open.items()):
            if is_stream or not only_streams:
                answering.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told: list[Any] = []

        async def tell(message: Any) -> None:
            await send(message)
            told[:] = [message]

        is_stream = scope["method"] == "GET" or _LISTENS in scope["headers"]
        with anyio.CancelScope() as answering:
            self._open[answering] = is_stream
            if is_stream:
                scope[LET_GO] = answering.cancel
            try:
                await self._app(scope, receive, tell)
            finally:
                del self._open[answering]
        if answering.cancelled_caught:
            if not told:
                again = {"retry-after": str(RETRY_AFTER_S)}
                body = _error_body(503, "The server is stopping")
                await Response(body, 503, again, "application/json")(scope, receive, send)
            elif told[0]["type"] == "http.response.start" or told[0].get("more_body"):
                await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], stopping: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; uvicorn would raise the signal again at the end of ``serve``, before what is open can be closed."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


class _Gathering:
    """Sends what is written in one turn of the loop at once: uvicorn writes head and body of an answer apart."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > GATHERED_BYTES:  # or who writes without waiting would never be told to wait
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
            self._held, self._size = [], 0
            if not self._transport.is_closing():
                self._transport.write(data)


_lost = itertools.count(1)
"""Connections that ended; a number of its own for each."""


class _Patient(H11Protocol):
    """Drops a connection whose first headers do not come in time, or that takes nothing: uvicorn waits without end."""

    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        super().connection_made(cast("asyncio.Transport", _Gathering(transport, self.loop)))
        self._deadline = self.loop.call_later(HEADERS_S, self._drop)

    def _drop(self) -> None:
        if self.scope is None and not self.transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget(self._stalled)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget(self._deadline)
        self._forget(self._stalled)
        self._unset_keepalive_if_required()  # else its timer keeps the connection in memory for KEEP_ALIVE_S
        super().connection_lost(exc)
        if next(_lost) % COLLECT_EVERY == 0:
            self.loop.call_later(COLLECT_AFTER_S, gc.collect)

    @staticmethod
    def _forget(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
