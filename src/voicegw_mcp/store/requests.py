"""The request log: inserting rows with all that is made of them, and reading rows in order.

Two deviations from the first design, both for size (250 MB per million rows is the limit): rows have a number ``seq``
(the order they came in) that indexes and page cursors use instead of the text id, which saves 20 bytes in each of
three indexes; latencies are whole microseconds, which makes their sums exact and takes half the bytes of a double.

Plain synchronous functions of a connection write; readers take a ``Store``. May import ``domain``, ``errors`` and
``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from voicegw_mcp.domain import LATEST_MS, MOST_COUNT, Modality, RequestStatus
from voicegw_mcp.errors import InvalidInput, quote
from voicegw_mcp.store.failures import damaged
from voicegw_mcp.store.histogram import MOST_MS
from voicegw_mcp.store.log_conditions import Values, row_tests, series_test, time_tests
from voicegw_mcp.store.log_indexes import add_rows
from voicegw_mcp.store.log_rows import COLUMNS, SELECT_LINES, SELECT_ROWS, LogFilter, LogLine, LogRow
from voicegw_mcp.store.log_search import find_rows
from voicegw_mcp.store.rollup_writing import add_to_rollups
from voicegw_mcp.store.rollups import ANY_SERIES, COUNTED, SeriesFilter
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from voicegw_mcp.domain import RequestRecord
    from voicegw_mcp.store.reader import Reads

MOST_MESSAGE_CHARACTERS: Final = 2_000
_CHUNK: Final = 500
_NEAR: Final = 10_000
_DOWNWARD: Final = (
    "SELECT seq FROM main.requests NOT INDEXED WHERE series_id IN (SELECT series_id FROM series)"
)
"""Numbers that a reader sees, one after the other; the index of series would be sorted first."""
_WORDS: Final = {word: word.value for word in (*Modality, *RequestStatus)}
"""The attribute ``value`` of an enumeration is a function call, twice per row."""
_INSERT: Final = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)})"


def insert_requests(connection: sqlite3.Connection, records: Sequence[RequestRecord]) -> int:
    """Insert the rows whose ids are new and add them to rollups and indexes, in the caller's transaction.

    A latency that is negative, not a number or above ``MOST_MS`` is stored as not measured: LiveKit reports -1 for it.

    Returns:
        How many rows were inserted; the others were there already, or earlier in ``records``.

    Raises:
        InvalidInput: a time, count or cost is negative or absurdly large; nothing of the batch is then kept.
    """
    fresh = _fresh(connection, records)
    if not fresh:
        return 0
    numbers = Numbers(connection)
    seq: int = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM requests").fetchone()[0]
    rows = [_logged(record, seq + offset, numbers) for offset, record in enumerate(fresh, start=1)]
    connection.executemany(_INSERT, (row[: len(COLUMNS)] for row in rows))
    add_rows(connection, rows)
    add_to_rollups(connection, rows)
    return len(rows)


def read_log(
    reads: Reads, query: LogFilter, *, limit: int, after: tuple[int, int] | None = None
) -> list[LogRow]:
    """Return up to ``limit`` rows in the query's order.

    Args:
        reads: the log, or a part of it.
        query: filters and order.
        limit: at least 1.
        after: the place (timestamp_ms, seq) behind which to begin.
    """
    found = find_rows(reads, query, limit=limit, after=after, select=SELECT_ROWS)
    return list(map(LogRow._make, found))


def read_lines(
    reads: Reads, query: LogFilter, *, limit: int, after: tuple[int, int] | None = None
) -> list[LogLine]:
    """Return the rows that ``read_log`` would, only what a concise page shows of them."""
    found = find_rows(reads, query, limit=limit, after=after, select=SELECT_LINES)
    return list(map(LogLine._make, found))


def last_number(reads: Reads) -> int:
    """Return the number of the row that came in last, of whatever project: what the reader sees is not above it."""
    rows = reads.read("SELECT COALESCE(MAX(seq), 0) FROM main.requests")
    return rows[0][0]


def newest_number(reads: Reads, above: int) -> int:
    """Return ``LogRow.seq`` of the row that came in last, ``above`` when none is above that; looks at each row above."""
    rows = reads.read(f"{_DOWNWARD} AND seq > ? ORDER BY seq DESC LIMIT 1", (above,))
    return rows[0][0] if rows else above


def number_of(reads: Reads, row_id: str) -> int | None:
    """Return ``LogRow.seq`` of the row with this id, None when there is none (any more)."""
    rows = reads.read("SELECT seq FROM requests WHERE id = ?", (storable(row_id),))
    return rows[0][0] if rows else None


def id_at(reads: Reads, number: int) -> str:
    """Return the id of the last row numbered ``number`` or below, "" when there is none."""
    rows = reads.read(
        f"{_DOWNWARD} AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT 1", (number - _NEAR, number)
    )
    if not rows:  # of projects with few rows: by their own ones instead of all
        rows = reads.read(
            "SELECT MAX(seq) FROM main.requests INDEXED BY requests_by_series "
            "WHERE series_id IN (SELECT series_id FROM series) AND seq <= ?",
            (number,),
        )
    found = reads.read("SELECT id FROM requests WHERE seq = ?", rows[0])
    return found[0][0] if found else ""


def read_arrivals(reads: Reads, query: LogFilter, *, after: int, until: int, limit: int) -> list[LogRow]:
    """Return up to ``limit`` rows numbered above ``after`` and up to ``until``, in the order they came in.

    Numbers are given inside the writing transaction, of which there is one at a time: what is committed later has a
    higher number, whatever its timestamp. The query's own order is of no account.
    """
    values = Values()
    span = f"seq > {values.mark(after)} AND seq <= {values.mark(until)}"
    tests = f"{row_tests(query, values)} AND {time_tests(query, values, None)}"
    # NOT INDEXED: the few rows that are new, by their number, instead of an index of the whole log.
    places = (
        f"SELECT seq FROM main.requests NOT INDEXED WHERE {span} AND {tests} "
        f"AND {series_test('series_id', query, values, bound=reads.projects is not None)} ORDER BY seq LIMIT {limit}"
    )
    rows = reads.read(f"{SELECT_ROWS} WHERE requests.seq IN ({places}) ORDER BY requests.seq", values)
    return [LogRow(*row) for row in rows]


def read_sessions(
    reads: Reads, start_ms: int, end_ms: int, only: SeriesFilter = ANY_SERIES, *, limit: int
) -> list[tuple[str | None, int, int]]:
    """Return (session_id, cost_nanousd, requests) of the ``limit`` costliest sessions of a window.

    Reads raw rows: pruned ones are missing. Rows of no session come together under None.

    Raises:
        StoreUnavailable: it cannot be read, or a row is damaged.
    """
    condition, values = only.condition()
    rows = reads.read(
        f"SELECT session_id, COALESCE(SUM(cost_nanousd), 0) AS cost, {COUNTED} FROM requests "
        f"WHERE timestamp_ms >= ? AND timestamp_ms < ?{condition} "
        "GROUP BY session_id ORDER BY cost DESC, session_id LIMIT ?",
        (start_ms, end_ms, *values, limit),
    )
    for session, cost, requests in rows:
        # A sum of what is no whole number, too, is money that nobody spent.
        if not (isinstance(session, str | None) and isinstance(cost, int) and isinstance(requests, int)):
            raise damaged(reads.path)
    return [(row[0], row[1], row[2]) for row in rows]


class Numbers:
    """Looks up the numbers of series and prices, and gives new ones; each name is looked up once per batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str | int, ...], int] = {}

    def series(self, project: str, modality: str, provider: str, model_id: str) -> int:
        """Return the number of a series."""
        return self._number(
            ("series", project, modality, provider, model_id),
            "SELECT series_id FROM series WHERE project = ? AND modality = ? AND provider = ? AND model_id = ?",
            "INSERT INTO series (project, modality, provider, model_id, series_id) "
            "SELECT ?, ?, ?, ?, COALESCE(MAX(series_id), 0) + 1 FROM series",
        )

    def price(self, *described: str | int) -> int:
        """Return the number of a price: its source, date, version, model, terms, and 1 when it is that of whole recordings."""
        return self._number(
            ("price", *described),
            "SELECT price_id FROM price WHERE source = ? AND dated = ? AND version = ? AND model = ? AND terms = ? AND batch = ?",
            "INSERT INTO price (source, dated, version, model, terms, batch, price_id) "
            "SELECT ?, ?, ?, ?, ?, ?, COALESCE(MAX(price_id), 0) + 1 FROM price",
        )

    def _number(self, key: tuple[str | int, ...], select: str, insert: str) -> int:
        number = self._known.get(key)
        if number is None:
            values = tuple(storable(part) if not isinstance(part, int) else part for part in key[1:])
            found = self._connection.execute(select, values).fetchone()
            if found is None:
                self._connection.execute(insert, values)
                found = self._connection.execute(select, values).fetchone()
            number = self._known[key] = int(found[0])
        return number


def _fresh(connection: sqlite3.Connection, records: Sequence[RequestRecord]) -> list[RequestRecord]:
    by_id: dict[str, RequestRecord] = {}
    for record in records:
        by_id.setdefault(storable(record.id), record)
    for chunk in _chunks(list(by_id)):
        marks = ", ".join("?" for _ in chunk)
        for (known,) in connection.execute(
            f"SELECT id FROM requests WHERE id IN ({marks})", chunk
        ).fetchall():
            del by_id[known]
    return list(by_id.values())


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def _logged(record: RequestRecord, seq: int, numbers: Numbers) -> LogRow:
    usage = record.usage
    counts = (
        usage.audio_ms,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.characters,
        record.cost_nanousd or 0,
    )
    # The sum of integers is one; that of anything else is not, or raises. One look instead of seven.
    if (
        type(sum(counts, record.timestamp_ms)) is not int
        or min(counts) < 0
        or max(counts) >= MOST_COUNT
        or not 0 <= record.timestamp_ms < LATEST_MS
    ):
        raise _out_of_range(record, counts)
    return LogRow(
        seq,
        record.timestamp_ms,
        storable(record.id),
        numbers.series(record.project, _WORDS[record.modality], record.provider, record.model_id),
        _WORDS[record.status],
        _text(record.session_id),
        *counts[:5],
        record.cost_nanousd,
        numbers.price(
            record.price_source,
            record.price_date,
            record.price_version,
            record.price_model,
            record.price_terms,
            int(record.price_batch),
        ),
        _microseconds(record.ttfb_ms),
        _microseconds(record.total_ms),
        _text(record.error_kind),
        _text(record.error_message),
        _text(record.fallback_from),
        int(record.estimated),
        record.project,
        _WORDS[record.modality],
        record.provider,
        record.model_id,
        record.price_source,
        record.price_date,
        record.price_version,
        record.price_terms,
        int(record.price_batch),
    )


def _out_of_range(record: RequestRecord, counts: Sequence[int]) -> InvalidInput:
    names = ("audio_ms", "input_tokens", "output_tokens", "cached_tokens", "characters", "cost_nanousd")
    limited = [(name, count, MOST_COUNT) for name, count in zip(names, counts, strict=True)]
    name, value, limit = next(
        (name, value, limit)
        for name, value, limit in [*limited, ("timestamp_ms", record.timestamp_ms, LATEST_MS)]
        if not isinstance(value, int) or not 0 <= value < limit  # pyright: ignore[reportUnnecessaryIsInstance] - types are not checked before
    )
    return InvalidInput(
        f"{name} {quote(value)} of request {quote(record.id)} is no integer in 0 .. {limit - 1}.", field=name
    )


def _microseconds(ms: float | None) -> int | None:
    if ms is None or not math.isfinite(ms) or not 0 <= ms <= MOST_MS:
        return None
    return round(ms * 1000)


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text[:MOST_MESSAGE_CHARACTERS])
