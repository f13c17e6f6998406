"""Reads of a store through aiosqlite: a few connections that never wait for a writer (WAL), on all projects or on some.

A query has a connection to itself, so that it never waits behind a slow one. What a caller who is bound to projects
reads goes through views that hold only their rows: whatever a query asks for, there is nothing else.
May import ``errors``, ``store.schema``, ``store.failures``, ``store.bound_views``, ``store.text`` and what readers of a store share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar, cast

import aiosqlite
import anyio

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.agreement import Agreed
from voicegw_mcp.store.bound_views import BOUND_VIEWS
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.part_cache import PartCache
from voicegw_mcp.store.schema import IN_MEMORY, location, migration_scripts
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
    from pathlib import Path

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

SLOW_AFTER_S: Final = 0.25
"""A query that has run this long makes room for another one beside it."""

_LEAST_PATIENCE_MS: Final = 500
_CACHE_KIB: Final = 32_000
_CACHE_OF_SOME_KIB: Final = 2_000
_INTERRUPTED_EVERY_S: Final = 0.02
_MOST_QUICK: Final = 4
_MOST_SLOW: Final = max(1, min(4, (os.cpu_count() or 2) - 1))
_MOST_ASIDE: Final = 8
_MOST_IDLE: Final = 4


class Reads(Protocol):
    """Anything that answers a query: a ``Reader``, or one snapshot of it. ``path`` is the store's file."""

    path: Path

    async def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one query."""
        ...


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


class Lanes:
    """How many queries of a store run at a time: a few quick ones, and beside them a few slow ones.

    What is known to be slow waits for its own lane. What turns out to be slow steps aside after ``SLOW_AFTER_S``: the
    next quick one takes its place.
    """

    def __init__(self) -> None:
        self._quick = asyncio.Semaphore(_MOST_QUICK)
        self._slow = asyncio.Semaphore(_MOST_SLOW)
        self._aside = 0

    @contextlib.asynccontextmanager
    async def turn(self, *, slow: bool) -> AsyncGenerator[None, None]:
        """Wait for a turn and hold it."""
        if slow:
            async with self._slow:
                yield
            return
        await self._quick.acquire()
        aside = False

        def step_aside() -> None:
            nonlocal aside
            if self._aside < _MOST_ASIDE:
                aside = True
                self._aside += 1
                self._quick.release()

        timer = asyncio.get_running_loop().call_later(SLOW_AFTER_S, step_aside)
        try:
            yield
        finally:
            timer.cancel()
            if aside:
                self._aside -= 1
            else:
                self._quick.release()


class Shared:
    """What the readers of one store have in common: turns, settled parts of reports, and which sums were compared."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.parts = PartCache()
        self.agreed = Agreed()


class Reader:
    """Connections for reading, one for each query at a time. Opened by ``connect``, or as a ``Store``.

    While the file is ``missing``, an empty store in memory answers in its place. ``projects`` are those whose rows
    can be read; None is all of them.
    """

    def __init__(
        self,
        path: Path,
        waiting: Waiting,
        *,
        read_only: bool = False,
        missing: bool = False,
        projects: Collection[str] | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.missing = missing
        self.projects = None if projects is None else frozenset(map(storable, projects))
        self.shared = shared or Shared()
        self._waiting = waiting
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._most_idle = _MOST_IDLE if projects is None else 1
        self._users = 0
        self._left = asyncio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed: what still waits for something else than the store may give up."""
        return self._closed

    async def connect(self) -> None:
        """Open the first connection to a store that is there and migrated.

        Raises:
            StoreUnavailable: locked, damaged, not permitted.
        """
        await completed(self._add())

    async def close(self) -> None:
        """End the queries in progress and close; closing twice is fine."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._close_idle()
            while self._users:
                # Of no effect before a statement has begun: hence again and again.
                for connection in list(self._busy):
                    await connection.interrupt()
                with anyio.move_on_after(_INTERRUPTED_EVERY_S):
                    await self._left.wait()
                self._left.clear()

    async def retire(self) -> None:
        """Let queries come to their end, also such as are still to be asked; nothing stays open behind the last one."""
        await self._close_idle()

    async def _close_idle(self) -> None:
        self._most_idle = 0
        await completed(self._trim())

    async def read(self, sql: str, params: Sequence[object] = (), *, slow: bool = False) -> list[Row]:
        """Return all rows of one query.

        Args:
            sql: the statement.
            params: its values.
            slow: it is known to read rows in proportion to the log: it waits for others of its kind.

        Raises:
            StoreUnavailable: locked, damaged, or closed.
        """
        async with self._borrowed(slow=slow) as connection:
            return await self._ask(connection, sql, params)

    @contextlib.asynccontextmanager
    async def snapshot(self, *, slow: bool = False) -> AsyncGenerator[Reads, None]:
        """Hold one state of the store for several queries, so that the parts of a report agree.

        Args:
            slow: as in ``read``.
        """
        async with self._borrowed(slow=slow) as connection:
            await self._ask(connection, "BEGIN")
            yield _Snapshot(self.path, connection, self._ask)

    @contextlib.asynccontextmanager
    async def _borrowed(self, *, slow: bool) -> AsyncGenerator[_Connection, None]:
        self._users += 1
        try:
            async with self.shared.lanes.turn(slow=slow):
                while not self._idle and not self._closed:
                    await completed(self._add())
                if self._closed:
                    raise closed(self.path)
                connection = self._idle.pop()
                self._busy.add(connection)
                try:
                    yield connection
                finally:
                    if connection.in_transaction:
                        await completed(self._end_transaction(connection))
                    else:
                        self._busy.discard(connection)
                        self._idle.append(connection)
        finally:
            try:
                if len(self._idle) > self._most_idle:
                    await completed(self._trim())
            finally:
                self._users -= 1
                self._left.set()

    async def _add(self) -> None:
        with translated(self.path):
            self._idle.append(
                await _Connection.open(
                    IN_MEMORY if self.missing else location(self.path, read_only=self.read_only),
                    self._waiting,
                    migration_scripts() if self.missing else (),
                    self.projects,
                )
            )

    async def _end_transaction(self, connection: _Connection) -> None:
        try:
            with translated(self.path):
                await connection.end_transaction()
        except StoreUnavailable:
            await connection.close()
            raise
        else:
            self._idle.append(connection)
        finally:
            self._busy.discard(connection)

    async def _trim(self) -> None:
        # The ones used last stay: their caches are warm.
        while len(self._idle) > self._most_idle:
            await self._idle.pop(0).close()

    async def _ask(self, connection: _Connection, sql: str, params: Sequence[object] = ()) -> list[Row]:
        if self._closed:
            raise closed(self.path)
        try:
            with translated(self.path):
                return await connection.ask(sql, params)
        except StoreUnavailable:
            if self._closed:  # interrupted by ``close``
                raise closed(self.path) from None
            raise


class _Snapshot:
    def __init__(
        self,
        path: Path,
        connection: _Connection,
        ask: Callable[[_Connection, str, Sequence[object]], Awaitable[list[Row]]],
    ) -> None:
        self.path = path
        self._connection = connection
        self._ask = ask

    async def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        return await self._ask(self._connection, sql, params)


class _Connection:
    """One connection of a reader; errors are SQLite's own."""

    def __init__(self, connection: aiosqlite.Connection, waiting: Waiting) -> None:
        self._connection = connection
        self._waiting = waiting
        self._patient = False

    @classmethod
    async def open(
        cls, place: str, waiting: Waiting, scripts: Iterable[str], projects: Collection[str] | None
    ) -> _Connection:
        connection = await aiosqlite.connect(
            place, uri=True, isolation_level=None, timeout=waiting.left_ms() / 1000
        )
        try:
            for script in scripts:
                await connection.executescript(script)
            if projects is not None:
                await connection.executescript(BOUND_VIEWS)
                await connection.executemany("INSERT INTO bound VALUES (?)", [(name,) for name in projects])
            cache_kib = _CACHE_KIB if projects is None else _CACHE_OF_SOME_KIB
            await connection.execute_fetchall(f"PRAGMA cache_size = -{cache_kib}")
            await connection.execute_fetchall("PRAGMA query_only = 1")
        except BaseException:
            await connection.close()
            raise
        return cls(connection, waiting)

    async def ask(self, sql: str, params: Sequence[object]) -> list[Row]:
        if not self._patient and self._waiting.is_over():
            await self._asked(f"PRAGMA busy_timeout = {self._waiting.whole_ms}")
            self._patient = True
        return await self._asked(sql, params)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    async def end_transaction(self) -> None:
        await self._connection.execute_fetchall("ROLLBACK")

    async def interrupt(self) -> None:
        await self._connection.interrupt()

    async def close(self) -> None:
        await self._connection.close()

    async def _asked(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a query; when the caller is cancelled it is interrupted, and waited for.

        Whoever asks next then meets a connection at rest, and a caller knows what became of the statement.
        """
        asked = asyncio.ensure_future(self._connection.execute_fetchall(sql, params))
        try:
            return cast("list[Row]", await asyncio.shield(asked))
        except asyncio.CancelledError:
            while not asked.done():
                await self.interrupt()  # of no effect before it has begun: hence again and again
                await ended(asked, timeout_s=_INTERRUPTED_EVERY_S)
            raise


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


def closed(path: Path) -> StoreUnavailable:
    """Return the error of a store that was closed."""
    return StoreUnavailable(
        f"The store {path} is closed.",
        hint="The server is stopping, or another file took the store's place: then call again.",
        details={"path": str(path), "reason": "closed"},
    )
