"""What projects have spent, read synchronously: for the process that makes the calls and needs no event loop for it.

May import ``domain``, ``errors`` and ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.rollups import SeriesFilter, cover
from voicegw_mcp.store.schema import choose_path, connect
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Generator
    from pathlib import Path

_PATIENCE_S: Final = 0.5
_CHUNK: Final = 500
_SUMS: Final = (
    "SELECT COALESCE(SUM(cost_nanousd), 0), COALESCE(SUM(unpriced), 0) FROM rollup "
    "WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?"
)


class Spent(NamedTuple):
    """What requests cost, nano-USD, and how many have no price."""

    cost_nanousd: int = 0
    unpriced: int = 0


class SpendState:
    """One state of the store, whatever is written meanwhile; None stands for a store that nobody has made yet."""

    def __init__(self, path: Path, connection: sqlite3.Connection | None) -> None:
        self._path = path
        self._connection = connection

    def spent(self, project: str, start_ms: int, end_ms: int) -> Spent:
        """Return what a project spent in a span of whole quarter hours, all statuses together.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        if self._connection is None:
            return Spent()
        condition, names = SeriesFilter(project=project).condition()
        with translated(self._path):
            sums = [
                self._connection.execute(
                    _SUMS + condition, (span.grain_ms // 1000, span.start_ms, span.end_ms, *names)
                ).fetchone()
                for span in cover(start_ms, end_ms)
            ]
        return Spent(sum(cost for cost, _ in sums), sum(unpriced for _, unpriced in sums))

    def present(self, ids: Collection[str]) -> set[str]:
        """Return those of the ids that rows of the log have.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        found: set[str] = set()
        if self._connection is not None:
            wanted = [storable(each) for each in ids]
            with translated(self._path):
                for first in range(0, len(wanted), _CHUNK):
                    some = wanted[first : first + _CHUNK]
                    marks = ", ".join("?" for _ in some)
                    found.update(
                        row_id
                        for (row_id,) in self._connection.execute(
                            f"SELECT id FROM requests WHERE id IN ({marks})", some
                        )
                    )
        return found


@contextmanager
def spend_state(path: Path) -> Generator[SpendState]:
    """Open the store that is configured as ``path`` and hold its present state until the block ends.

    A connection for each: SQLite must not be open across a fork, and a file that was replaced is not read for long.

    Raises:
        StoreUnavailable: it is locked, damaged, or older than this program and not yet brought up to date.
    """
    with translated(path):
        chosen = choose_path(path)
        connection = connect(chosen, timeout_s=_PATIENCE_S, read_only=True) if chosen.exists() else None
    if connection is None:
        yield SpendState(chosen, None)
        return
    with closing(connection):
        with translated(chosen):
            connection.execute("BEGIN")
        yield SpendState(chosen, connection)
