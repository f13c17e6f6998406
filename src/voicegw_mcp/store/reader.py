"""Reads of a store through aiosqlite: one connection that never waits for a writer (WAL), on all projects or on some.

What a caller who is bound to projects reads goes through views that hold only their rows: whatever a query asks for,
there is nothing else. May import ``errors``, ``store.schema``, ``store.failures`` and ``store.text``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import aiosqlite
import anyio

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.schema import IN_MEMORY, location, migration_scripts
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
    from pathlib import Path

Row: TypeAlias = tuple[Any, ...]

_LEAST_PATIENCE_MS: Final = 500
_CACHE_KIB: Final = 16_000
_INTERRUPTED_EVERY_S: Final = 0.02

_BOUND: Final = """
CREATE TEMP TABLE bound (project TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP VIEW series AS SELECT * FROM main.series WHERE project IN (SELECT project FROM temp.bound);
CREATE TEMP VIEW requests AS SELECT * FROM main.requests WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW rollup AS SELECT * FROM main.rollup WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW histogram AS SELECT * FROM main.histogram WHERE series_id IN (SELECT series_id FROM temp.series);
CREATE TEMP VIEW changes AS SELECT * FROM main.changes WHERE 0;
CREATE TEMP VIEW lost AS SELECT * FROM main.lost WHERE 0;
"""
"""A name is looked up among temporary things before anything else (sqlite.org, lang_naming). The journal and the losses are of all projects."""


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


class Reader:
    """One connection for reading; queries follow each other. Opened by ``connect``, or as a ``Store``.

    While the file is ``missing``, an empty store in memory answers in its place.
    """

    def __init__(
        self, path: Path, waiting: Waiting, *, read_only: bool = False, missing: bool = False
    ) -> None:
        self.path = path
        self.read_only = read_only
        self.missing = missing
        self._waiting = waiting
        self._reader: aiosqlite.Connection | None = None
        self._reading = asyncio.Lock()
        self._patient = False

    async def connect(self, projects: Collection[str] | None = None) -> None:
        """Open the connection to a store that is there and migrated.

        Args:
            projects: of which the rows can be read; None is all.

        Raises:
            StoreUnavailable: locked, damaged, not permitted.
        """
        with translated(self.path):
            self._reader = await aiosqlite.connect(
                IN_MEMORY if self.missing else location(self.path, read_only=self.read_only),
                uri=True,
                isolation_level=None,
                timeout=self._waiting.left_ms() / 1000,
            )
            try:
                if self.missing:
                    for step in migration_scripts():
                        await self._reader.executescript(step)
                if projects is not None:
                    await self._reader.executescript(_BOUND)
                    await self._reader.executemany(
                        "INSERT INTO bound VALUES (?)", [(name,) for name in set(map(storable, projects))]
                    )
                await self._reader.execute_fetchall("PRAGMA query_only = 1")
                await self._reader.execute_fetchall(f"PRAGMA cache_size = -{_CACHE_KIB}")
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Finish the query in progress and close; closing twice is fine."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with anyio.CancelScope(shield=True):
                async with self._reading:
                    await reader.close()

    async def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one query.

        Raises:
            StoreUnavailable: locked, damaged, or closed.
        """
        async with self._reading:
            return await self._fetch(sql, params)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Reads, None]:
        """Hold one state of the store for several queries, so that the parts of a report agree.

        Other readers of this store wait meanwhile: read, then compute after the block.
        """
        async with self._reading:
            reader = self._reader  # ``close`` waits for the lock before it closes this one
            try:
                await self._fetch("BEGIN")
                yield _Snapshot(self.path, self._fetch)
            finally:
                if reader is not None and reader.in_transaction:
                    with translated(self.path):
                        await _asked(reader, "ROLLBACK", interruptible=False)

    async def _fetch(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        if self._reader is None:
            raise closed(self.path)
        with translated(self.path):
            if not self._patient and self._waiting.is_over():
                await _asked(self._reader, f"PRAGMA busy_timeout = {self._waiting.whole_ms}")
                self._patient = True
            return await _asked(self._reader, sql, params)


class _Snapshot:
    def __init__(self, path: Path, fetch: Callable[[str, Sequence[object]], Awaitable[list[Row]]]) -> None:
        self.path = path
        self._fetch = fetch

    async def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        return await self._fetch(sql, params)


async def _asked(
    reader: aiosqlite.Connection, sql: str, params: Sequence[object] = (), *, interruptible: bool = True
) -> list[Row]:
    """Return the rows of a query; when the caller is cancelled it is interrupted, and waited for.

    Whoever asks next then meets a connection at rest, and a caller knows what became of the statement.
    """
    asked = asyncio.ensure_future(reader.execute_fetchall(sql, params))
    try:
        return [tuple(row) for row in await asyncio.shield(asked)]
    except asyncio.CancelledError:
        while not asked.done():
            if interruptible:
                await reader.interrupt()  # of no effect before it has begun: hence again and again
            await ended(asked, timeout_s=_INTERRUPTED_EVERY_S)
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
        hint="The server is stopping.",
        details={"path": str(path), "reason": "closed"},
    )
