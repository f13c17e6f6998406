"""Answers that come in parts: exports, page by page, and events, for as long as the client takes them. May import ``server``, ``transports``, ``errors``.

Of an export that fails in the middle the connection is broken off: one that ended like a whole one would be taken for it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
from pydantic_core import to_json

from voicegw_mcp.errors import GatewayError
from voicegw_mcp.server import logged
from voicegw_mcp.transports.http import WHOLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.types import Receive, Scope, Send

PageT = TypeVar("PageT")

PING_S: Final = 15.0
"""How often an idle stream of events gets a comment, so that nothing between client and server takes it for dead."""

EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Stream(Generic[PageT]):
    """An answer whose first part is there (ASGI 3).

    Args:
        kind: its type.
        first: the first part.
        rest: the pages behind it; is closed in any case.
        write: makes a part of a page.
        headers: besides the type.
    """

    kind: str
    first: bytes
    rest: AsyncGenerator[PageT]
    write: Callable[[PageT], bytes]
    headers: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts until there are no more, or the client has gone."""
        named = {"content-type": f"{self.kind}; charset=utf-8", "cache-control": "no-store", **self.headers}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        if self.kind != EVENTS:
            scope[WHOLE] = True
        async with contextlib.aclosing(self.rest):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            whole = scope["method"] == "HEAD" or await self._send_parts(receive, send, scope["path"])
        if whole:
            await send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, receive: Receive, send: Send, path: str) -> bool:
        """Send everything; say whether that was all there was to send."""
        whole = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._attend, receive, send, tasks.cancel_scope)
            try:
                await _send_part(send, self.first)
                async for page in self.rest:
                    await _send_part(send, self.write(page))
                whole = True
            except GatewayError as error:
                whole = await self._fail(send, error)
            except Exception as error:  # noqa: BLE001 - the door: whatever went wrong is logged, and told where that is possible
                whole = await self._fail(send, logged(path, error))
            tasks.cancel_scope.cancel()
        return whole

    async def _fail(self, send: Send, error: GatewayError) -> bool:
        if self.kind != EVENTS:
            return False
        await _send_part(send, b"event: error\ndata: %b\n\n" % to_json(error.payload()))
        return True

    async def _attend(self, receive: Receive, send: Send, scope: anyio.CancelScope) -> None:
        """End the stream when the client goes; meanwhile ping one of events."""
        while True:
            with anyio.move_on_after(PING_S if self.kind == EVENTS else None):
                while (await receive())["type"] != "http.disconnect":
                    pass
                scope.cancel()
                return
            await _send_part(send, b": ping\n\n")


async def _send_part(send: Send, part: bytes) -> None:
    if part:
        await send({"type": "http.response.body", "body": part, "more_body": True})
