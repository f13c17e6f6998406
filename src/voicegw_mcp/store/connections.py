"""Connections for reading, each with a thread of its own, and what waits for such threads.

May import ``store.bound_views``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import anyio

from voicegw_mcp.store.bound_views import BOUND_VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

INTERRUPTED_EVERY_S: Final = 0.02
"""How often a query is interrupted until it ends: of no effect before a statement has begun."""

_LEAST_PATIENCE_MS: Final = 500
_CACHE_KIB: Final = 32_000
_CACHE_OF_SOME_KIB: Final = 2_000


class Waiting:
    """How long statements wait for another program's lock.

    Opening and what is asked meanwhile share one span of ``whole_ms``; whatever is asked later has a whole one.
    """

    def __init__(self, whole_ms: int) -> None:
        self.whole_ms = whole_ms
        self.deadline = time.monotonic() + whole_ms / 1000

    def is_over(self) -> bool:
        """Whether the first span has passed."""
        return time.monotonic() >= self.deadline

    def left_ms(self) -> int:
        """Return how long a statement may wait that is asked now."""
        left = int((self.deadline - time.monotonic()) * 1000)
        return self.whole_ms if left <= 0 else max(left, min(_LEAST_PATIENCE_MS, self.whole_ms))


class Connection:
    """One connection of a reader and its thread; errors are SQLite's own.

    ``begin``, ``end`` and ``fetch`` are for what runs in the thread.
    """

    def __init__(self, thread: ThreadPoolExecutor, connection: sqlite3.Connection, waiting: Waiting) -> None:
        self._thread = thread
        self._connection = connection
        self._waiting = waiting
        self._patient = False
        self.given_up = False
        """Whether nobody waits any more for what runs in the thread."""

    @classmethod
    async def open(
        cls, place: str, waiting: Waiting, scripts: Iterable[str], projects: Collection[str] | None
    ) -> Connection:
        """Open one.

        Args:
            place: a URI of SQLite's.
            waiting: how long its statements wait for locks.
            scripts: what makes the schema of a store in memory.
            projects: whose rows can be read; None is all.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="voicegw-store-reader")
        work = partial(_opened, place, waiting.left_ms() / 1000, scripts, projects)
        try:
            return cls(thread, await asyncio.get_running_loop().run_in_executor(thread, work), waiting)
        except BaseException:
            thread.shutdown(wait=False)
            raise

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns in the thread; when the caller is cancelled it is interrupted, and waited for."""
        asked = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            self.given_up = True
            while not asked.done():
                self.interrupt()
                await ended(asked, timeout_s=INTERRUPTED_EVERY_S)
            self.given_up = False
            raise

    def interrupt(self) -> None:
        """End the query in progress; of no effect between two."""
        self._connection.interrupt()

    async def close(self) -> None:
        """Close it behind what runs in the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun and not ended."""
        return self._connection.in_transaction

    def begin(self) -> None:
        """Begin to read one state of the store: that of the first query."""
        if not self._patient and self._waiting.is_over():
            self.fetch(f"PRAGMA busy_timeout = {self._waiting.whole_ms}")
            self._patient = True
        self.fetch("BEGIN")

    def end(self) -> None:
        """Let go of that state."""
        if self.in_transaction:
            self.fetch("ROLLBACK")

    def fetch(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one query."""
        return self._connection.execute(sql, params).fetchall()


def _opened(
    place: str, timeout_s: float, scripts: Iterable[str], projects: Collection[str] | None
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        place,
        uri=True,
        isolation_level=None,
        timeout=timeout_s,
        check_same_thread=False,  # it is interrupted from the event loop's
    )
    try:
        for script in scripts:
            connection.executescript(script)
        if projects is not None:
            connection.executescript(BOUND_VIEWS)
            connection.executemany("INSERT INTO bound VALUES (?)", [(name,) for name in projects])
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB if projects is None else _CACHE_OF_SOME_KIB}")
        connection.execute("PRAGMA query_only = 1")
    except BaseException:
        connection.close()
        raise
    return connection


async def completed(work: Coroutine[Any, Any, T]) -> T:
    """Return what ``work`` returns; when the caller is cancelled, it comes to its end all the same."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await ended(task)
        raise


async def ended(work: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until ``work`` has ended, or so long, whoever is cancelled meanwhile."""
    with anyio.CancelScope(shield=True):
        while not work.done():
            # A cancellation that does not come from anyio passes its shield.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work], timeout=timeout_s)
            if timeout_s is not None:
                break
    if work.done() and not work.cancelled():
        work.exception()  # Seen, or asyncio would log it as forgotten.
