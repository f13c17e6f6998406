"""The one place where an error of SQLite or the file system becomes ``StoreUnavailable``.

A caller needs to know what is wrong with which file and what to do; SQL text and SQLite's own wording (which can
repeat SQL) stay out of the message and travel only as the exception's cause, for the log. May import ``errors``.
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from voicegw_mcp.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_UNCHANGED = "Nothing was changed."


@contextmanager
def translated(path: Path, what: str = "store") -> Generator[None]:
    """Turn every ``sqlite3.Error`` and ``OSError`` raised inside into ``StoreUnavailable`` about ``path``.

    Args:
        path: the file that is worked on.
        what: how to call it.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(path, what, error) from error
    except OSError as error:
        raise _from_system(path, what, error) from error
    except (
        UnicodeDecodeError
    ) as error:  # the module could not read SQLite's own message, which repeats damaged names
        raise damaged(path) from error


@contextmanager
def decoding(path: Path) -> Generator[None]:
    """Turn what a value of a wrong type raises where it is first used into the error for a damaged store.

    SQLite keeps any type in any column, and bytes of a row that changed may make anything of it. A look at the type of each
    value that is read would cost every answer.
    """
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        raise damaged(path) from error


def damaged(path: Path) -> StoreUnavailable:
    """Return the error for content that cannot be what this program wrote."""
    return StoreUnavailable(
        f"The store {path} is damaged or is not a SQLite file.",
        hint="`voicegw repair` saves what can be read, `voicegw restore` puts a backup in its place. Or move the file away: a "
        "new, empty store is made at the next start. The configuration is not affected.",
        details={"path": str(path), "reason": "damaged"},
    )


def missing(path: Path) -> StoreUnavailable:
    """Return the error for a store that is not there, where none should be made."""
    return StoreUnavailable(
        f"There is no store at {path}.",
        hint="It is made when the first request or change is recorded. `voicegw status` shows what is in force; "
        "VOICEGW_DB_PATH names another one.",
        details={"path": str(path), "reason": "missing"},
    )


def contradicting(path: Path) -> StoreUnavailable:
    """Return the error for a store whose sums do not agree with each other: any total may be wrong."""
    return StoreUnavailable(
        f"The store {path} is damaged: its sums contradict each other, so no total is given.",
        hint="`voicegw repair --dry-run` shows where, `voicegw repair` mends it. The configuration is not affected.",
        details={"path": str(path), "reason": "damaged"},
    )


def _from_sqlite(path: Path, what: str, error: sqlite3.Error) -> StoreUnavailable:
    # Errors that the Python module raises itself (a closed connection, a number too large) carry no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    primary = code & 0xFF
    if primary in _LOCKED:
        return StoreUnavailable(
            f"The {what} {path} is locked by another program.",
            hint="Close the program that holds it (a database browser, a backup, a long transaction) and try "
            f"again. {_UNCHANGED}",
            details={"path": str(path), "reason": "locked"},
        )
    if primary in _DAMAGED or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return damaged(path)
    if (
        primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
    ):  # no room for the index of its log
        return _full(path, what)
    if primary in _REFUSED:
        return _refused(path, what, name)
    if primary == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(
            f"Reading or writing the {what} {path} failed ({name}).",
            hint=f"Check the disk and its free space, then try again. {_UNCHANGED}",
            details={"path": str(path), "reason": "io"},
        )
    return StoreUnavailable(
        f"The {what} {path} could not answer ({name}).",
        hint="If the file belongs to another program, name another one with VOICEGW_DB_PATH. Otherwise please "
        "report it with the server's log (stderr).",
        details={"path": str(path), "reason": "unexpected"},
    )


def _from_system(path: Path, what: str, error: OSError) -> StoreUnavailable:
    if error.errno in _NO_ROOM:
        return _full(path, what)
    return _refused(path, what, errno.errorcode.get(error.errno or 0, type(error).__name__))


def _full(path: Path, what: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The disk that holds the {what} {path} is full.",
        hint=f"Free some space and try again. {_UNCHANGED}",
        details={"path": str(path), "reason": "full"},
    )


def _refused(path: Path, what: str, name: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The {what} {path} cannot be opened or written ({name}).",
        hint="Check that the folder exists and that this user may read and write it and the file.",
        details={"path": str(path), "reason": "permission"},
    )
