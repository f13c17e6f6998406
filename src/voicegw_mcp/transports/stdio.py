"""Serves one client over standard input and output. May import mcp and anyio."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import sys
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import anyio
from anyio import to_thread
from mcp.server.stdio import stdio_server

if sys.platform == "linux":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from mcp.server.lowlevel import Server

CLOSING_S = 0.8
"""Time to finish a change and close the store after a signal; a second in all is what a host waits."""

PARENT_CHECK_S = 0.5

_PIPE_BYTES = 256 * 1024


async def serve_stdio(
    server: Server[dict[str, Any]],
    close: Callable[[], Awaitable[None]],
    tell_lost: Callable[[OSError], int],
) -> None:
    """Serve one client over standard input and output until it goes away.

    Returns after end of input; on SIGINT, SIGTERM, the parent's death or when standard output takes no more the process
    ends here, because the thread that reads standard input cannot be interrupted (mcp 2.3 otherwise hangs on SIGINT until
    its input closes).

    Args:
        server: what to serve.
        close: releases what the server works on; called once, also before the process ends by a signal.
        tell_lost: tells that standard output takes no more, and why; returns the exit code.
    """

    async def end_lost(error: OSError) -> None:
        await _end(close, tell_lost(error))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_on_signal, close)
            tasks.start_soon(_end_with_parent, close)
            with _put_aside(end_lost) as wire:
                out = cast("anyio.AsyncFile[str] | None", wire)
                async with stdio_server(stdout=out) as (incoming, outgoing):
                    await server.run(incoming, outgoing, server.create_initialization_options())
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await close()


class _Wire:
    """Standard output as the SDK writes to it: in the event loop as long as there is room at once, else in a thread.

    The SDK asks two threads for each message, one to write it and one to flush it: a quarter of a call that does nothing.
    """

    def __init__(
        self,
        output_fd: int,
        write_now: Callable[[memoryview], int],
        end_lost: Callable[[OSError], Awaitable[None]],
    ) -> None:
        """Take what to write with.

        Args:
            output_fd: its descriptor.
            write_now: writes as much as can be without waiting, or raises BlockingIOError.
            end_lost: ends the program when it takes no more. Raised to the SDK, the error would wait for the next input.
        """
        self._output_fd = output_fd
        self._write_now = write_now
        self._end_lost = end_lost

    async def write(self, text: str) -> None:
        """Write all of it."""
        left = memoryview(text.encode())
        try:
            with suppress(BlockingIOError):
                left = left[self._write_now(left) :]
            if left:
                await to_thread.run_sync(self._finish, left)
        except OSError as error:
            await self._end_lost(error)

    async def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def _finish(self, left: memoryview) -> None:
        while left:
            try:
                left = left[os.write(self._output_fd, left) :]
            except BlockingIOError:  # somebody who shares it has set that it does not wait
                select.select([], [self._output_fd], [])


@contextmanager
def _put_aside(end_lost: Callable[[OSError], Awaitable[None]]) -> Generator[_Wire | None]:
    """Give what writes to standard output, which meanwhile is standard error for whoever prints.

    None on Windows leaves both to the SDK, which also knows that system's handles.
    """
    if sys.platform == "win32":
        yield None
        return
    with ExitStack() as opened:
        write_now = _open_without_waiting(opened)
        output_fd = os.dup(1)
        opened.callback(os.close, output_fd)
        os.dup2(2, 1)
        opened.callback(os.dup2, output_fd, 1)
        yield _Wire(output_fd, write_now, end_lost)


def _open_without_waiting(opened: ExitStack) -> Callable[[memoryview], int]:
    """Return what writes to standard output without waiting; what cannot be written to so takes nothing.

    Nothing may be set for its descriptor, which others share.
    """
    with suppress(OSError):
        kind = os.fstat(1).st_mode
        if stat.S_ISSOCK(kind):  # as hosts on Node.js make it
            client = opened.enter_context(socket.socket(fileno=os.dup(1)))
            return lambda data: client.send(data, socket.MSG_DONTWAIT)
        if stat.S_ISFIFO(kind):  # opened a second time: Linux only
            pipe = os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            opened.callback(os.close, pipe)
            _widen(pipe)
            return partial(os.write, pipe)
    return lambda _: 0


def _widen(pipe: int) -> None:
    """Let a pipe take a long answer at once: it is sent as text and as data, and Linux gives a pipe 64 KB."""
    if sys.platform == "linux":
        with suppress(OSError):  # the system's limit; then the rest is written in a thread
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


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
