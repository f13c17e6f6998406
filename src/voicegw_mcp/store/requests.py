"""The request log: inserting rows with their rollups, and pages of rows by keyset cursor.

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from voicegw_mcp.domain import Modality, RequestStatus, Usage
from voicegw_mcp.errors import InvalidInput, quote
from voicegw_mcp.store.rollup_writing import LoggedRow, add_to_rollups
from voicegw_mcp.store.rollups import ANY_SERIES, SeriesFilter
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from voicegw_mcp.domain import RequestRecord
    from voicegw_mcp.store.reader import Reads

MOST_MESSAGE_CHARACTERS: Final = 2_000
_LATEST_MS: Final = 253_402_300_800_000
_MOST_COUNT: Final = 10**15
_MOST_LATENCY_MS: Final = 1e9
_CHUNK: Final = 500
_MOST_SERIES_BRANCHES: Final = 60
_WORDS: Final = {word: word.value for word in (*Modality, *RequestStatus)}
"""The attribute ``value`` of an enumeration is a function call, twice per row."""
_INSERT: Final = f"INSERT INTO requests ({', '.join(LoggedRow._fields)}) VALUES ({', '.join('?' for _ in LoggedRow._fields)})"


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which rows of the log to read, in which order. None means any.

    ``start_ms`` and ``end_ms`` bound ``[start_ms, end_ms)``. ``min_latency_ms`` is about the total latency; rows
    without one, or without a cost for ``min_cost_nanousd``, do not match. ``search`` is looked for in the error text,
    without regard to the case of ASCII letters.
    """

    project: str | None = None
    modality: str | None = None
    provider: str | None = None
    model_id: str | None = None
    status: str | None = None
    session_id: str | None = None
    min_latency_ms: float | None = None
    min_cost_nanousd: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    search: str | None = None
    order: Literal["newest", "oldest"] = "newest"


class LogRow(NamedTuple):
    """One row of the log as it is stored. ``(timestamp_ms, seq)`` is its place; latencies are in microseconds."""

    seq: int
    timestamp_ms: int
    id: str
    project: str
    modality: str
    provider: str
    model_id: str
    status: str
    session_id: str | None
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    cost_nanousd: int | None
    price_source: str
    price_date: str
    ttfb_us: int | None
    total_us: int | None
    error_kind: str | None
    error_message: str | None
    fallback_from: str | None
    estimated: int

    def usage(self) -> Usage:
        """Return the billed units."""
        return Usage(
            self.audio_ms, self.input_tokens, self.output_tokens, self.cached_tokens, self.characters
        )


_COLUMNS: Final = {
    **{name: f"series.{name}" for name in ("project", "modality", "provider", "model_id")},
    "price_source": "price.source",
    "price_date": "price.dated",
}
_SELECT: Final = (
    f"SELECT {', '.join(_COLUMNS.get(name, f'requests.{name}') for name in LogRow._fields)} FROM requests "
    "JOIN series ON series.series_id = requests.series_id JOIN price ON price.price_id = requests.price_id"
)


def insert_requests(connection: sqlite3.Connection, records: Sequence[RequestRecord]) -> int:
    """Insert the rows whose ids are new and add them to the rollups, in the caller's transaction.

    A latency that is negative, not a number or above 10^9 ms is stored as not measured: LiveKit reports -1 for it.

    Returns:
        How many rows were inserted; the others were there already, or earlier in ``records``.

    Raises:
        InvalidInput: a time, count or cost is negative or absurdly large; nothing of the batch is then kept.
    """
    fresh = _fresh(connection, records)
    if not fresh:
        return 0
    numbers = _Numbers(connection)
    seq: int = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM requests").fetchone()[0]
    rows = [_logged(record, seq + offset, numbers) for offset, record in enumerate(fresh, start=1)]
    connection.executemany(_INSERT, rows)
    add_to_rollups(connection, rows)
    return len(rows)


async def read_log(
    reads: Reads, query: LogFilter, *, limit: int, after: tuple[int, int] | None = None
) -> list[LogRow]:
    """Return up to ``limit`` rows in the query's order, beginning behind the place ``after`` (timestamp_ms, seq).

    Rare statuses, sessions, error texts and single series have their own index; few series at once are read each by
    its index and merged, so that a rare filter does not walk the whole log.
    """
    series = await _series_numbers(reads, query)
    if series is not None and not series:
        return []
    conditions, params = _conditions(query, after)
    direction = "DESC" if query.order == "newest" else "ASC"
    order = f"ORDER BY timestamp_ms {direction}, seq {direction} LIMIT ?"
    if series is not None and len(series) <= _MOST_SERIES_BRANCHES and query.session_id is None:
        branch = f"SELECT * FROM (SELECT seq, timestamp_ms FROM requests WHERE {conditions} AND series_id = ? {order})"
        places = f"SELECT seq FROM ({' UNION ALL '.join(branch for _ in series)}) {order}"
        values = [value for number in series for value in (*params, number, limit)]
    else:
        within = f" AND series_id IN ({', '.join(map(str, series))})" if series is not None else ""
        places = f"SELECT seq FROM requests WHERE {conditions}{within} {order}"
        values = list(params)
    rows = await reads.read(
        f"{_SELECT} WHERE requests.seq IN ({places}) ORDER BY requests.timestamp_ms {direction}, requests.seq {direction}",
        (*values, limit),
    )
    return [LogRow(*row) for row in rows]


async def newest_number(reads: Reads, above: int = 0) -> int:
    """Return ``LogRow.seq`` of the row that came in last, ``above`` when none is above that."""
    # The likelihood keeps SQLite from sorting all rows of the projects a reader is bound to.
    rows = await reads.read(
        "SELECT seq FROM requests WHERE likelihood(seq > ?, 0.00001) ORDER BY seq DESC LIMIT 1", (above,)
    )
    return rows[0][0] if rows else above


async def number_of(reads: Reads, row_id: str) -> int | None:
    """Return ``LogRow.seq`` of the row with this id, None when there is none (any more)."""
    rows = await reads.read("SELECT seq FROM requests WHERE id = ?", (storable(row_id),))
    return rows[0][0] if rows else None


async def id_at(reads: Reads, number: int) -> str:
    """Return the id of the last row numbered ``number`` or below, "" when there is none."""
    rows = await reads.read("SELECT id FROM requests WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (number,))
    return rows[0][0] if rows else ""


async def read_arrivals(
    reads: Reads, query: LogFilter, *, after: int, until: int, limit: int
) -> list[LogRow]:
    """Return up to ``limit`` rows numbered above ``after`` and up to ``until``, in the order they came in.

    Numbers are given inside the writing transaction, of which there is one at a time: what is committed later has a
    higher number, whatever its timestamp. The query's own order is of no account.
    """
    conditions, params = _conditions(query, None)
    named, values = SeriesFilter(query.project, query.modality, query.provider, query.model_id).condition()
    # NOT INDEXED: the few rows that are new, by their number, instead of an index of the whole log.
    rows = await reads.read(
        f"{_SELECT} WHERE requests.seq IN (SELECT seq FROM requests NOT INDEXED WHERE seq > ? AND seq <= ? "
        f"AND {conditions}{named} ORDER BY seq LIMIT ?) ORDER BY requests.seq",
        (after, until, *params, *values, limit),
    )
    return [LogRow(*row) for row in rows]


async def read_sessions(
    reads: Reads, start_ms: int, end_ms: int, only: SeriesFilter = ANY_SERIES, *, limit: int
) -> list[tuple[str | None, int, int]]:
    """Return (session_id, cost_nanousd, requests) of the ``limit`` costliest sessions of a window.

    Reads raw rows: pruned ones are missing. Rows of no session come together under None.
    """
    condition, values = only.condition()
    rows = await reads.read(
        "SELECT session_id, COALESCE(SUM(cost_nanousd), 0) AS cost, COUNT(*) FROM requests "
        f"WHERE timestamp_ms >= ? AND timestamp_ms < ?{condition} "
        "GROUP BY session_id ORDER BY cost DESC, session_id LIMIT ?",
        (start_ms, end_ms, *values, limit),
    )
    return [(row[0], row[1], row[2]) for row in rows]


class _Numbers:
    """Looks up the numbers of series and prices, and gives new ones; each name is looked up once per batch."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, ...], int] = {}

    def series(self, project: str, modality: str, provider: str, model_id: str) -> int:
        return self._number(
            ("series", project, modality, provider, model_id),
            "SELECT series_id FROM series WHERE project = ? AND modality = ? AND provider = ? AND model_id = ?",
            "INSERT INTO series (project, modality, provider, model_id, series_id) "
            "SELECT ?, ?, ?, ?, COALESCE(MAX(series_id), 0) + 1 FROM series",
        )

    def price(self, source: str, dated: str) -> int:
        return self._number(
            ("price", source, dated),
            "SELECT price_id FROM price WHERE source = ? AND dated = ?",
            "INSERT INTO price (source, dated, price_id) SELECT ?, ?, COALESCE(MAX(price_id), 0) + 1 FROM price",
        )

    def _number(self, key: tuple[str, ...], select: str, insert: str) -> int:
        number = self._known.get(key)
        if number is None:
            values = tuple(map(storable, key[1:]))
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


def _logged(record: RequestRecord, seq: int, numbers: _Numbers) -> LoggedRow:
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
        or max(counts) >= _MOST_COUNT
        or not 0 <= record.timestamp_ms < _LATEST_MS
    ):
        raise _out_of_range(record, counts)
    return LoggedRow(
        seq,
        storable(record.id),
        record.timestamp_ms,
        numbers.series(record.project, _WORDS[record.modality], record.provider, record.model_id),
        _WORDS[record.status],
        _text(record.session_id),
        *counts[:5],
        record.cost_nanousd,
        numbers.price(record.price_source, record.price_date),
        _microseconds(record.ttfb_ms),
        _microseconds(record.total_ms),
        _text(record.error_kind),
        _text(record.error_message),
        _text(record.fallback_from),
        int(record.estimated),
    )


def _out_of_range(record: RequestRecord, counts: Sequence[int]) -> InvalidInput:
    names = ("audio_ms", "input_tokens", "output_tokens", "cached_tokens", "characters", "cost_nanousd")
    limited = [(name, count, _MOST_COUNT) for name, count in zip(names, counts, strict=True)]
    name, value, limit = next(
        (name, value, limit)
        for name, value, limit in [*limited, ("timestamp_ms", record.timestamp_ms, _LATEST_MS)]
        if not isinstance(value, int) or not 0 <= value < limit  # pyright: ignore[reportUnnecessaryIsInstance] - types are not checked before
    )
    return InvalidInput(
        f"{name} {quote(value)} of request {quote(record.id)} is no integer in 0 .. {limit - 1}.", field=name
    )


def _microseconds(ms: float | None) -> int | None:
    if ms is None or not math.isfinite(ms) or not 0 <= ms <= _MOST_LATENCY_MS:
        return None
    return round(ms * 1000)


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text[:MOST_MESSAGE_CHARACTERS])


async def _series_numbers(reads: Reads, query: LogFilter) -> list[int] | None:
    """Return the numbers of the series a query is about, None when it is about all."""
    only = SeriesFilter(query.project, query.modality, query.provider, query.model_id)
    condition, values = only.condition()
    if not condition:
        return None
    rows = await reads.read(
        f"SELECT series_id FROM series WHERE 1 = 1{condition}", tuple(map(storable, values))
    )
    return [row[0] for row in rows]


def _conditions(query: LogFilter, after: tuple[int, int] | None) -> tuple[str, list[object]]:
    """Return the WHERE clause of a query without its series, and its parameters."""
    tests: list[tuple[str, tuple[object, ...]]] = [("1 = 1", ())]
    if query.status is not None:
        # The partial indexes hold all but successes; the second test is what lets SQLite use them.
        rare = " AND status <> 'success'" if query.status != "success" else ""
        tests.append((f"status = ?{rare}", (str(query.status),)))
    if query.session_id is not None:
        tests.append(("session_id = ?", (storable(query.session_id),)))
    if query.min_latency_ms is not None:
        tests.append(("total_us >= ?", (query.min_latency_ms * 1000,)))
    if query.min_cost_nanousd is not None:
        tests.append(("cost_nanousd >= ?", (query.min_cost_nanousd,)))
    if query.start_ms is not None:
        tests.append(("timestamp_ms >= ?", (query.start_ms,)))
    if query.end_ms is not None:
        tests.append(("timestamp_ms < ?", (query.end_ms,)))
    if query.search is not None:
        pattern = storable(query.search).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        tests.append(("error_message IS NOT NULL AND error_message LIKE ? ESCAPE '\\'", (f"%{pattern}%",)))
    if after is not None:
        sign = "<" if query.order == "newest" else ">"
        tests.append((f"(timestamp_ms, seq) {sign} (?, ?)", after))
    return " AND ".join(test for test, _ in tests), [value for _, values in tests for value in values]
