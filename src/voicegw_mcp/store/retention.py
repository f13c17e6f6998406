"""Deletes old rows of the request log, a few at a time; rollups and histograms keep what they added to every total.

The store remembers up to when it was pruned (the horizon): from there on rows and rollups must agree, and what is
imported from before may be a row that was counted already. Plain functions of a connection; may import ``domain`` and
``store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import DAY_MS
from voicegw_mcp.store.log_indexes import delete_rows
from voicegw_mcp.store.requests import insert_requests

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from voicegw_mcp.domain import RequestRecord

BATCH_ROWS: Final = 500
"""Rows of one transaction: other writers wait for about 15 ms."""

# The row that came in last stays whatever its age: the next one is numbered behind it, and who follows the log waits
# for higher numbers.
_OLD: Final = "timestamp_ms < ? AND seq < (SELECT MAX(seq) FROM requests)"


class Imported(NamedTuple):
    """How many rows were new, and how many were left out because they are older than the horizon."""

    added: int
    too_old: int


def horizon_for(days: int, now_ms: int) -> int:
    """Return the moment before which rows go: the start of a UTC day, at least ``days`` times 24 hours ago.

    Args:
        days: ``cost_tracking.retention_days``.
        now_ms: the current time, UTC epoch ms.
    """
    return max(0, (now_ms - days * DAY_MS) // DAY_MS * DAY_MS)


def pruned_before(connection: sqlite3.Connection) -> int:
    """Return the horizon in UTC epoch ms; 0 when nothing was ever pruned."""
    row = connection.execute("SELECT pruned_before_ms FROM retention").fetchone()
    return 0 if row is None else int(row[0])


def count_old(connection: sqlite3.Connection, before_ms: int) -> int:
    """Return how many rows ``prune_batch`` would delete, one batch after the other."""
    return int(connection.execute(f"SELECT COUNT(*) FROM requests WHERE {_OLD}", (before_ms,)).fetchone()[0])  # noqa: S608 - a constant


def prune_batch(connection: sqlite3.Connection, before_ms: int, *, most: int = BATCH_ROWS) -> int:
    """Delete the oldest rows from before ``before_ms``, in the caller's transaction.

    Args:
        connection: in a transaction.
        before_ms: UTC epoch ms, the start of a day; remembered as the horizon unless that is later already.
        most: rows to delete.

    Returns:
        How many were deleted; fewer than ``most`` when none are left.
    """
    first = connection.execute(f"SELECT 1 FROM requests WHERE {_OLD} LIMIT 1", (before_ms,)).fetchone()  # noqa: S608 - a constant
    if first is None:
        return 0
    connection.execute(
        "INSERT INTO retention (only_row, pruned_before_ms) VALUES (1, ?) "
        "ON CONFLICT (only_row) DO UPDATE SET pruned_before_ms = "
        "CASE WHEN excluded.pruned_before_ms > retention.pruned_before_ms "
        "THEN excluded.pruned_before_ms ELSE retention.pruned_before_ms END",
        (before_ms,),
    )
    return delete_rows(connection, f"WHERE {_OLD} ORDER BY timestamp_ms LIMIT ?", (before_ms, most))


def insert_imported(connection: sqlite3.Connection, records: Sequence[RequestRecord]) -> Imported:
    """Insert rows of another store whose ids are new, in the caller's transaction.

    Rows from before the horizon are left out: they may have been imported and pruned, and would be counted twice. Rows
    that are recorded here need no such care, their ids are made once.

    Raises:
        InvalidInput: see ``insert_requests``.
    """
    horizon = pruned_before(connection)
    recent = [record for record in records if record.timestamp_ms >= horizon]
    return Imported(insert_requests(connection, recent), len(records) - len(recent))
