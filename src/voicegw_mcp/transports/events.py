"""HTTP+SSE (revision 2024-11-05): a stream for the server's messages, and posts beside it. Knows neither tools nor tokens.

Our own, because an idle session of the SDK's transport holds eight tasks and more than 100 KB: here the stream is written
by whoever has something to say, and one task waits for the client's leaving and pings. May import mcp, Starlette, anyio.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs
from uuid import uuid4

import anyio
import mcp_types as types
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.streams.memory import MemoryObjectSendStream
    from mcp.server.lowlevel import Server
    from starlette.types import Message, Receive, Scope, Send

PING_S: Final = 15.0
"""How often an idle stream gets a comment, so that nothing between client and server takes it for dead."""

MAX_WAITING: Final = 64
"""Messages of a session that wait for its client to read; what it asks meanwhile is refused, for each may hold 100 KB."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class _Session:
    incoming: MemoryObjectSendStream[SessionMessage | Exception]
    outgoing: _Outgoing
    holder: str


class EventStreams:
    """The sessions of one server: ``GET /sse`` opens one, which lasts until its client goes; posts are its requests.

    Args:
        server: made once, shared by all sessions.
        endpoint: the path of the posts.
        max_sessions: open at the same time at most; one more is answered 503.
    """

    def __init__(self, server: Server[dict[str, Any]], endpoint: str, max_sessions: int) -> None:
        self._server = server
        self._endpoint = endpoint
        self._max_sessions = max_sessions
        self._sessions: dict[str, _Session] = {}

    def count(self) -> int:
        """Return how many sessions are open."""
        return len(self._sessions)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``GET /sse`` with a session (ASGI 3)."""
        if scope["method"] != "GET":
            await Response(status_code=405, headers={"allow": "GET"})(scope, receive, send)
            return
        if len(self._sessions) >= self._max_sessions:
            await Response("Too many open sessions", 503)(scope, receive, send)
            return
        session_id = uuid4().hex
        sending, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing = _Outgoing(send)
        self._sessions[session_id] = _Session(sending, outgoing, _holder(scope))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await outgoing.event("endpoint", f"{self._endpoint}?session_id={session_id}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_attend, receive, outgoing, sending)
                await self._server.run(incoming, outgoing, self._server.create_initialization_options())
                tasks.cancel_scope.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            del self._sessions[session_id]
            sending.close()
            incoming.close()
            outgoing.release()

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one message of a client (ASGI 3)."""
        if scope["method"] != "POST":
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)
            return
        named = parse_qs(scope["query_string"].decode("latin-1")).get("session_id")
        if not named:
            await Response("session_id is required", 400)(scope, receive, send)
            return
        session = self._sessions.get(named[0])
        if session is None or session.holder != _holder(scope):
            await Response("Could not find session", 404)(scope, receive, send)
            return
        if session.outgoing.waiting >= MAX_WAITING:
            await Response("The client does not read its answers", 503)(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            message = types.jsonrpc_message_adapter.validate_json(await request.body(), by_name=False)
        except ValidationError:
            await Response("Could not parse message", 400)(scope, receive, send)
            return
        await Response("Accepted", 202)(scope, receive, send)
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the stream ended meanwhile
            told = ServerMessageMetadata(request_context=Request(scope))
            await session.incoming.send(SessionMessage(message, metadata=told))


class _Outgoing:
    """The server's end of the stream: every message is written by the task that has it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.waiting = 0

    async def send(self, item: SessionMessage) -> None:
        await self.event("message", item.message.model_dump_json(by_alias=True, exclude_unset=True))

    async def event(self, name: str, data: str) -> None:
        await self._write(f"event: {name}\r\ndata: {data}\r\n\r\n".encode())

    def release(self) -> None:
        """Let go of the connection: what the SDK keeps of a session is garbage in a circle, and must not keep that."""
        self._send = _nowhere

    async def ping(self) -> None:
        await self._write(b": ping\r\n\r\n")

    async def aclose(self) -> None:
        """There is nothing to close: the stream is ended by whoever opened it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _write(self, event: bytes) -> None:
        self.waiting += 1
        try:
            await self._send({"type": "http.response.body", "body": event, "more_body": True})
        finally:
            self.waiting -= 1


async def _nowhere(_message: Message) -> None:
    """The client has gone."""


async def _attend(
    receive: Receive, outgoing: _Outgoing, incoming: MemoryObjectSendStream[SessionMessage | Exception]
) -> None:
    """Ping until the client goes, then end its session."""
    while True:
        with anyio.move_on_after(PING_S):
            while (await receive())["type"] != "http.disconnect":
                pass
            incoming.close()
            return
        await outgoing.ping()


def _holder(scope: Scope) -> str:
    """Return who a session belongs to; nobody where no token is asked for."""
    return getattr(scope.get("user"), "username", "")
