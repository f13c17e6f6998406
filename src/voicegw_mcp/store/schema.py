"""The file of a store and its schema: made, migrated, or refused, in plain synchronous code.

Agent processes that only record use it too, so nothing here needs an event loop. A new store is put
in its place whole: of two first starts at once neither waits for the other. Migrations are numbered SQL files, forward
only, each in one transaction with its record, taken with BEGIN IMMEDIATE: of two programs at once one migrates and the
other finds the work done. May import ``errors`` and ``store.failures``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import time
from contextlib import closing
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voicegw_mcp.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RECORD_TABLE: Final = "voicegw_mcp_migrations"
_RETRY_S: Final = 0.01

TRIGGERS: Final = "SELECT name, sql FROM main.sqlite_master WHERE type = 'trigger'"
"""What triggers a store has: ``trigger_texts`` when nobody changed them."""

VIEWS: Final = "SELECT name, sql FROM main.sqlite_master WHERE type = 'view'"
"""What views a store has: those of ``view_texts``, and those that somebody added."""

IN_MEMORY: Final = "file::memory:"
"""The URI under which SQLite makes a database that nobody else sees and that goes with its connection."""

_NOT_ANONYMOUS: Final = frozenset({errno.ENOTSUP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
"""What a file system or a kernel without files that have no name answers."""
_NOT_LINKED: Final = frozenset({errno.EEXIST, errno.ENOENT, errno.EPERM, errno.EXDEV})
"""What giving it a name answers: another program was first, there is no /proc, a sandbox forbids it."""


def location(path: Path, *, read_only: bool = False) -> str:
    """Return the URI under which SQLite opens an existing file."""
    return f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"


def connect(path: Path, *, timeout_s: float, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection in autocommit mode that may move between threads.

    Args:
        path: the store's file.
        timeout_s: how long a statement waits for another program's lock.
        read_only: open with ``mode=ro``.

    Raises:
        sqlite3.Error: untranslated; the caller knows what it was about to do.
    """
    return sqlite3.connect(
        location(path, read_only=read_only),
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )


def prepare(path: Path, *, deadline: float, read_only: bool = False) -> int:
    """Make or migrate the store's file and return its schema version.

    Args:
        path: the store's file; missing folders are made with mode 0700, the file with 0600.
        deadline: ``time.monotonic()`` value after which a lock is reported instead of waited for.
        read_only: change nothing; an unmigrated store is refused.

    Raises:
        StoreUnavailable: newer than this program, or read-only and not yet migrated.
        sqlite3.Error, OSError: untranslated.
    """
    steps = migration_scripts()
    newest = len(steps)
    if not read_only and not path.exists():
        place = Path(os.path.realpath(path))
        _make_folder(place)
        _make_store(place, steps)
    with closing(connect(path, timeout_s=_left(deadline), read_only=read_only)) as connection:
        version = _version(connection)
        if version > newest:
            raise StoreUnavailable(
                f"The store {path} has schema version {version}; this program knows versions up to {newest}.",
                hint="Update voicegw-mcp, or name another store with VOICEGW_DB_PATH.",
                details={"path": str(path), "reason": "newer", "found": version, "known": newest},
            )
        if read_only:
            if version < newest:
                raise StoreUnavailable(
                    f"The store {path} has schema version {version} and needs {newest}; it was opened read-only.",
                    hint="Start once without --read-only to bring it up to date.",
                    details={"path": str(path), "reason": "older", "found": version, "known": newest},
                )
            return version
        _use_wal(connection, deadline)
        for number in range(version + 1, newest + 1):
            # Each statement may wait; together they may not wait longer than the deadline.
            connection.execute(f"PRAGMA busy_timeout = {int(_left(deadline) * 1000)}")
            _migrate(connection, number, steps[number - 1])
    return newest


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one that takes its place (device and inode); None when there is none.

    Raises:
        OSError: the disk does not say.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - a path object costs more than the call, at every batch
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def is_foreign(path: Path) -> bool:
    """Say whether the file is a store that VoiceGateway made. A file that is locked or no store is not."""
    if not os.path.isfile(path):  # noqa: PTH113 - unlike Path.is_file it never raises
        return False
    try:
        with closing(connect(path, timeout_s=0, read_only=True)) as connection:
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            columns = {row[1] for row in connection.execute("PRAGMA table_info(requests)")}
    except (sqlite3.Error, UnicodeDecodeError):  # the latter: a message that repeats damaged names
        return False
    return _RECORD_TABLE not in tables and ("managed_providers" in tables or "timestamp" in columns)


def choose_path(path: Path) -> Path:
    """Return the file to open for a configured store path.

    A store made by VoiceGateway is left to VoiceGateway: for ``voicegw.db`` the answer is then its sibling
    ``voicegw-mcp.db``, and the caller tells the user. A missing, locked or unreadable file is returned as it is.
    """
    return path.with_name(f"{path.stem}-mcp{path.suffix}") if is_foreign(path) else path


def _make_folder(path: Path) -> None:
    for folder in reversed([folder for folder in path.absolute().parents if not folder.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)


def _make_store(path: Path, steps: Sequence[str]) -> None:
    """Put a whole, empty store in place in one step; where that cannot be done, an empty file.

    The former has no name before it is whole: nobody waits for it, and a crash leaves nothing of it. The latter is then
    migrated like an older store. Of two programs at once the second one finds what the first one put there.
    """
    try:
        anonymous = os.open(path.parent, os.O_RDWR | os.O_TMPFILE, 0o600) if sys.platform == "linux" else None
    except OSError as error:
        if error.errno not in _NOT_ANONYMOUS:
            raise
        anonymous = None
    if anonymous is None:
        _make_file(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        image = memoryview(_image(steps))
        while image:
            image = image[os.write(anonymous, image) :]
        os.fsync(anonymous)
        # open(2), O_TMPFILE. The folder's descriptor means nothing for an absolute path, but makes this linkat(2).
        os.link(f"/proc/self/fd/{anonymous}", path, src_dir_fd=folder, follow_symlinks=True)
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NOT_LINKED:
            raise
        _make_file(path)
    finally:
        os.close(anonymous)
        os.close(folder)


def _image(steps: Sequence[str]) -> bytes:
    """Return the bytes of an empty store."""
    with closing(_empty(steps)) as connection:
        image = bytearray(connection.serialize())
    # SQLite file format, 1.3.3: 2 and 2 is write-ahead logging, which a database in memory cannot have.
    image[18:20] = b"\x02\x02"
    return bytes(image)


def _empty(steps: Sequence[str]) -> sqlite3.Connection:
    """Return a connection to an empty store in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for number, step in enumerate(steps, 1):
        _migrate(connection, number, step)
    return connection


def _make_file(path: Path) -> None:
    # SQLite gives the -wal and -shm files the mode of the main file, so making it first settles all three.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to write-ahead logging once; where the file system cannot, SQLite stays with its rollback journal."""
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(_left(deadline) * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # The switch does not wait for locks as other statements do: another first start may be doing it.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _version(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_RECORD_TABLE,)).fetchone()
    if found is None:
        return 0
    version: int | None = connection.execute(f"SELECT MAX(version) FROM {_RECORD_TABLE}").fetchone()[0]
    return version or 0


def _migrate(connection: sqlite3.Connection, number: int, script: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) < number:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_RECORD_TABLE} (version BIGINT PRIMARY KEY, applied_ms BIGINT NOT NULL)"
            )
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(
                f"INSERT INTO {_RECORD_TABLE} VALUES (?, ?)", (number, int(time.time() * 1000))
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script at its semicolons; ``executescript`` would commit the transaction it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def migration_scripts() -> list[str]:
    """Return what makes a store of an empty database, in order."""
    folder = files("voicegw_mcp.store") / "migrations"
    steps = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [step.read_text(encoding="utf-8") for step in steps]


def trigger_texts() -> dict[str, str]:
    """Return the text of every trigger of an up-to-date store, by name."""
    return _texts(TRIGGERS)


def view_texts() -> dict[str, str]:
    """Return the text of every view of an up-to-date store, by name."""
    return _texts(VIEWS)


@cache
def _texts(query: str) -> dict[str, str]:
    with closing(_empty(migration_scripts())) as connection:
        return dict(connection.execute(query).fetchall())


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
