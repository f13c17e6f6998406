"""An open store: a reader, and writes as plain functions of a connection in one worker thread.

A write is a synchronous function of a ``sqlite3.Connection``, so that the recorder thread of an agent process calls
the very functions a server calls. Reads and writes have a connection each: a reader never waits for a writer (WAL).
May import ``errors``, ``store.connections``, ``store.reader``, ``store.schema`` and ``store.failures``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import anyio

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.connections import Waiting, ended
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.reader import Reader, closed
from voicegw_mcp.store.schema import connect, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Connection: TypeAlias = sqlite3.Connection

T = TypeVar("T")

_MOST_NARROWED: Final = 64
"""How many readers of some projects are kept open at a time."""
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


class Transact(Protocol):
    """What runs a transaction in the writer thread.

    It stands between BEGIN IMMEDIATE and COMMIT; an exception from it rolls back. ``durable`` waits until the disk has
    it (``synchronous=FULL``), for the journal.
    """

    def __call__(self, transaction: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Return what ``transaction`` returned; raises StoreUnavailable."""
        ...


class Store(Reader):
    """One SQLite file, opened with ``Store.open``. ``schema_version`` is the last migration it has."""

    def __init__(self, path: Path, *, read_only: bool, missing: bool, busy_timeout_ms: int) -> None:
        super().__init__(path, Waiting(busy_timeout_ms), read_only=read_only, missing=missing)
        self.schema_version = 0
        self._retired = False
        self._narrowed: dict[frozenset[str], Reader] = {}
        self._narrowing = asyncio.Lock()
        self._writer: sqlite3.Connection | None = None
        self._pragmas: dict[str, str] = {}
        self._watcher: sqlite3.Connection | None = None
        self._writer_thread: ThreadPoolExecutor | None = None
        self._locked: tuple[float, StoreUnavailable] | None = None

    @classmethod
    async def open(cls, path: Path, *, read_only: bool = False, busy_timeout_ms: int = 4000) -> Store:
        """Open the store, making or migrating its file first.

        Args:
            path: the file, with ``~`` expanded.
            read_only: open with ``mode=ro`` and refuse ``write``; a file that is not there is not made, but read as an
                empty store.
            busy_timeout_ms: how long to wait for another program's lock, for opening and the first query together.

        Raises:
            StoreUnavailable: locked, full, damaged, not permitted, or newer than this program.
        """
        with translated(path):
            missing = read_only and not await asyncio.to_thread(path.exists)
            store = cls(path, read_only=read_only, missing=missing, busy_timeout_ms=busy_timeout_ms)
            if not missing:
                store.schema_version = await asyncio.to_thread(
                    prepare, path, deadline=store._waiting.deadline, read_only=read_only
                )
        await store.connect()
        return store

    async def narrowed(self, projects: frozenset[str]) -> Reader:
        """Return a reader of the rows of these projects; it is closed with the store.

        Raises:
            StoreUnavailable: locked, damaged, or closed.
        """
        async with self._narrowing:
            if self._closed:
                raise closed(self.path)
            reader = self._narrowed.pop(projects, None)
            if reader is None:
                reader = Reader(
                    self.path,
                    Waiting(self._waiting.whole_ms),
                    read_only=self.read_only,
                    missing=self.missing,
                    projects=projects,
                    shared=self.shared,
                )
                await reader.connect()
                if self._retired:
                    await reader.retire()
            self._narrowed[projects] = reader  # the one used last is the last one
            if len(self._narrowed) > _MOST_NARROWED:
                await self._narrowed.pop(next(iter(self._narrowed))).retire()
            return reader

    async def close(self) -> None:
        """End the queries in progress, finish the write in progress and close; closing twice is fine."""
        self._closed = True
        self._end_watching()
        with anyio.CancelScope(shield=True):
            await super().close()
            async with self._narrowing:
                while self._narrowed:
                    await self._narrowed.popitem()[1].close()
            await self._end_writing()

    async def retire(self) -> None:
        """Close it behind the queries and writes in progress; more can be read, and nothing be written."""
        self._retired = True
        self._end_watching()
        with anyio.CancelScope(shield=True):
            await super().retire()
            async with self._narrowing:
                for reader in self._narrowed.values():
                    await reader.retire()
            await self._end_writing()

    async def _end_writing(self) -> None:
        thread, self._writer_thread = self._writer_thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close_writer)
            thread.shutdown(wait=False)

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
        if self._closed or self._retired:
            raise closed(self.path)
        if self.read_only:
            raise StoreUnavailable(
                f"The store {self.path} was opened read-only.",
                hint="Start without --read-only to record and to change things.",
                details={"path": str(self.path), "reason": "read_only"},
            )
        future = asyncio.get_running_loop().run_in_executor(self._thread(), self._run, task, time.monotonic())
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await ended(future)
            raise

    def keep_running(self, step: Callable[[Transact], bool]) -> None:
        """Run ``step`` in the writer thread, and again as long as it returns True, behind all tasks asked for meanwhile.

        Nobody waits for it: it ends with the store, and with the first error of the store.
        """

        def turn(thread: ThreadPoolExecutor) -> None:
            # Closing asks for the end of the connection behind this turn and the next one, and then takes no more.
            with contextlib.suppress(StoreUnavailable, RuntimeError):
                if not self._closed and not self._retired and step(self._transact):
                    thread.submit(turn, thread)

        if not self._closed and not self._retired and not self.read_only:
            thread = self._thread()
            thread.submit(turn, thread)

    def stamp(self) -> Stamp:
        """Return what every commit of any process changes; costs two ``stat`` and no query."""
        found: list[tuple[int, int, int]] = []
        for name in (str(self.path), f"{self.path}-wal"):
            with contextlib.suppress(OSError):
                known = os.stat(name)  # noqa: PTH116 - a path object costs more than the call, at every get_health
                found.append((known.st_ino, known.st_size, known.st_mtime_ns))
        return Stamp(tuple(found))

    async def version(self) -> int | None:
        """Return what every commit of any process changes, as SQLite counts them; None where that cannot be told now.

        Two numbers of one open store are the same only when nothing was committed between. That is exact, which ``stamp`` is not;
        it costs as little and never waits.
        """
        if self._watcher is None and not self.missing:
            with contextlib.suppress(sqlite3.Error):
                opened = await asyncio.to_thread(connect, self.path, timeout_s=0, read_only=True)
                if self._watcher is None and not self._closed and not self._retired:
                    self._watcher = opened
                else:
                    opened.close()
        if self._watcher is None:
            return None
        try:
            [(version,)] = self._watcher.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:  # whoever reads finds out, and tells
            return None
        return version

    def _end_watching(self) -> None:
        # Before the others: the last one to close brings the write-ahead log into the file, which this one may not.
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def _thread(self) -> ThreadPoolExecutor:
        if self._writer_thread is None:
            self._writer_thread = ThreadPoolExecutor(1, thread_name_prefix="voicegw-store-writer")
        return self._writer_thread

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
                self._writer = connect(self.path, timeout_s=self._waiting.whole_ms / 1000)
                self._pragmas.clear()
            connection = self._writer
            self._set(connection, "busy_timeout", str(self._waiting.left_ms()))
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

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
