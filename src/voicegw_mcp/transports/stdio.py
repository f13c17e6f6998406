"""Serves one client over standard input and output. May import mcp and anyio."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from mcp.server.stdio import stdio_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.lowlevel import Server

CLOSING_S = 0.8
"""Time to finish a change and close the store after a signal; a second in all is what a host waits."""

PARENT_CHECK_S = 0.5


async def serve_stdio(server: Server[dict[str, Any]], close: Callable[[], Awaitable[None]]) -> None:
    """Serve one client over standard input and output until it goes away.

    Returns after end of input; on SIGINT, SIGTERM or the parent's death the process ends here, because the thread that
    reads standard input cannot be interrupted (mcp 2.3 otherwise hangs on SIGINT until its input closes).

    Args:
        server: what to serve.
        close: releases what the server works on; called once, also before the process ends by a signal.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_on_signal, close)
            tasks.start_soon(_end_with_parent, close)
            async with stdio_server() as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await close()


async def _end_on_signal(close: Callable[[], Awaitable[None]]) -> None:
    if sys.platform == "win32":
        return  # no asynchronous signals there; hosts end the process, the journal settles what was open
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for received in signals:
            await _end(close, 0 if received == signal.SIGTERM else 130)


async def _end_with_parent(close: Callable[[], Awaitable[None]]) -> None:
    """End when the parent is gone although something else keeps our input open; on Windows only EOF tells."""
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells us but asking
        await anyio.sleep(PARENT_CHECK_S)
    await _end(close, 0)


async def _end(close: Callable[[], Awaitable[None]], code: int) -> NoReturn:
    with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSING_S):
        await close()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
