"""Serves many clients over HTTP: Streamable HTTP in both protocol eras, and HTTP+SSE. Knows neither tools nor tokens.

Plain ASGI and a table of paths: Starlette's router answers a slash too many with a redirect, on which clients drop body or
header. May import ``errors``, mcp, Starlette, uvicorn and anyio.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import json
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.responses import Response

from voicegw_mcp.errors import InvalidInput, ServerUnreachable
from voicegw_mcp.transports.connections import Connection
from voicegw_mcp.transports.events import EventStreams
from voicegw_mcp.transports.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType
    from typing import TypeAlias

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    McpServer: TypeAlias = Server[dict[str, Any]]

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_SESSIONS: Final = 2000
"""Open sessions of each kind; one more is answered 503 with Retry-After."""

OPEN_FILES: Final = 16_384
"""Sockets of as many sessions, followers of the log and waiting connections as there may be, and files of the store."""

IDLE_S: Final = 1800.0
RETRY_AFTER_S: Final = 5
_HINTS: Final = {
    400: "Send one JSON-RPC 2.0 message as JSON in UTF-8.",
    404: "Open a new session: it has ended, or another token opened it.",
    405: "See the header Allow.",
    406: "Send `Accept: application/json, text/event-stream`.",
    415: "Send `Content-Type: application/json`.",
}
"""What to do about a refusal that the SDK leaves without a reason, by status."""

KEEP_ALIVE_S: Final = 30
STOPPING_S: Final = 5
"""How long open answers have to end after a signal."""

LET_GO_S: Final = 3.0
"""How long after a signal an answer is ended that did not end by itself; a stream of notices never would."""

_LISTENS: Final = (b"mcp-method", b"subscriptions/listen")

LET_GO: Final = "voicegw.let_go"
"""The key of a request's ASGI scope, when it is answered by a stream, under which is what ends that."""

WHOLE: Final = "voicegw.whole"
"""The key of a request's ASGI scope that says that half an answer is none: ended early, it stays incomplete, and its connection is closed."""


def bind_session(scope: Scope, holder: str) -> None:
    """Tell the session managers who calls: a session answers only to the holder that opened it, to others it is unknown."""
    scope["user"] = _user(holder)


@functools.lru_cache(maxsize=256)
def _user(holder: str) -> AuthenticatedUser:
    return AuthenticatedUser(AccessToken(token="-", client_id=holder, scopes=[]))  # noqa: S106 - no token is kept


class McpRoutes:
    """The MCP routes of one server, as one ASGI application with a lifespan. Who calls it limits bodies to ``MAX_BODY_BYTES``.

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
        self._sessions = Sessions(server, most=max_sessions, idle_s=IDLE_S)
        self._events = events = EventStreams(server, "/messages/", max_sessions)
        # What is behind the SDK's own limit of bodies: ours has read the whole body, no need to collect it once more.
        streamable = _typed(self._sessions.asgi_app.app)
        messages = _typed(events.post)
        self._table: dict[str, ASGIApp] = {
            "/mcp": streamable,
            "/mcp/": streamable,
            "/sse": _typed(events.stream),
            "/messages": messages,
            "/messages/": messages,
            **others,
        }

    def open_sessions(self) -> dict[str, int]:
        """Return how many sessions are open, by transport."""
        return {"streamable_http": self._sessions.count(), "sse": self._events.count()}

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


async def serve_http(
    app: ASGIApp, bound: socket.socket, ready: Callable[[], None], *, also: Sequence[socket.socket] = ()
) -> None:
    """Serve ``app`` until SIGINT or SIGTERM, then give open answers ``STOPPING_S`` to end.

    Args:
        app: with a lifespan.
        bound: what ``listen`` returned.
        ready: called once requests are taken.
        also: further sockets for the same application.
    """
    _allow_open_files()
    letting_go = _LettingGo(app)
    config = uvicorn.Config(
        letting_go,
        http=Connection,
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
    await server.serve(sockets=[bound, *also])


def _allow_open_files() -> None:
    """Have the system let this process open ``OPEN_FILES``, or as many as it may ask for: usually a program begins with 1,024."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # macOS refuses what is above a limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _LettingGo:
    """Ends answers that would outlast the server: uvicorn cuts them with a traceback each."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[_Answer] = set()

    def stop(self) -> None:
        """End streams of notices now, and what is left a little later."""
        self._end(only_streams=True)
        asyncio.get_running_loop().call_later(LET_GO_S, self._end)

    def _end(self, *, only_streams: bool = False) -> None:
        for answer in list(self._open):
            if answer.is_stream or not only_streams:
                answer.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, is_stream=scope["method"] == "GET" or _LISTENS in scope["headers"])
        if answer.is_stream:
            scope[LET_GO] = answer.end
        self._open.add(answer)
        try:
            await self._app(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not answer.was_ended():
                raise
            await answer.finish(scope, receive)
        finally:
            self._open.remove(answer)
            scope.pop(LET_GO, None)  # else they hold each other, and all there is of the connection


class _Answer:
    """The answer to one request, which is the work of one task of uvicorn's."""

    __slots__ = ("_ended", "_last", "_send", "_task", "is_stream")

    def __init__(self, send: Send, *, is_stream: bool) -> None:
        self.is_stream = is_stream
        self._send = send
        self._task = asyncio.current_task()
        self._last: Message | None = None
        self._ended = False

    async def send(self, message: Message) -> None:
        await self._send(message)
        self._last = message

    def end(self) -> None:
        """Cancel the task. Not by a scope of anyio's: one for each request is dear, and only some are ever ended."""
        if self._task is not None and not self._ended:
            self._ended = True
            self._task.cancel()

    def was_ended(self) -> bool:
        """Say whether a cancellation that arrived is that of ``end`` alone, and take it back."""
        return self._ended and self._task is not None and not self._task.uncancel()

    async def finish(self, scope: Scope, receive: Receive) -> None:
        """Complete what was begun, unless that would be taken for the whole; to who got nothing yet, say to come again."""
        if self._last is None:
            again = {"retry-after": str(RETRY_AFTER_S)}
            body = _error_body(503, "The server is stopping")
            await Response(body, 503, again, "application/json")(scope, receive, self._send)
        elif WHOLE not in scope and (
            self._last["type"] == "http.response.start" or self._last.get("more_body")
        ):
            await self._send({"type": "http.response.body", "body": b""})


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
