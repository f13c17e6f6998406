"""Mends a store whose parts contradict each other, and saves what can be read of one that is damaged.

What is mended is what ``store.audit`` found. A file that SQLite itself finds damaged stays as it is: what can be read goes
into a new one. May import ``store`` and ``errors``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.store.audit import KINDS, inspect_span, spans, strays
from voicegw_mcp.store.failures import damaged, missing, translated
from voicegw_mcp.store.log_indexes import make_error_texts, make_session_cells, session_cells_differ
from voicegw_mcp.store.part_cache import touch_all
from voicegw_mcp.store.retention import pruned_before
from voicegw_mcp.store.rollup_writing import fill_peaks, unknown_peaks
from voicegw_mcp.store.rollups import COUNTED
from voicegw_mcp.store.salvage import Salvage, salvage
from voicegw_mcp.store.schema import TRIGGERS, VIEWS, connect, prepare, trigger_texts, view_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from voicegw_mcp.store.audit import Difference

_MOST_MESSAGES: Final = 20
_PATIENCE_S: Final = 4.0
_TRIGGER: Final = "trigger "
_VIEW: Final = "view "
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
        into: where to save what can be read, when the structure is damaged; must not be there. It has another name
            until it is whole.
        dry_run: change nothing and save nothing.
        progress: called with spans of eight days compared, and spans in all.

    Raises:
        StoreUnavailable: there is no such file, it is locked, not permitted, newer than this program, or so damaged that
            nothing can be read.
    """
    with translated(store):
        if not store.is_file():
            raise missing(store)
        try:
            prepare(store, deadline=time.monotonic() + _PATIENCE_S, read_only=dry_run)
            with closing(connect(store, timeout_s=_PATIENCE_S, read_only=dry_run)) as connection:
                views = wrong_views(connection)
                # SQLite looks through a view, too; where it may be made anew, make_indexes() looks afterwards.
                structure = [] if views and not dry_run else integrity(connection)
                messages = [*structure, *wrong_triggers(connection), *views]
                indexes = bool(messages) and only_indexes(messages)
                if not messages or (indexes and not dry_run and make_indexes(connection)):
                    return _compared(
                        connection, messages, indexes=indexes, dry_run=dry_run, progress=progress
                    )
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            messages, indexes = [str(error)], False
        if dry_run:
            return Repair(len(messages), indexes, None, None, mended=False, lost_rows=0)
        partial = into.with_name(f"{into.name}.partial-{os.getpid()}")
        try:
            saved = _saved(store, partial)
            with closing(connect(partial, timeout_s=_PATIENCE_S)) as connection:
                done = _compared(connection, messages, saved=saved, progress=progress)
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # synced with that
            partial.replace(into)
        finally:
            remove(partial)
        return done


def _saved(store: Path, into: Path) -> Salvage:
    try:
        return salvage(store, into)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise (damaged(store) if is_damage(error) else error) from error


def remove(store: Path) -> None:
    """Remove a file of ours and what SQLite may have put beside it, as far as the disk lets it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            store.with_name(f"{store.name}{suffix}").unlink()


def integrity(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with the structure of the file; nothing of what it says leaves the program."""
    try:
        found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MOST_MESSAGES})")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return [str(error)]
    return _lost_pages(connection) if found == ["ok"] else found


def _lost_pages(connection: sqlite3.Connection) -> list[str]:
    """Say so when pages belong to nothing, which SQLite does not look at where the first table it comes to is a virtual one."""
    try:
        pages, page_bytes, lost = connection.execute(
            "SELECT page_count, page_size, page_count - freelist_count - (SELECT COUNT(*) FROM dbstat) "
            "FROM pragma_page_count, pragma_page_size, pragma_freelist_count"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return []  # not every SQLite has dbstat
    # The page at 2^30 bytes is for locks (SQLite file format, 1.4).
    return [f"{lost} pages are lost"] if lost > (pages * page_bytes > 1 << 30) else []


def only_indexes(messages: list[str]) -> bool:
    """Say whether only indexes, triggers and views are wrong, which can be made anew."""
    return all(
        text.startswith((*_INDEX_ONLY, _TRIGGER, _VIEW))
        or (text.startswith("row ") and "missing from index" in text)
        for text in messages
    )


def wrong_triggers(connection: sqlite3.Connection) -> list[str]:
    """Return a complaint for each trigger that is missing, altered or not ours."""
    found = dict(connection.execute(TRIGGERS).fetchall())
    return [f"{_TRIGGER}{name}" for name, _ in sorted(found.items() ^ trigger_texts().items())]


def wrong_views(connection: sqlite3.Connection) -> list[str]:
    """Return a complaint for each view of ours that is missing or altered."""
    found = dict(connection.execute(VIEWS).fetchall())
    return [f"{_VIEW}{name}" for name, text in view_texts().items() if found.get(name) != text]


def _make_views(connection: sqlite3.Connection) -> None:
    if wrong_views(connection):
        for name, text in view_texts().items():
            connection.execute(f"DROP VIEW IF EXISTS {name}")
            connection.execute(text)


def _make_triggers(connection: sqlite3.Connection) -> None:
    if wrong_triggers(connection):
        for name, _ in connection.execute(TRIGGERS).fetchall():
            quoted = name.replace('"', '""')
            connection.execute(f'DROP TRIGGER "{quoted}"')
        for text in trigger_texts().values():
            connection.execute(text)
        touch_all(connection)


def make_indexes(connection: sqlite3.Connection) -> bool:
    """Make all indexes, triggers and views anew and say whether that helped; when it did not, nothing is changed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _make_views(connection)
        connection.execute("REINDEX")
        _make_triggers(connection)
        helped = not integrity(connection)
    except (sqlite3.IntegrityError, sqlite3.DatabaseError) as error:
        connection.execute("ROLLBACK")
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CONSTRAINT}:
            raise
        return False
    connection.execute("COMMIT" if helped else "ROLLBACK")
    return helped


def audit(
    connection: sqlite3.Connection, progress: Callable[[int, int], None], lost: Collection[str] = ()
) -> Findings:
    """Compare everything that was counted several times; each span of eight days in a snapshot of its own.

    Args:
        connection: in autocommit mode.
        progress: called with spans done and spans in all.
        lost: tables that could not be saved whole.
    """
    found = Findings(strays=strays(connection), nameless=_nameless(connection))
    starts = spans(connection)
    for number, start in enumerate(starts):
        progress(number, len(starts))
        connection.execute("BEGIN")
        found.differences += inspect_span(connection, start, pruned_before(connection), lost)
        connection.execute("ROLLBACK")
    progress(len(starts), len(starts))
    return found


def mend(connection: sqlite3.Connection, findings: Findings, lost: Collection[str] = ()) -> list[Difference]:
    """Mend what an audit found, span by span, each in a transaction that compares again; return what was mended.

    Args:
        connection: in autocommit mode.
        findings: of ``audit``.
        lost: as of ``audit``.
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
            for difference in inspect_span(connection, start, pruned_before(connection), lost):
                if difference.remedy != "keep":
                    _write(connection, difference)
                mended.append(difference)
    with _transaction(connection):
        touch_all(connection)
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
    incomplete = saved.broken if saved is not None else ()
    findings = audit(connection, progress, incomplete)
    mended = not findings.is_clean() and not dry_run
    if mended:
        findings.differences = mend(connection, findings, incomplete)
    if not dry_run:
        _make_log_indexes(connection)
    lost = connection.execute(
        "SELECT (SELECT COALESCE(SUM(requests), 0) FROM rollup WHERE grain_s = 86400 AND bucket_ms >= ?)"
        f" - (SELECT COALESCE({COUNTED}, 0) FROM requests WHERE timestamp_ms >= ?)",
        (pruned_before(connection),) * 2,
    ).fetchone()[0]
    return Repair(len(messages), indexes, saved, findings, mended, max(0, lost))


def _make_log_indexes(connection: sqlite3.Connection) -> None:
    """Make anew what leads to rows and holds nothing of its own, where it is wrong or nobody can tell."""
    if session_cells_differ(connection):
        with _transaction(connection):
            make_session_cells(connection)
    with _transaction(connection):
        make_error_texts(connection)
    for grain_ms, bucket_ms in unknown_peaks(connection, pruned_before(connection)):
        with _transaction(connection):
            fill_peaks(connection, grain_ms, bucket_ms)


def is_damage(error: sqlite3.DatabaseError | UnicodeDecodeError) -> bool:
    """Say whether an error is of a damaged file, and not of a lock or a disk."""
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
    if difference.value is None:
        connection.execute(
            f"DELETE FROM {kind.table} WHERE {' AND '.join(f'{name} = ?' for name in names)}", key
        )
        return
    values = (*key, *kind.stored(difference.value, difference.grain_s * 1000))
    connection.execute(
        f"INSERT INTO {kind.table} ({', '.join((*names, *kind.columns))}) VALUES ({', '.join('?' for _ in values)}) "
        f"ON CONFLICT ({', '.join(names)}) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in kind.columns),
        values,
    )
