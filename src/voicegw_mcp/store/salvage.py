"""Saves what can be read of a damaged store, row by row, into a new one. The damaged file is only read.

May import ``store`` and ``errors``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.store.schema import connect, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH: Final = 1_000
_WITHOUT_ROWID: Final = {
    "rollup": ("grain_s", "bucket_ms", "series_id", "status"),
    "histogram": ("grain_s", "bucket_ms", "series_id"),
    "lost": ("recorder", "reason"),
    "touched": ("grain_s", "bucket_ms"),
    "repriced": ("run", "model_id"),
    "alert_state": ("rule", "subject", "mark"),
}
_TABLES: Final = (
    "series",
    "price",
    "repriced",
    "credited",
    "retention",
    "changes",
    "requests",
    "rollup",
    "histogram",
    "lost",
    "touched",
    "alerts",
    "alert_state",
)


@dataclass
class Salvage:
    """How many rows of each table were saved, and which tables could not be read to their end."""

    saved: dict[str, int] = field(default_factory=dict[str, int])
    broken: list[str] = field(default_factory=list[str])


def salvage(damaged: Path, into: Path) -> Salvage:
    """Copy every row that can be read into a new store.

    Args:
        damaged: opened for reading only.
        into: made; must not be there yet.

    Raises:
        sqlite3.Error, OSError: untranslated; the first when not even the list of tables can be read.
    """
    result = Salvage()
    prepare(into, deadline=time.monotonic() + 5)
    with (
        closing(connect(damaged, timeout_s=4, read_only=True)) as source,
        closing(connect(into, timeout_s=4)) as target,
    ):
        source.text_factory = _text
        known = {row[0] for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in _TABLES:
            columns = _columns(source, target, table)
            result.saved[table] = _copy(source, target, table, columns, result) if table in known else 0
            if table not in known:
                result.broken.append(table)
    return result


def _columns(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> list[str]:
    """Return our columns of a table; those that a later version added may not be there."""
    ours = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    known = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    return [name for name in ours if name in known] or ours


def _copy(
    source: sqlite3.Connection, target: sqlite3.Connection, table: str, columns: list[str], result: Salvage
) -> int:
    reader = _both_ends if table in _WITHOUT_ROWID else _leaping
    insert = (
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)})"
    )
    batch: list[tuple[Any, ...]] = []
    saved = 0

    def flush() -> int:
        target.execute("BEGIN IMMEDIATE")
        count = target.executemany(insert, batch).rowcount
        target.execute("COMMIT")
        batch.clear()
        return max(count, 0)

    for row in reader(source, table, columns, result):
        batch.append(row)
        if len(batch) >= _BATCH:
            saved += flush()
    return saved + flush()


def _leaping(
    source: sqlite3.Connection, table: str, columns: list[str], result: Salvage
) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a table by their number; behind a damaged place go on at ever larger distances."""
    place, step, most = 0, 1, None
    while True:
        try:
            for number, *row in source.execute(
                f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid",
                (place,),
            ):
                place, step = number, 1
                yield tuple(row)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            _require_damage(error)
            _remember(result, table)
            most = _last_number(source, table) if most is None else most
            place, step = place + step, step * 2
            if place > most:
                return
        else:
            return


def _last_number(source: sqlite3.Connection, table: str) -> int:
    try:
        return int(source.execute(f"SELECT MAX(rowid) FROM {table}").fetchone()[0] or 0)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        _require_damage(error)
        return 2**40


def _both_ends(
    source: sqlite3.Connection, table: str, columns: list[str], result: Salvage
) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a table from its beginning up to a damaged place, then from its end down to one."""
    keys = _WITHOUT_ROWID[table]
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{key} {direction}" for key in keys)
        try:
            for row in source.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"):
                yield tuple(row)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            _require_damage(error)
            _remember(result, table)
        else:
            return


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _remember(result: Salvage, table: str) -> None:
    if table not in result.broken:
        result.broken.append(table)


def _require_damage(error: sqlite3.DatabaseError | UnicodeDecodeError) -> None:
    """Let anything but damage (a lock, a full disk) through as what it is."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if code & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}:
        raise error
