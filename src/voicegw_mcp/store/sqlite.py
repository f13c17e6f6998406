"""An open store: reads through aiosqlite, writes as plain functions of a connection in one worker thread.

A write is a synchronous function of a ``sqlite3.Connection``, so that the recorder thread of an agent process calls
the very functions a server calls. Reads and writes have a connection each: a reader never waits for a writer (WAL).
May import ``errors``, ``store.schema`` and ``store.failures``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import aiosqlite
import anyio

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.schema import connect, is_foreign, location, prepare

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

    Connection: TypeAlias = sqlite3.Connection

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]

_LEAST_PATIENCE_MS: Final = 500
_READER_CACHE_KIB: Final = 16_000
_INTERRUPTED_EVERY_S: Final = 0.02
_SETTLED_NS: Final = 100_000_000
"""Two writes within one tick of the file system's clock can leave the same stamp behind: a younger one tells nothing."""


class Stamp(NamedTuple):
    """Inode, size (bytes) and modification time (ns) of the main file and, when there is one, its write-ahead log."""

    files: tuple[tuple[int, int, int], ...]

    def size_bytes(self) -> int:
        """Return the bytes of both files."""
        return sum(size for _, size, _ in self.files)

    def is_settled(self) -> bool:
        """Whether the last change is old enough for the stamp to tell the content."""
        return time.time_ns() - max((mtime_ns for _, _, mtime_ns in self.files), default=0) > _SETTLED_NS


class Reads(Protocol):
    """Anything that answers a query: a ``Store``, or one snapshot of it. ``path`` is the store's file."""

    path: Path

    async def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Return all rows of one query."""
        ...


class Transact(Protocol):
    """What runs a transaction in the writer thread.

    It stands between BEGIN IMMEDIATE and COMMIT; an exception from it rolls back. ``durable`` waits until the disk has
    it (``synchronous=FULL``), for the journal.
    """

    def __call__(self, transaction: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Return what ``transaction`` returned; raises StoreUnavailable."""
        ...


def choose_path(path: Path) -> Path:
    """Return the file to open for a configured store path.

    A store made by VoiceGateway is left to VoiceGateway: for ``voicegw.db`` the answer is then its sibling
    ``voicegw-mcp.db``, and the caller tells the user. A missing, locked or unreadable file is returned as it is.
    """
    return path.with_name(f"{path.stem}-mcp{path.suffix}") if is_foreign(path) else path


class Store:
    """One SQLite file, opened with ``Store.open``. ``schema_version`` is the last migration it has."""

    def __init__(self, path: Path, *, read_only: bool, busy_timeout_ms: int) -> None:
        self.path = path
        self.read_only = read_only
        self.schema_version = 0
        self._busy_timeout_ms = busy_timeout_ms
        # Opening and the first query share one span of patience; later queries have a whole one each.
        self._deadline = time.monotonic() + busy_timeout_ms / 1000
        self._reader: aiosqlite.Connection | None = None
        self._reading = asyncio.Lock()
        self._patient = False
        self._writer: sqlite3.Connection | None = None
        self._pragmas: dict[str, str] = {}
        self._writer_thread: ThreadPoolExecutor | None = None
        self._closed = False
        self._locked: tuple[float, StoreUnavailable] | None = None

    @classmethod
    async def open(cls, path: Path, *, read_only: bool = False, busy_timeout_ms: int = 4000) -> Store:
        """Open the store, making or migrating its file first.

        Args:
            path: the file, with ``~`` expanded.
            read_only: open with ``mode=ro`` and refuse ``write``.
            busy_timeout_ms: how long to wait for another program's lock, for opening and the first query together.

        Raises:
            StoreUnavailable: locked, full, damaged, not permitted, or newer than this program.
        """
        store = cls(path, read_only=read_only, busy_timeout_ms=busy_timeout_ms)
        with translated(path):
            store.schema_version = await asyncio.to_thread(
                prepare, path, deadline=store._deadline, read_only=read_only
            )
            store._reader = await aiosqlite.connect(
                location(path, read_only=read_only),
                uri=True,
                isolation_level=None,
                timeout=store._patience_ms() / 1000,
            )
            try:
                await store._reader.execute_fetchall("PRAGMA query_only = 1")
                await store._reader.execute_fetchall(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
            except BaseException:
                await store.close()
                raise
        return store

    @property
    def closed(self) -> bool:
        """Whether it was closed: what still waits for something else than the store may give up."""
        return self._closed

    async def close(self) -> None:
        """Finish the write in progress and close; closing twice is fine."""
        self._closed = True
        reader, self._reader = self._reader, None
        thread, self._writer_thread = self._writer_thread, None
        with anyio.CancelScope(shield=True):
            if reader is not None:
                async with self._reading:
                    await reader.close()
            if thread is not None:
                await asyncio.get_running_loop().run_in_executor(thread, self._close_writer)
                thread.shutdown(wait=False)

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

    async def write(self, transaction: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Run one transaction in the writer thread; see ``run`` and ``Transact``."""
        return await self.run(lambda transact: transact(transaction, durable=durable))

    async def run(self, task: Callable[[Transact], T]) -> T:
        """Run ``task`` in the writer thread, after all tasks asked for before it.

        Once asked for it runs to its end even when the caller is cancelled; the caller then waits for that end.

        Args:
            task: a synchronous function; it gets what runs transactions and may do other slow things between them.

        Returns:
            What ``task`` returned.

        Raises:
            StoreUnavailable: read-only, closed, locked, full, damaged, not permitted.
        """
        if self._closed:
            raise _closed(self.path)
        if self.read_only:
            raise StoreUnavailable(
                f"The store {self.path} was opened read-only.",
                hint="Start without --read-only to record and to change things.",
                details={"path": str(self.path), "reason": "read_only"},
            )
        if self._writer_thread is None:
            self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="voicegw-store-writer")
        future = asyncio.get_running_loop().run_in_executor(
            self._writer_thread, self._run, task, time.monotonic()
        )
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await _ended(future)
            raise

    def stamp(self) -> Stamp:
        """Return what every commit of any process changes; costs two ``stat`` and no query."""
        found: list[tuple[int, int, int]] = []
        for name in (str(self.path), f"{self.path}-wal"):
            with contextlib.suppress(OSError):
                known = os.stat(name)  # noqa: PTH116 - a path object costs more than the call, at every get_health
                found.append((known.st_ino, known.st_size, known.st_mtime_ns))
        return Stamp(tuple(found))

    async def _fetch(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        if self._reader is None:
            raise _closed(self.path)
        with translated(self.path):
            if not self._patient and time.monotonic() >= self._deadline:
                await _asked(self._reader, f"PRAGMA busy_timeout = {self._busy_timeout_ms}")
                self._patient = True
            return await _asked(self._reader, sql, params)

    def _run(self, task: Callable[[Transact], T], asked: float) -> T:
        if self._locked is not None and asked < self._locked[0]:
            # Someone waited in vain while this one stood in line; one more span of patience each would add up.
            error = self._locked[1]
            raise StoreUnavailable(error.message, hint=error.hint, details=error.details)
        try:
            return task(self._transact)
        except StoreUnavailable as error:
            if error.details.get("reason") == "locked":
                self._locked = (time.monotonic(), error)
            raise

    def _transact(self, transaction: Callable[[Connection], T], *, durable: bool = False) -> T:
        with translated(self.path):
            if self._writer is None:
                self._writer = connect(self.path, timeout_s=self._busy_timeout_ms / 1000)
                self._pragmas.clear()
            connection = self._writer
            self._set(connection, "busy_timeout", str(self._patience_ms()))
            self._set(connection, "synchronous", "FULL" if durable else "NORMAL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = transaction(connection)
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors (full disk, I/O).
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    def _set(self, connection: Connection, pragma: str, value: str) -> None:
        if self._pragmas.get(pragma) != value:
            connection.execute(f"PRAGMA {pragma} = {value}")
            self._pragmas[pragma] = value

    def _patience_ms(self) -> int:
        left = int((self._deadline - time.monotonic()) * 1000)
        return (
            self._busy_timeout_ms if left <= 0 else max(left, min(_LEAST_PATIENCE_MS, self._busy_timeout_ms))
        )

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


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
            await _ended(asked, timeout_s=_INTERRUPTED_EVERY_S)
        raise


async def _ended(work: asyncio.Future[Any], timeout_s: float | None = None) -> None:
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


def _closed(path: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"The store {path} is closed.",
        hint="The server is stopping.",
        details={"path": str(path), "reason": "closed"},
    )
