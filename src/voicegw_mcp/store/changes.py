"""The journal of changes to the configuration: who changed what, when, and what undo works from.

Writing functions take the connection of a transaction (``Store.write``); readers take a ``Store``. Ids sort by time,
so the newest page is the end of the primary key. May import ``store.ids`` and ``store.sqlite``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from voicegw_mcp.store.ids import new_id, time_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from voicegw_mcp.store.reader import Reads

ChangeState = Literal["pending", "applied", "failed"]


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """One change. Times are UTC epoch ms; ``edits`` is JSON text; ``undoes`` is the id of the change it takes back.

    ``applied_ms`` None with state ``applied`` means that a crash hid the moment: the file was found changed later.
    """

    id: str
    created_ms: int
    applied_ms: int | None
    state: ChangeState
    actor: str
    door: str
    tool: str
    summary: str
    file: str
    version_before: str
    version_after: str
    diff: str
    edits: str
    undoes: str | None


_COLUMNS = ", ".join(field.name for field in fields(ChangeRecord))
_INSERT = f"INSERT INTO changes ({_COLUMNS}) VALUES ({', '.join('?' for _ in fields(ChangeRecord))})"
_SELECT = f"SELECT {_COLUMNS} FROM changes"
_SETTLE = "UPDATE changes SET state = ?, applied_ms = ? WHERE id = ? AND state = 'pending'"


# The newest of the undos of a change, of the undos of those, and so on has the last word: each was made only because
# the entries were as the one before had left them.
_TAKEN_BACK = """coalesce((
    WITH RECURSIVE family(id, takes_back) AS (
        SELECT id, 1 FROM changes WHERE undoes = made.id AND state = 'applied'
        UNION ALL
        SELECT changes.id, 1 - takes_back FROM family JOIN changes ON changes.undoes = family.id
        WHERE changes.state = 'applied'
    )
    SELECT takes_back FROM family ORDER BY id DESC LIMIT 1
), 0)"""


def insert_pending(connection: sqlite3.Connection, change: ChangeRecord) -> None:
    """Write the row of a change that is about to happen; it is stored with state ``pending`` whatever it says."""
    row = replace(change, state="pending", applied_ms=None)
    connection.execute(_INSERT, tuple(getattr(row, field.name) for field in fields(ChangeRecord)))


def next_id(connection: sqlite3.Connection, now_ms: int) -> str:
    """Return an id that sorts behind every other one, also within one millisecond or when the clock was set back."""
    (last,) = connection.execute("SELECT max(id) FROM changes").fetchone()
    fresh = new_id(now_ms)
    return fresh if last is None or fresh > last else new_id(time_of(last) + 1)


def mark_applied(connection: sqlite3.Connection, change_id: str, applied_ms: int | None = None) -> bool:
    """Settle a pending change as done at ``applied_ms`` (UTC epoch ms); return whether it was pending."""
    return connection.execute(_SETTLE, ("applied", applied_ms, change_id)).rowcount == 1


def state_of(connection: sqlite3.Connection, change_id: str) -> str:
    """Return the state of a change, "" when there is none with this id."""
    row = connection.execute("SELECT state FROM changes WHERE id = ?", (change_id,)).fetchone()
    return row[0] if row else ""


def mark_failed(connection: sqlite3.Connection, change_id: str) -> bool:
    """Settle a pending change as not done; return whether it was pending."""
    return connection.execute(_SETTLE, ("failed", None, change_id)).rowcount == 1


def list_changes(
    reads: Reads, *, limit: int, before: str | None = None, after: str | None = None, file: str | None = None
) -> list[ChangeRecord]:
    """Return up to ``limit`` changes, newest first.

    Args:
        reads: the store.
        limit: how many at most.
        before: only older ones than the change with this id.
        after: only newer ones than the change with this id.
        file: only those of the file at this path.
    """
    conditions = [("id < ?", before), ("id > ?", after), ("file = ?", file)]
    asked = [(text, value) for text, value in conditions if value is not None]
    where = f" WHERE {' AND '.join(text for text, _ in asked)}" if asked else ""
    rows = reads.read(f"{_SELECT}{where} ORDER BY id DESC LIMIT ?", (*(value for _, value in asked), limit))
    return [ChangeRecord(*row) for row in rows]


def get_change(reads: Reads, change_id: str) -> ChangeRecord | None:
    """Return the change with this id, or None."""
    rows = reads.read(f"{_SELECT} WHERE id = ?", (change_id,))
    return ChangeRecord(*rows[0]) if rows else None


def last_applied(reads: Reads, file: str, *, version: str | None = None) -> ChangeRecord | None:
    """Return the newest applied change of ``file``, or the newest one that left it at ``version``."""
    if version is None:
        rows = reads.read(f"{_SELECT} WHERE state = 'applied' AND file = ? ORDER BY id DESC LIMIT 1", (file,))
    else:
        rows = reads.read(
            f"{_SELECT} WHERE version_after = ? AND state = 'applied' AND file = ? ORDER BY id DESC LIMIT 1",
            (version, file),
        )
    return ChangeRecord(*rows[0]) if rows else None


def first_applied(reads: Reads, file: str, *, version: str) -> ChangeRecord | None:
    """Return the oldest applied change of ``file`` that found it at ``version``."""
    rows = reads.read(
        f"{_SELECT} WHERE version_before = ? AND state = 'applied' AND file = ? ORDER BY id LIMIT 1",
        (version, file),
    )
    return ChangeRecord(*rows[0]) if rows else None


def count_applied(reads: Reads, file: str, *, after: str) -> int:
    """Return how many applied changes of ``file`` are newer than the change with the id ``after``."""
    ((count,),) = reads.read(
        "SELECT count(*) FROM changes WHERE state = 'applied' AND file = ? AND id > ?", (file, after)
    )
    return count


def pending_files(reads: Reads) -> list[str]:
    """Return the files that have changes which were never settled."""
    return [file for (file,) in reads.read("SELECT DISTINCT file FROM changes WHERE state = 'pending'")]


def undos_of(reads: Reads, change_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return id and ``undoes`` of the applied changes that took these back, of those that took those back, and so on."""
    marks = ", ".join("?" * len(change_ids))
    rows = reads.read(
        f"""
        WITH RECURSIVE line(id, undoes) AS (
            SELECT id, undoes FROM changes WHERE undoes IN ({marks}) AND state = 'applied'
            UNION
            SELECT changes.id, changes.undoes FROM line JOIN changes ON changes.undoes = line.id
            WHERE changes.state = 'applied'
        )
        SELECT id, undoes FROM line
        """,
        change_ids,
    )
    return [(change_id, undoes) for change_id, undoes in rows]


def newest_in_force(reads: Reads, files: Sequence[str]) -> ChangeRecord | None:
    """Return the newest applied change of these files that is no undo and is not taken back."""
    marks = ", ".join("?" * len(files))
    rows = reads.read(
        f"""
        {_SELECT} WHERE id = (
            SELECT id FROM changes AS made
            WHERE state = 'applied' AND undoes IS NULL AND file IN ({marks}) AND NOT {_TAKEN_BACK}
            ORDER BY id DESC LIMIT 1
        )
        """,
        files,
    )
    return ChangeRecord(*rows[0]) if rows else None


def later_lines(reads: Reads, file: str, *, after: str, texts: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return id and ``undoes`` of the applied changes of ``file`` behind ``after`` whose edits hold one of the texts.

    With them come the changes they take back, those that these take back, and so on, older ones too.
    """
    holds = " OR ".join("instr(edits, ?)" for _ in texts) or "0"
    rows = reads.read(
        f"""
        WITH RECURSIVE line(id, undoes) AS (
            SELECT id, undoes FROM changes WHERE id > ? AND file = ? AND state = 'applied' AND ({holds})
            UNION
            SELECT changes.id, changes.undoes FROM line JOIN changes ON changes.id = line.undoes
        )
        SELECT id, undoes FROM line
        """,
        (after, file, *texts),
    )
    return [(change_id, undoes) for change_id, undoes in rows]


def pending_changes(connection: sqlite3.Connection, file: str) -> list[ChangeRecord]:
    """Return the changes to ``file`` that were never settled, oldest first."""
    rows = connection.execute(f"{_SELECT} WHERE state = 'pending' AND file = ? ORDER BY id", (file,))
    return [ChangeRecord(*row) for row in rows]
