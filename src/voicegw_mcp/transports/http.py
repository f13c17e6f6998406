"""Serves many clients over HTTP: Streamable HTTP in both protocol eras, and HTTP+SSE. Knows neither tools nor tokens.

Plain ASGI and a table of paths: Starlette's router answers a slash too many with a redirect, on which clients drop body or
header. May import mcp, Starlette, uvicorn and anyio.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType
    from typing import TypeAlias

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Receive, Scope, Send

    McpServer: TypeAlias = Server[dict[str, Any]]

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
MAX_SESSIONS: Final = 2000
"""Open sessions of each kind; one more is answered 503 with Retry-After."""

IDLE_S: Final = 1800.0
RETRY_AFTER_S: Final = 5
HEADERS_S: Final = 15.0
"""How long a connection may take to send the headers of its first request."""

KEEP_ALIVE_S: Final = 30
STOPPING_S: Final = 5
"""How long open answers have to end after a signal."""


def bind_session(scope: Scope, holder: str) -> None:
    """Tell the session managers who calls: a session answers only to the holder that opened it, to others it is unknown."""
    scope["user"] = AuthenticatedUser(AccessToken(token="-", client_id=holder, scopes=[]))  # noqa: S106 - no token is kept


class McpRoutes:
    """The MCP routes of one server, as one ASGI application with a lifespan.

    Args:
        server: made once, shared by all sessions.
        others: further routes by path.
        missing: answers every other path.
    """

    def __init__(self, server: McpServer, others: Mapping[str, ASGIApp], missing: ASGIApp) -> None:
        self._missing = missing
        self._sessions = StreamableHTTPSessionManager(
            server,
            max_sessions=MAX_SESSIONS,
            session_idle_timeout=IDLE_S,
            max_request_body_size=MAX_BODY_BYTES,
        )
        events = SseServerTransport("/messages/", max_request_body_size=MAX_BODY_BYTES)
        streamable = _with_retry_after(self._sessions.handle_request)
        self._table: dict[str, ASGIApp] = {
            "/mcp": streamable,
            "/mcp/": streamable,
            "/sse": _EventStreams(server, events),
            "/messages": events.handle_post_message,
            "/messages/": events.handle_post_message,
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


class _EventStreams:
    """``GET /sse``: one stream is one session, until its client goes."""

    def __init__(self, server: McpServer, events: SseServerTransport) -> None:
        self._server = server
        self._events = events
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await Response(status_code=405, headers={"allow": "GET"})(scope, receive, send)
            return
        if self._open >= MAX_SESSIONS:
            busy = {"retry-after": str(RETRY_AFTER_S)}
            await Response("Too many open sessions", 503, busy)(scope, receive, send)
            return
        self._open += 1
        try:
            async with self._events.connect_sse(scope, receive, send) as (incoming, outgoing):
                await self._server.run(incoming, outgoing, self._server.create_initialization_options())
        finally:
            self._open -= 1


def _with_retry_after(app: ASGIApp) -> ASGIApp:
    """Say when to come again where the SDK only says that there are too many sessions (503)."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                message = {
                    **message,
                    "headers": [*message["headers"], (b"retry-after", b"%d" % RETRY_AFTER_S)],
                }
            await send(message)

        await app(scope, receive, tell)

    return wrapped


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
    config = uvicorn.Config(
        app,
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
    server = _Server(config, ready)
    await server.serve(sockets=[bound])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; uvicorn would raise the signal again at the end of ``serve``, before what is open can be closed."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


class _Patient(H11Protocol):
    """Drops a connection whose first headers do not come in time: uvicorn waits for them without end."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEADERS_S, self._drop)

    def _drop(self) -> None:
        if self.scope is None and not self.transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)
