"""Requests that were not recorded: counted in the store, because who counts them is another process than who tells.

May import ``domain``; readers take a ``Store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import DAY_MS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from voicegw_mcp.store.reader import Reads

KEPT_MS: Final = 7 * DAY_MS
"""How long after its last loss a process is still told of."""


class Source(NamedTuple):
    """Who records: ``recorder`` is unique, ``host`` and ``pid`` are for people."""

    recorder: str
    host: str
    pid: int


class Loss(NamedTuple):
    """Requests that one process did not record for one reason; times are UTC epoch ms."""

    host: str
    pid: int
    reason: str
    requests: int
    first_ms: int
    last_ms: int


def add_losses(
    connection: sqlite3.Connection, source: Source, losses: Mapping[str, int], now_ms: int
) -> None:
    """Add to what ``source`` lost, by reason, in the caller's transaction; forget what is older than ``KEPT_MS``."""
    connection.execute("DELETE FROM lost WHERE last_ms < ?", (now_ms - KEPT_MS,))
    connection.executemany(
        "INSERT INTO lost (recorder, host, pid, reason, requests, first_ms, last_ms) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (recorder, reason) DO UPDATE SET requests = lost.requests + excluded.requests, "
        "last_ms = excluded.last_ms",
        [(*source, reason, requests, now_ms, now_ms) for reason, requests in losses.items()],
    )


def read_losses(reads: Reads) -> list[Loss]:
    """Return what processes lost, the most recent first."""
    rows = reads.read(
        "SELECT host, pid, reason, requests, first_ms, last_ms FROM lost ORDER BY last_ms DESC, recorder, reason"
    )
    return [Loss(*row) for row in rows]
