"""Mends a store whose parts contradict each other, and saves what can be read of one that is damaged.

What is mended is what ``store.audit`` found. A file that SQLite itself finds damaged stays as it is: what can be read goes
into a new one. May import ``store`` and ``errors``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.audit import KINDS, inspect_span, spans, strays
from voicegw_mcp.store.failures import damaged, translated
from voicegw_mcp.store.retention import pruned_before
from voicegw_mcp.store.salvage import Salvage, salvage
from voicegw_mcp.store.schema import connect, prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voicegw_mcp.store.audit import Difference

_MOST_MESSAGES: Final = 20
_PATIENCE_S: Final = 4.0
_INDEX_ONLY: Final = ("wrong # of entries in index", "non-unique entry in index")


@dataclass
class Findings:
    """What an audit found.

    ``strays`` are cells that can be none, ``nameless`` the numbers of series and prices that rows and cells refer to
    and that are not there.
    """

    differences: list[Difference] = field(default_factory=list["Difference"])
    strays: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list[tuple[str, tuple[Any, ...]]])
    nameless: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    def is_clean(self) -> bool:
        """Whether everything agrees."""
        return not (self.differences or self.strays or self.nameless)


@dataclass(frozen=True)
class Repair:
    """What a repair found and did.

    Attributes:
        structure: how many complaints SQLite has about the file; 0 when its structure is sound.
        indexes: they were the only thing wrong with the structure and were made anew, or would be.
        saved: what was copied out of a file whose structure is damaged; None when that was not needed, or not done.
        findings: contradictions of the store, or of the new one that was copied; None when nothing could be compared.
        mended: whether the findings were mended, except those to ``keep``.
        lost_rows: how many requests the totals count whose rows are not there (any more) though they were not pruned.
    """

    structure: int
    indexes: bool
    saved: Salvage | None
    findings: Findings | None
    mended: bool
    lost_rows: int

    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.structure and self.findings is not None and self.findings.is_clean()


def repair_store(store: Path, into: Path, *, dry_run: bool, progress: Callable[[int, int], None]) -> Repair:
    """Look for damage and mend it.

    Args:
        store: the file; others may have it open.
        into: where to save what can be read, when the structure is damaged; must not be there.
        dry_run: change nothing and save nothing.
        progress: called with spans of eight days compared, and spans in all.

    Raises:
        StoreUnavailable: there is no such file, it is locked, not permitted, newer than this program, or so damaged that
            nothing can be read.
    """
    if not store.is_file():
        raise StoreUnavailable(
            f"There is no store at {store}.",
            hint="It is made when the first request or change is recorded.",
            details={"path": str(store), "reason": "missing"},
        )
    with translated(store):
        try:
            prepare(store, deadline=time.monotonic() + _PATIENCE_S, read_only=dry_run)
            with closing(connect(store, timeout_s=_PATIENCE_S, read_only=dry_run)) as connection:
                messages = integrity(connection)
                indexes = bool(messages) and only_indexes(messages)
                if not messages or (indexes and not dry_run and make_indexes(connection)):
                    return _compared(
                        connection, messages, indexes=indexes, dry_run=dry_run, progress=progress
                    )
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise
            messages, indexes = [str(error)], False
        if dry_run:
            return Repair(len(messages), indexes, None, None, mended=False, lost_rows=0)
        try:
            saved = salvage(store, into)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            remove(into)
            raise (damaged(store) if _is_damage(error) else error) from error
        with closing(connect(into, timeout_s=4)) as connection:
            return _compared(connection, messages, saved=saved, progress=progress)


def remove(store: Path) -> None:
    """Remove a file of ours and what SQLite may have put beside it."""
    for suffix in ("", "-wal", "-shm"):
        store.with_name(f"{store.name}{suffix}").unlink(missing_ok=True)


def integrity(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with the structure of the file; nothing of what it says leaves the program."""
    try:
        found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_MESSAGES})")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not _is_damage(error):
            raise
        return [str(error)]
    return [] if found == ["ok"] else found


def only_indexes(messages: list[str]) -> bool:
    """Say whether only indexes are wrong, which can be made anew."""
    return all(
        text.startswith(_INDEX_ONLY) or (text.startswith("row ") and "missing from index" in text)
        for text in messages
    )


def make_indexes(connection: sqlite3.Connection) -> bool:
    """Make all indexes anew and say whether that helped; when it did not, nothing is changed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("REINDEX")
        helped = not integrity(connection)
    except (sqlite3.IntegrityError, sqlite3.DatabaseError) as error:
        connection.execute("ROLLBACK")
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT}:
            raise
        return False
    connection.execute("COMMIT" if helped else "ROLLBACK")
    return helped


def audit(connection: sqlite3.Connection, progress: Callable[[int, int], None]) -> Findings:
    """Compare everything that was counted several times; each span of eight days in a snapshot of its own.

    Args:
        connection: in autocommit mode.
        progress: called with spans done and spans in all.
    """
    found = Findings(strays=strays(connection), nameless=_nameless(connection))
    starts = spans(connection)
    for number, start in enumerate(starts):
        progress(number, len(starts))
        connection.execute("BEGIN")
        found.differences += inspect_span(connection, start, pruned_before(connection))
        connection.execute("ROLLBACK")
    progress(len(starts), len(starts))
    return found


def mend(connection: sqlite3.Connection, findings: Findings) -> list[Difference]:
    """Mend what an audit found, span by span, each in a transaction that compares again; return what was mended.

    Args:
        connection: in autocommit mode.
        findings: of ``audit``.
    """
    mended: list[Difference] = []
    with _transaction(connection):
        for table, key in findings.strays:
            names = ("grain_s", "bucket_ms", *next(kind.key for kind in KINDS if kind.table == table))
            connection.execute(
                f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in names)}", key
            )
        for table, number in _nameless(connection):
            _name(connection, table, number)
    for start in spans(connection):
        with _transaction(connection):
            for difference in inspect_span(connection, start, pruned_before(connection)):
                if difference.remedy != "keep":
                    _write(connection, difference)
                mended.append(difference)
    return mended


def _compared(
    connection: sqlite3.Connection,
    messages: list[str],
    *,
    indexes: bool = False,
    saved: Salvage | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None],
) -> Repair:
    findings = audit(connection, progress)
    mended = not findings.is_clean() and not dry_run
    if mended:
        findings.differences = mend(connection, findings)
    lost = connection.execute(
        "SELECT (SELECT COALESCE(SUM(requests), 0) FROM rollup WHERE grain_s = 86400 AND bucket_ms >= ?)"
        " - (SELECT COUNT(*) FROM requests WHERE timestamp_ms >= ?)",
        (pruned_before(connection),) * 2,
    ).fetchone()[0]
    return Repair(len(messages), indexes, saved, findings, mended, max(0, lost))


def _is_damage(error: sqlite3.DatabaseError | UnicodeDecodeError) -> bool:
    if isinstance(error, UnicodeDecodeError):  # of SQLite's own message, which repeats damaged names
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or code in {
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_ERROR,  # the statements are fixed, so the tables are not what they should be
    }


class _transaction:  # noqa: N801 - used like a function
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK after an error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _nameless(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return the series and prices that are referred to and not there."""
    return [
        (table, number)
        for table, statement in (
            (
                "series",
                "SELECT series_id FROM requests UNION SELECT series_id FROM rollup EXCEPT SELECT series_id FROM series",
            ),
            ("price", "SELECT price_id FROM requests EXCEPT SELECT price_id FROM price"),
        )
        for (number,) in connection.execute(statement)
        if isinstance(number, int)
    ]


def _name(connection: sqlite3.Connection, table: str, number: int) -> None:
    lost = f"(lost {number})"
    if table == "series":
        connection.execute(
            "INSERT INTO series (series_id, project, modality, provider, model_id) VALUES (?, ?, 'llm', ?, ?)",
            (number, lost, lost, lost),
        )
    else:
        connection.execute("INSERT INTO price (price_id, source, dated) VALUES (?, ?, '')", (number, lost))


def _write(connection: sqlite3.Connection, difference: Difference) -> None:
    kind = next(kind for kind in KINDS if kind.table == difference.table)
    names = ("grain_s", "bucket_ms", *kind.key)
    key = (difference.grain_s, difference.bucket_ms, difference.series_id, difference.status)[: len(names)]
    connection.execute(f"DELETE FROM {kind.table} WHERE {' AND '.join(f'{name} = ?' for name in names)}", key)
    if difference.value is not None:
        values = (*key, *kind.stored(difference.value, difference.grain_s * 1000))
        marks = ", ".join("?" for _ in values)
        connection.execute(
            f"INSERT INTO {kind.table} ({', '.join((*names, *kind.columns))}) VALUES ({marks})", values
        )
