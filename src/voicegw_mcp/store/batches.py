"""How rows get into the log from a process that only records: a connection of its own, one transaction a batch.

What is wrong with the store (locked, full, gone) is told apart from what is wrong with a row: the former fails the
batch, which can be tried again, the latter costs that row only. Needs no event loop.
May import ``domain``, ``errors`` and ``store``.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.losses import add_losses
from voicegw_mcp.store.requests import insert_requests
from voicegw_mcp.store.schema import choose_path, connect, identity, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from voicegw_mcp.domain import RequestRecord
    from voicegw_mcp.store.losses import Source

Row: TypeAlias = "RequestRecord | Callable[[], RequestRecord]"
"""A row, or what makes one where it is written: what takes long about it (a price) then holds up nobody."""

_PATIENCE_S: Final = 0.5
"""How long one attempt waits for another program's lock. Short, so that who closes the recorder is heard."""

_MADE_AT_A_TIME: Final = 5
"""Rows that are made before the interpreter's lock is let go of, 0.1 ms each."""
_LET_GO_S: Final = 0.0002
"""As long as another thread takes to wake up; with 0 it has not yet when the lock is asked for again."""

_OF_A_ROW: Final = (
    InvalidInput,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    OverflowError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a row that cannot be stored raises; everything else is about the store."""


class BatchWriter:
    """Writes batches into the store at ``path``, which is opened at the first one. For one thread."""

    def __init__(self, path: Path, source: Source) -> None:
        self._configured = path
        self._path = path
        self._source = source
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def write(
        self, rows: Sequence[RequestRecord], losses: Mapping[str, int], now_ms: int
    ) -> tuple[int, Counter[str]]:
        """Write the rows and what was lost before, in one transaction.

        Returns:
            How many rows were new, and how many cannot be stored, by reason; these are added to the losses.

        Raises:
            StoreUnavailable: nothing was written; a new attempt opens the store anew.
        """
        with translated(self._path):
            try:
                while True:
                    connection = self._open()
                    added, refused = _transact(connection, rows, losses, self._source, now_ms)
                    # A file that was deleted or replaced takes rows as if nothing had happened, and they are gone with it.
                    if self._file is not None and self._file == identity(self._path):
                        return added, refused
                    self.close()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the store; closing twice is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path = choose_path(self._configured)
            prepare(self._path, deadline=time.monotonic() + _PATIENCE_S)
            self._connection = connect(self._path, timeout_s=_PATIENCE_S)
            self._file = identity(self._path)
            self._connection.execute("PRAGMA synchronous = NORMAL")
        return self._connection


def make_rows(given: Iterable[Row], lose: Callable[[str], None]) -> list[RequestRecord]:
    """Return the rows, made where need be; ``lose`` is told the reason of each that cannot be made.

    Between rows that are made it lets go: a thread that wants the interpreter's lock has to wait for up to 5 ms otherwise, and an
    event loop is one.
    """
    rows: list[RequestRecord] = []
    made = 0
    for row in given:
        if not callable(row):
            rows.append(row)
            continue
        try:
            rows.append(row())
        except Exception as error:  # noqa: BLE001 - as with a row that cannot be stored, the others are written
            lose(_reason(error))
        made += 1
        if made % _MADE_AT_A_TIME == 0:
            time.sleep(_LET_GO_S)
    return rows


def _transact(
    connection: sqlite3.Connection,
    rows: Sequence[RequestRecord],
    losses: Mapping[str, int],
    source: Source,
    now_ms: int,
) -> tuple[int, Counter[str]]:
    refused: Counter[str] = Counter()
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            added = insert_requests(connection, rows)
        except _OF_A_ROW:
            # Only now, because a savepoint makes SQLite copy every page before it changes it.
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            added = _insert_good(connection, rows, refused)
        total = Counter(losses) + refused
        if total:
            add_losses(connection, source, total, now_ms)
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors (full disk, I/O).
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return added, refused


def _insert_good(connection: sqlite3.Connection, rows: Sequence[RequestRecord], refused: Counter[str]) -> int:
    """Insert what can be stored, halving until each row that cannot is alone."""
    connection.execute("SAVEPOINT part")
    try:
        added = insert_requests(connection, rows)
    except _OF_A_ROW as error:
        connection.execute("ROLLBACK TO part")
        added = None
        if len(rows) == 1:
            refused[_reason(error)] += 1
    connection.execute("RELEASE part")
    if added is not None or len(rows) == 1:
        return added or 0
    middle = len(rows) // 2
    return _insert_good(connection, rows[:middle], refused) + _insert_good(connection, rows[middle:], refused)


def _reason(error: Exception) -> str:
    field = error.details.get("field") if isinstance(error, InvalidInput) else None
    return f"{field} out of range" if field else f"not a request ({type(error).__name__})"
