"""One connection of an HTTP client: waits for it, but not without end, and leaves nothing behind. May import uvicorn."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S: Final = 15.0
"""How long a connection may take to send the headers of its first request."""

STALLED_S: Final = 60.0
"""How long a client may leave what it was sent unread, once the buffers on the way are full."""

GATHERED_BYTES: Final = 65_536
"""How much is gathered before it is sent."""

COLLECT_AFTER: Final = 256
"""Connections that end before garbage is looked for: sessions leave theirs in circles, and after many left nothing else would."""
COLLECT_DELAY_S: Final = 1.0
"""How long is waited then: many often end together."""

BODY_IS_THERE: Final = "voicegw.body_is_there"
"""The key of a request's ASGI scope that says that its whole body has come: nobody needs to wait for it, or to measure the time."""


class _Gathering:
    """Sends what is written in one turn of the loop at once: uvicorn writes head and body of an answer apart."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

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


class _Leavings:
    """Has the garbage collected that connections left."""

    def __init__(self) -> None:
        self._connections = 0
        self._due = False

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        self._connections += 1
        if self._connections >= COLLECT_AFTER and not self._due:
            self._due = True
            loop.call_later(COLLECT_DELAY_S, self._collect)

    def _collect(self) -> None:
        self._connections, self._due = 0, False
        gc.collect()


class Connection(H11Protocol):
    """Drops a connection whose first headers do not come in time, or that takes nothing: uvicorn waits without end."""

    _leavings = _Leavings()
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        """Begin to wait for the headers of a request."""
        super().connection_made(cast("asyncio.Transport", _Gathering(transport, self.loop)))
        self._deadline = self.loop.call_later(HEADERS_S, self._drop)

    def data_received(self, data: bytes) -> None:
        """Read on, and tell whether that was the rest of a request."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.more_body:  # pyright: ignore[reportUnnecessaryComparison]
            cast("dict[str, Any]", self.cycle.scope)[BODY_IS_THERE] = True

    def _drop(self) -> None:
        if self.scope is None and not self.transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()

    def pause_writing(self) -> None:
        """Begin to wait until the client reads."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._forget(self._stalled)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._forget(self._deadline)
        self._forget(self._stalled)
        self._unset_keepalive_if_required()  # else its timer keeps the connection in memory for KEEP_ALIVE_S
        super().connection_lost(exc)
        self._leavings.add(self.loop)

    @staticmethod
    def _forget(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
