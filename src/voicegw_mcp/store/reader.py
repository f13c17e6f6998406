"""Reads of a store: a few connections that never wait for a writer (WAL), each with a thread, on all projects or on some.

A read is a synchronous function of ``Reads``, as a write is one of a connection. It runs as a whole in the thread of a
connection that it has to itself: it is of one state of the store, never waits behind a slow one, and the event loop waits
once for it, however many queries it makes. What a caller who is bound to projects reads goes through views that hold only
their rows: whatever a query asks for, there is nothing else.
May import ``errors``, ``store.connections``, ``store.schema``, ``store.failures``, ``store.text`` and what readers of a store share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import anyio

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.agreement import Agreed
from voicegw_mcp.store.connections import INTERRUPTED_EVERY_S, Connection, completed
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.part_cache import PartCache
from voicegw_mcp.store.schema import IN_MEMORY, location, migration_scripts
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Sequence
    from pathlib import Path

    from voicegw_mcp.store.connections import Row, Waiting

P = ParamSpec("P")
T = TypeVar("T")

SLOW_AFTER_S: Final = 0.25
"""A query that has run this long makes room for another one beside it."""

_MOST_QUICK: Final = 4
_MOST_SLOW: Final = max(1, min(4, (os.cpu_count() or 2) - 1))
_MOST_ASIDE: Final = 8
_MOST_IDLE: Final = 4


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
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
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
                    connection.interrupt()
                with anyio.move_on_after(INTERRUPTED_EVERY_S):
                    await self._left.wait()
                self._left.clear()

    async def retire(self) -> None:
        """Let queries come to their end, also such as are still to be asked; nothing stays open behind the last one."""
        await self._close_idle()

    async def _close_idle(self) -> None:
        self._most_idle = 0
        await completed(self._trim())

    async def ask(self, work: Callable[Concatenate[Reads, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``work(reads, *args, **kwargs)`` in the thread of a connection, on one state of the store.

        When the caller is cancelled, its query is interrupted and its end is waited for: whoever asks next meets a
        connection at rest.

        Returns:
            What ``work`` returned.

        Raises:
            StoreUnavailable: locked, damaged, or closed; and whatever ``work`` raises.
        """
        return await self._ask(lambda reads: work(reads, *args, **kwargs), slow=False)

    async def ask_slowly(
        self, work: Callable[Concatenate[Reads, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as ``ask`` does, for what is known to read rows in proportion to the log: it waits for others of its kind."""
        return await self._ask(lambda reads: work(reads, *args, **kwargs), slow=True)

    async def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one query; raises as ``ask``."""
        return await self.ask(Reads.read, sql, params)

    async def _ask(self, work: Callable[[Reads], T], *, slow: bool) -> T:
        async with self._borrowed(slow=slow) as connection:
            return await connection.run(partial(self._in_one_state, connection, work))

    def _in_one_state(self, connection: Connection, work: Callable[[Reads], T]) -> T:
        try:
            with translated(self.path):
                connection.begin()
            try:
                return work(Reads(self, connection))
            finally:
                with translated(self.path):
                    connection.end()
        except StoreUnavailable:
            if self._closed:  # interrupted by ``close``
                raise closed(self.path) from None
            raise

    @contextlib.asynccontextmanager
    async def _borrowed(self, *, slow: bool) -> AsyncGenerator[Connection, None]:
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
                    self._busy.discard(connection)
                    if connection.in_transaction:  # it could not be ended
                        await completed(connection.close())
                    else:
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
                await Connection.open(
                    IN_MEMORY if self.missing else location(self.path, read_only=self.read_only),
                    self._waiting,
                    migration_scripts() if self.missing else (),
                    self.projects,
                )
            )

    async def _trim(self) -> None:
        # The ones used last stay: their caches are warm.
        while len(self._idle) > self._most_idle:
            await self._idle.pop(0).close()


class Reads:
    """One state of a store, in the thread of a connection. ``path`` is the store's file."""

    def __init__(self, reader: Reader, connection: Connection) -> None:
        self.path = reader.path
        self.projects = reader.projects
        self.shared = reader.shared
        self._reader = reader
        self._connection = connection
        self._known: dict[Callable[[Reads], Any], Any] = {}

    def once(self, work: Callable[[Reads], T]) -> T:
        """Return ``work(reads)``; a second time what it was before, as the state is the same."""
        if work not in self._known:
            self._known[work] = work(self)
        return self._known[work]

    def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one query."""
        if self._reader.closed or self._connection.given_up:
            raise closed(self.path)
        with translated(self.path):
            return self._connection.fetch(sql, params)


def closed(path: Path) -> StoreUnavailable:
    """Return the error of a store that was closed."""
    return StoreUnavailable(
        f"The store {path} is closed.",
        hint="The server is stopping, or another file took the store's place: then call again.",
        details={"path": str(path), "reason": "closed"},
    )
