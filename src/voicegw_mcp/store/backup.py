"""Copies of a store: taken while others write, verified, put in place whole; and put back.

A backup holds one read transaction and copies page by page inside it. Of the two ways SQLite has, its backup interface
starts again whenever somebody writes between two steps, unless the source stands in a transaction: then it copies that
state, and in WAL mode nobody waits for anybody. ``VACUUM INTO`` takes nearly twice as long, cannot be stopped half-way, and
does not tell how far it is. Plain functions of paths; may import ``store`` and ``errors``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.errors import InvalidInput, StoreUnavailable
from voicegw_mcp.store.audit import TOTALS, agrees
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.repair import audit, integrity, is_damage, remove
from voicegw_mcp.store.schema import connect, is_foreign, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from voicegw_mcp.store.repair import Findings

_PAGES: Final = 2_000
"""Pages of one step (8 MB): between two of them Ctrl-C is heard and the bar moves."""
_TABLES: Final = (
    "requests",
    "rollup",
    "histogram",
    "series",
    "price",
    "repriced",
    "credited",
    "changes",
    "retention",
    "lost",
    "alerts",
    "alert_state",
    "session_cell",
    "touched",
)
_SHARED: Final = (0x40000002, 510)
"""First byte and number of the bytes that every open connection holds a shared lock on (SQLite file format, os_unix.c)."""
_HEADER: Final = b"SQLite format 3\0"
_NOT_LINKED: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True)
class Figures:
    """What a store holds. ``counts`` are rows by table, money is nano-USD, ``totals`` those of every grain of rollups."""

    counts: dict[str, int]
    requests: int
    cost_nanousd: int
    rows_cost_nanousd: int
    totals: tuple[tuple[Any, ...], ...]


def figures(connection: sqlite3.Connection) -> Figures:
    """Return what the store of a connection holds, in its transaction."""
    totals = tuple(connection.execute(TOTALS).fetchall())
    return Figures(
        {
            table: int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 - a constant
            for table in _TABLES
        },
        totals[0][1] if totals else 0,
        totals[0][4] if totals else 0,
        connection.execute("SELECT COALESCE(SUM(cost_nanousd), 0) FROM requests").fetchone()[0],
        totals,
    )


def back_up(
    store: Path, target: Path, *, force: bool = False, progress: Callable[[int, int], None]
) -> Figures:
    """Copy a store that others may be writing to, verify the copy, and put it in place.

    Until then it is ``TARGET.partial-PID``; what stops the program by force leaves a file of that name.

    Args:
        store: the file, up to date in its schema.
        target: the backup's file; mode 0600.
        force: replace a backup that is there.
        progress: called with pages done and pages in all.

    Returns:
        What both hold.

    Raises:
        InvalidInput: the target is there already (and no backup, with ``force``), or is one of the store's files.
        StoreUnavailable: locked, damaged, full, not permitted.
    """
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    try:
        with translated(target, "file"):
            _require_free(store, target, force=force)
            os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with translated(store), closing(connect(store, timeout_s=4, read_only=True)) as source:
            source.execute("BEGIN")
            held = figures(source)
            with translated(target, "file"):
                _copy(source, partial, progress)
            source.execute("ROLLBACK")
        _require_same(store, partial, held)
        with translated(target, "file"):
            _sync(partial)
            _put(partial, target, force=force)
    finally:
        remove(partial)
    return held


def verify(copy: Path, named: Path, progress: Callable[[int, int], None]) -> tuple[Figures, Findings]:
    """Bring a copy of a backup up to date and look whether it is a sound store of ours.

    Args:
        copy: a file of the caller's own; migrated.
        named: how to call it in errors.
        progress: see ``repair.audit``.

    Returns:
        What it holds, and where its sums and rows contradict each other.

    Raises:
        InvalidInput: no store of ours, damaged, or newer than this program.
        sqlite3.Error, OSError: untranslated; the disk refuses.
    """
    if is_foreign(copy):
        raise _unfit(named, "is a store of VoiceGateway.", f"Use `voicegw import {named}`.")
    try:
        with closing(connect(copy, timeout_s=4)) as connection:
            if not _is_ours(connection):
                raise _unfit(named, "is no store of voicegw-mcp.", "Name a file that `voicegw backup` wrote.")
        try:
            prepare(copy, deadline=time.monotonic() + 5)
        except StoreUnavailable as error:
            found, known = error.details["found"], error.details["known"]
            what = f"has schema version {found}; this program knows versions up to {known}."
            raise _unfit(named, what, "Update voicegw-mcp, or name another backup.") from error
        with closing(connect(copy, timeout_s=4)) as connection:
            if integrity(connection):
                raise _damaged(named)
            found = audit(connection, progress)
            held = figures(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise (_damaged(named) if is_damage(error) else error) from error
    return held, found


def copy_file(source: Path, target: Path) -> None:
    """Copy a backup with what may stand in a write-ahead log beside it.

    Raises:
        InvalidInput: there is no such file, or it is no SQLite file.
    """
    with translated(source, "file"):
        if not source.is_file():
            raise _unfit(
                source, "does not exist or is not a file.", "Name a file that `voicegw backup` wrote."
            )
        with source.open("rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise _unfit(source, "is not a SQLite file.", "Name a file that `voicegw backup` wrote.")
    with translated(target):
        for old, new in zip((source, *_beside(source)[:1]), (target, *_beside(target)[:1]), strict=True):
            if old.exists():
                descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with old.open("rb") as reading, os.fdopen(descriptor, "wb") as writing:
                    while block := reading.read(1 << 20):
                        writing.write(block)
                    writing.flush()
                    os.fsync(writing.fileno())


def put_back(copy: Path, store: Path, kept: Path) -> None:
    """Let ``copy`` take the place of a store that nobody has open; the store stays as ``kept``.

    Raises:
        StoreUnavailable: another process has the store open, or the disk refuses.
    """
    with translated(store):
        with closing(connect(copy, timeout_s=4)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for name in _beside(copy):
            name.unlink(missing_ok=True)
        _sync(copy)
        if not store.exists():
            copy.replace(store)
            _sync_folder(store)
            return
        _settle(store)
        with _alone(store), contextlib.ExitStack() as taken_back:
            log, memory = _beside(store)
            try:
                os.link(store, kept)
                taken_back.callback(_remove, kept)
            except OSError as error:  # no links here: for a moment there is no store
                if error.errno not in _NOT_LINKED:
                    raise
                store.replace(kept)
                taken_back.callback(_move, kept, store)
            if log.exists():  # of a damaged store, whose log could not be written back
                log.replace(_beside(kept)[0])
                taken_back.callback(_move, _beside(kept)[0], log)
            memory.unlink(missing_ok=True)
            copy.replace(store)
            taken_back.pop_all()
            _sync_folder(store)


def compact(store: Path) -> None:
    """Write the file anew without its free pages; needs room for a second copy and keeps writers waiting.

    Raises:
        StoreUnavailable: locked, full, damaged, not permitted.
    """
    with translated(store), closing(connect(store, timeout_s=4)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _require_free(store: Path, target: Path, *, force: bool) -> None:
    own = (store, *_beside(store), store.with_name(f"{store.name}-journal"))
    if os.path.realpath(target) in map(os.path.realpath, own) or (
        target.exists() and store.exists() and target.samefile(store)
    ):
        raise InvalidInput(
            f"{target} is a file of the store itself.", field="file", hint="Name another file."
        )
    if target.exists():
        replaceable = target.is_file() and _is_backup(target)
        hint = "Name another file, or replace it with --force." if replaceable else "Name another file."
        if not force or not replaceable:
            what = "is there already, and is no backup." if force else "is there already."
            raise InvalidInput(f"{target} {what}", field="file", hint=hint)


def _is_backup(path: Path) -> bool:
    """Say whether a file may be replaced: an empty one, or a store of ours that nobody uses as such."""
    with path.open("rb") as file:
        if file.read(len(_HEADER)) not in {_HEADER, b""}:
            return False
    if not path.stat().st_size:
        return True
    try:
        with closing(sqlite3.connect(_untouched(path), uri=True)) as connection:
            return _is_ours(connection)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False


def _is_ours(connection: sqlite3.Connection) -> bool:
    found = connection.execute(
        "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('voicegw_mcp_migrations', 'rollup', 'requests')"
    ).fetchone()
    return found[0] == 3


def _untouched(path: Path) -> str:
    """Return the URI under which SQLite makes no files beside a file that nobody else is writing."""
    return f"{path.absolute().as_uri()}?mode=ro&immutable=1"


def _copy(source: sqlite3.Connection, partial: Path, progress: Callable[[int, int], None]) -> None:
    with closing(connect(partial, timeout_s=0)) as target:
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")  # synced once, before it gets its name
        source.backup(
            target, pages=_PAGES, sleep=0, progress=lambda _status, left, total: progress(total - left, total)
        )


def _require_same(store: Path, partial: Path, held: Figures) -> None:
    uri = _untouched(partial)
    with translated(store), closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as copy:
        if integrity(copy) or figures(copy) != held or not agrees(copy):
            raise StoreUnavailable(
                f"The store {store} is damaged: its copy does not pass verification. No backup was made.",
                hint="Run `voicegw repair --dry-run` for what is wrong, then `voicegw repair`.",
                details={"path": str(store), "reason": "damaged"},
            )


def _put(partial: Path, target: Path, *, force: bool) -> None:
    if force:
        partial.replace(target)
    else:
        try:
            os.link(partial, target)  # unlike a rename it never replaces
        except FileExistsError:
            raise InvalidInput(
                f"{target} came into being meanwhile.", field="file", hint="Name another file."
            ) from None
        except OSError as error:
            if error.errno not in _NOT_LINKED:
                raise
            partial.replace(target)
    _sync_folder(target)


def _settle(store: Path) -> None:
    """Write a left-over log back into the file, where that can be done and nobody else has it open."""
    with contextlib.suppress(sqlite3.DatabaseError), closing(connect(store, timeout_s=0)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


@contextlib.contextmanager
def _alone(store: Path) -> Generator[None]:
    """Hold the lock that every other connection would need; on Windows the system refuses to replace an open file."""
    if sys.platform == "win32":
        yield
        return
    import fcntl  # noqa: PLC0415 - not on Windows

    with store.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED[1], _SHARED[0])
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            raise StoreUnavailable(
                f"Another process has the store {store} open.",
                hint="Stop the servers and agents that use it, then repeat. Nothing was changed.",
                details={"path": str(store), "reason": "in_use"},
            ) from None
        yield


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _move(path: Path, back: Path) -> None:
    with contextlib.suppress(OSError):
        path.replace(back)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if sys.platform != "win32":
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _damaged(path: Path) -> InvalidInput:
    return _unfit(
        path, "is damaged.", "Use another backup, or see `voicegw repair --help` for what can be saved."
    )


def _unfit(path: Path, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{path} {what}", field="file", hint=hint)
