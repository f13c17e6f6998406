"""What leads to rows of the log and is no index of SQLite's own: the cells of a session, and the texts of errors.

Kept in the transaction that inserts or deletes the rows. Both say where to look, never what is there: who finds a row
by them reads it and looks whether it matches. Plain functions of a connection; may import ``domain`` and ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import QUARTER_MS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Sequence

    from voicegw_mcp.store.log_rows import LogRow

_TERMS: Final = "message, series, status, latency_digits, latency_first, cost_digits, cost_first"  # of error_text and error_document
_ADD_TEXTS: Final = (
    f"INSERT INTO error_text (rowid, {_TERMS}) SELECT timestamp_ms, {_TERMS} FROM error_document"
)
_FORGET_TEXTS: Final = (
    f"INSERT INTO error_text (error_text, rowid, {_TERMS}) "
    f"SELECT 'delete', timestamp_ms, {_TERMS} FROM error_document"
)
_CELLS: Final = (
    f"SELECT DISTINCT session_id, timestamp_ms / {QUARTER_MS} * {QUARTER_MS} AS bucket_ms, series_id FROM requests "
    "WHERE session_id IS NOT NULL"
)

_MOST_TERMS: Final = 8
_SERIES, _STATUS, LATENCY, COST = range(0xF0000, 0xF0004)
_DIGIT: Final = 0xF0000


class _Entry(NamedTuple):
    seq: int
    timestamp_ms: int
    series_id: int
    session_id: str | None
    error_message: str | None


def add_rows(connection: sqlite3.Connection, rows: Sequence[LogRow]) -> None:
    """Add rows that were just inserted, in the caller's transaction."""
    connection.executemany("INSERT OR IGNORE INTO session_cell VALUES (?, ?, ?)", _cells_of(rows))
    connection.executemany(
        f"{_ADD_TEXTS} WHERE seq = ?", [(row.seq,) for row in rows if row.error_message is not None]
    )


def delete_rows(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> int:
    """Delete rows of the log and what leads to them, in the caller's transaction; return how many there were.

    Args:
        connection: in a transaction.
        where: which, what follows SELECT ... FROM requests; a constant.
        values: its parameters.
    """
    rows = [
        _Entry(*row)
        for row in connection.execute(f"SELECT {', '.join(_Entry._fields)} FROM requests {where}", values)
    ]
    texts = [row for row in rows if row.error_message is not None]
    connection.executemany(f"{_FORGET_TEXTS} WHERE seq = ?", [(row.seq,) for row in texts])
    connection.executemany("DELETE FROM requests WHERE seq = ?", [(row.seq,) for row in rows])
    # Rows of one millisecond share their terms: those that stay are entered again.
    connection.executemany(
        f"{_ADD_TEXTS} WHERE timestamp_ms = ?", [(moment,) for moment in {row.timestamp_ms for row in texts}]
    )
    connection.executemany(
        "DELETE FROM session_cell WHERE session_id = ?1 AND bucket_ms = ?2 AND series_id = ?3 AND NOT EXISTS "
        f"(SELECT 1 FROM requests WHERE series_id = ?3 AND timestamp_ms >= ?2 AND timestamp_ms < ?2 + {QUARTER_MS} "
        "AND session_id = ?1)",
        _cells_of(rows),
    )
    return len(rows)


def change_rows(
    connection: sqlite3.Connection, change: Callable[[], None], rows: Iterable[tuple[int, int]]
) -> None:
    """Change what is found by its error text as well, in the caller's transaction.

    Args:
        connection: in a transaction.
        change: changes cost or latency of rows.
        rows: number and timestamp (UTC epoch ms) of those of them that have an error text.
    """
    texts = list(rows)
    connection.executemany(f"{_FORGET_TEXTS} WHERE seq = ?", [(seq,) for seq, _ in texts])
    change()
    connection.executemany(  # all of their milliseconds, as in delete_rows()
        f"{_ADD_TEXTS} WHERE timestamp_ms = ?", [(moment,) for moment in {moment for _, moment in texts}]
    )


def session_cells_differ(connection: sqlite3.Connection) -> bool:
    """Say whether a cell of a session is missing or too many."""
    known = "SELECT session_id, bucket_ms, series_id FROM session_cell"
    return any(
        connection.execute(f"SELECT EXISTS ({one} EXCEPT {other})").fetchone()[0]
        for one, other in ((_CELLS, known), (known, _CELLS))
    )


def make_session_cells(connection: sqlite3.Connection) -> None:
    """Make the cells of all sessions anew from the rows, in the caller's transaction."""
    connection.execute("DELETE FROM session_cell")
    connection.execute(f"INSERT OR IGNORE INTO session_cell {_CELLS} ORDER BY 1, 2, 3")


def make_error_texts(connection: sqlite3.Connection) -> None:
    """Enter all error texts anew from the rows, in the caller's transaction."""
    connection.execute("INSERT INTO error_text (error_text) VALUES ('delete-all')")
    connection.execute(f"{_ADD_TEXTS} ORDER BY timestamp_ms")


def message_terms(needle: str, most: int = _MOST_TERMS) -> str:
    """Return what texts match that hold all of a needle of three characters or more, and maybe some others.

    Of a long one not all terms are asked for: ``most`` of them, from all over it, say enough.
    """
    folded = _folded(needle)
    terms = list(dict.fromkeys(folded[start : start + 3] for start in range(len(folded) - 2)))
    asked = min(most, len(terms))
    return _all(terms[number * len(terms) // asked] for number in range(asked))


def short_terms(needle: str) -> tuple[str, str]:
    """Return the first and the last term that begins with a needle of one or two characters."""
    folded = _folded(needle)
    return folded, folded + 2 * chr(0x10FFFF)


def any_of(terms: Iterable[str]) -> str:
    """Return what texts match that have one of the terms."""
    return f"({' OR '.join(map(_quoted, terms))})"


def series_terms(numbers: Collection[int]) -> str:
    """Return what texts of these series match."""
    return any_of(_term(_SERIES, number // 4096, number % 4096) for number in numbers)


def status_term(status: str) -> str:
    """Return what texts of requests with this status match."""
    return any_of([_term(_STATUS, ord(status[0]))])


def at_least(kind: int, least: int) -> str:
    """Return what texts of requests match whose ``LATENCY`` (us) or ``COST`` (nano-USD) is at least ``least``.

    And of some that are less: of a number its digits are counted and the first one is known.
    """
    digits = len(str(least))
    longer = [_term(kind, count) for count in range(digits + 1, 20)]
    return any_of([*longer, *(_term(kind, digits, 1 + first) for first in range(int(str(least)[0]), 10))])


def _cells_of(rows: Iterable[_Entry | LogRow]) -> list[tuple[str, int, int]]:
    return sorted(
        {
            (row.session_id, row.timestamp_ms // QUARTER_MS * QUARTER_MS, row.series_id)
            for row in rows
            if row.session_id is not None
        }
    )


def _term(kind: int, first: int, second: int = 0) -> str:
    return chr(kind) + chr(_DIGIT + first) + chr(_DIGIT + second)


def _folded(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _all(terms: Iterable[str]) -> str:
    return f"({' AND '.join(map(_quoted, terms))})"


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'
