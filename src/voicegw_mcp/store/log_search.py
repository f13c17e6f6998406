"""Finds the rows of the log that a query means, newest or oldest first, without reading all the others.

Six ways, none of which reads rows in proportion to the log:

* **Walk**: the first few hundred rows in the order asked for. What many rows match is found there. Of a status other than
  success the first few thousand of that status.
* **Series**: of few series the first rows of each are merged, ``store.log_series``.
* **Threshold**: where a walk found next to nothing, a latency or cost that not too many quarter hours of the log reach leads
  to these.
* **Descend**: from there on cell by cell. A rollup tells of a cell of time, series and status whether it has requests, and
  how slow and how costly they can be; what cannot match is passed over, eight days at once where nothing can. What can is
  opened: a cell into finer ones, a quarter hour into rows. One statement with a queue, whose order is that of the answer:
  it opens no cell that lies behind the last row of the page.
* **Session**: the quarter hours and series that a session has rows in, opened in the same way. Of a session that is in very
  many, and has to match something else, they only tell where not to look.
* **Error text**: ``store.error_search``.

Whatever leads to a row, the row itself is read and every condition is tested on it. Rows come out of ``requests`` as the
reader sees it: who is bound to projects gets no other row, wherever a statement looked (``main.`` is all projects).
May import ``domain`` and ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import QUARTER_MS, RequestStatus
from voicegw_mcp.store.error_search import find_errors
from voicegw_mcp.store.log_conditions import (
    ANY,
    NEWEST,
    Values,
    cell_tests,
    cell_times,
    order_of,
    quarters_from,
    row_tests,
    rows_at,
    series_test,
    time_tests,
)
from voicegw_mcp.store.log_rows import LogFilter
from voicegw_mcp.store.log_series import by_series_alone, first_of_series
from voicegw_mcp.store.rollups import GRAINS_MS
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicegw_mcp.store.connections import Row
    from voicegw_mcp.store.log_conditions import Place, Statement
    from voicegw_mcp.store.reader import Reads

_WALKED: Final = 200
"""Rows that are looked at one after the other, at least: about 0.2 ms."""
_FEW_FOUND: Final = 2
"""Where the first rows have as many that match, a page is not far."""
_WALKED_BY_INDEX: Final = 2_000
"""Rows of a status that an index tells are of the right series, at least: as long."""
_MOST_REACHED: Final = 10_000
"""Quarter-hour cells that reach a threshold and are put in order: 0.7 ms. Where more do, the page is not far."""
_FEW_REACHED: Final = 100
"""The same of cells that each have to be looked up, as the index does not tell all that is asked. All of them are opened."""
_SPARE_CELLS: Final = (2, 16)
"""Of cells in order as many are opened as a page has rows, of which each has one, and these: it may be beyond a bound. Where
the first do not suffice, all of these."""
_SERIES_BITS: Final = 32
"""Of a number that stands for a quarter hour of a series: told as two, each cell takes twice as long to read."""
_MANY_CELLS: Final = 500
"""Sessions of fewer cells are read cell by cell."""
_GRAINS_S: Final = tuple(grain // 1000 for grain in reversed(GRAINS_MS))
_QUARTER_S: Final = _GRAINS_S[-1]
_STEPS: Final = ", ".join(
    f"({grain}, {finer}, {part * finer * 1000})"
    for grain, finer in pairwise(_GRAINS_S)
    for part in range(grain // finer)
)


def find_rows(reads: Reads, query: LogFilter, *, limit: int, after: Place | None, select: str) -> list[Row]:
    """Return up to ``limit`` rows that match in the query's order.

    Args:
        reads: the log, or a part of it.
        query: filters and order.
        limit: at least 1.
        after: the place behind which to begin.
        select: reads rows, ``SELECT_ROWS`` or ``SELECT_LINES`` of ``store.log_rows``.
    """
    bound = reads.projects is not None
    if query.session_id is not None:
        if (span := _span_of_long_session(reads, query)) is None:
            return reads.read(*_Search(query, limit, bound=bound, select=select).session(after))
        query = replace(
            query,
            start_ms=max(span[0], query.start_ms or 0),
            end_ms=min(span[1], span[1] if query.end_ms is None else query.end_ms),
        )
    if query.search is not None:
        return find_errors(reads, query, limit=limit, after=after, select=select)
    search = _Search(query, limit, bound=bound, select=select)
    if by_series_alone(query) and (rows := reads.read(*first_of_series(query, limit, after, select))):
        return rows
    rows = reads.read(*search.walk(after))
    if len(rows) >= limit or not (edge := reads.read(*search.edge(after))):
        return rows
    for threshold in search.thresholds if len(rows) < _FEW_FOUND else ():
        if (found := _by_threshold(reads, search, threshold, after, limit)) is not None:
            return found
    timestamp_ms, seq = edge[0]
    return rows + reads.read(*search.descend((timestamp_ms, seq), limit - len(rows)))


def _by_threshold(
    reads: Reads, search: _Search, threshold: _Threshold, after: Place | None, limit: int
) -> list[Row] | None:
    """Return the first rows as the cells that reach a threshold lead to them; None when something else does so better."""
    [(beyond, least, highest)] = reads.read(*search.extent(threshold))
    if beyond:
        return None
    tied = least == highest  # Also when there is none: nothing equals NULL.
    cells = reads.read(
        *search.reach(threshold._replace(least=least) if tied else threshold, after, tied=tied)
    )
    for most in search.opened:
        complete = len(cells) <= most
        # At the first moment that is not opened there may be cells in front of it.
        opened = cells if complete else [cell for cell in cells[:most] if cell[0] != cells[most][0]]
        # Once for all its statuses: each would bring the same rows.
        found = reads.read(*search.reaching(dict.fromkeys(opened), after)) if opened else []
        if complete or len(found) >= limit:
            return found
    return None


def _span_of_long_session(reads: Reads, query: LogFilter) -> tuple[int, int] | None:
    """Return from when to when a session of many cells lasted, when something else tells better where its rows are."""
    if query == LogFilter(session_id=query.session_id, order=query.order):
        return None
    cells = "FROM main.session_cell WHERE session_id = ?1"
    found = reads.read(
        f"SELECT (SELECT COUNT(*) FROM (SELECT 1 {cells} LIMIT {_MANY_CELLS})), "
        f"(SELECT MIN(bucket_ms) {cells}), (SELECT MAX(bucket_ms) {cells})",
        (storable(query.session_id or ""),),
    )
    count, first, last = found[0]
    return (first, last + QUARTER_MS) if count == _MANY_CELLS else None


class _Threshold(NamedTuple):
    """A number that rows have to reach, by the column that has the highest one of a cell."""

    column: str
    by: str
    least: float


class _Search:
    """The statements of one search.

    ``descend`` and ``session`` keep a queue of nodes in the order of the answer. A node is a row (``grain_s`` 0), a cell,
    or, without ``series_id``, a span of time whose cells are still to be looked at. ``moment`` is the first one in the
    order that a row in it can have; cells come before the rows of that millisecond.
    """

    def __init__(self, query: LogFilter, limit: int, *, bound: bool, select: str) -> None:
        self._query = query
        self._select = select
        self._limit = limit
        self._bound = bound
        self._order = order_of(query)
        self._by_status = query.status is not None and query.status != RequestStatus.SUCCESS
        self._plain = (
            query.min_latency_ms is None and query.min_cost_nanousd is None and query.session_id is None
        )
        self._walked = max(_WALKED_BY_INDEX if self._by_status and self._plain else _WALKED, limit)
        by_index = query.session_id is None and None in {query.min_latency_ms, query.min_cost_nanousd}
        # What the index of a threshold tells is not asked again.
        self._beside = replace(query, min_latency_ms=None, min_cost_nanousd=None) if by_index else query
        self.most_reached = _MOST_REACHED if by_index else _FEW_REACHED
        self.opened = [limit + spare for spare in _SPARE_CELLS] if by_index else [_FEW_REACHED]
        newest = self._order is NEWEST
        self._cell_seq = 2**62 if newest else -1
        self._beyond = "< node.bucket_ms" if newest else ">= node.bucket_ms + node.grain_s * 1000"

    @property
    def thresholds(self) -> list[_Threshold]:
        """Return what rows have to reach; the narrowest may be any of them."""
        found = (
            ("total_max_us", "rollup_by_latency", (self._query.min_latency_ms or 0) * 1000),
            ("cost_max_nanousd", "rollup_by_cost", self._query.min_cost_nanousd or 0),
        )
        return [_Threshold(*threshold) for threshold in found if threshold[2] > 0]

    def extent(self, threshold: _Threshold) -> Statement:
        """Return what tells of the cells of a quarter hour that reach a threshold.

        One row: 1 when these are more than are put in order, and the lowest and the highest number they have.
        """
        values = Values()
        reached = self._reached(threshold, values)
        ends = ", ".join(
            f"(SELECT {threshold.column} {reached} ORDER BY {threshold.column} {direction} LIMIT 1)"
            for direction in ("ASC", "DESC")
        )
        return f"SELECT (SELECT 1 {reached} LIMIT 1 OFFSET {self.most_reached}), {ends}", values

    def reach(self, threshold: _Threshold, after: Place | None, *, tied: bool) -> Statement:
        """Return what tells in order (start, series) which cells of a quarter hour reach a threshold, the first of them.

        ``tied`` says that they all have the same number.
        """
        values = Values()
        direction = self._order.direction
        reached = f"""SELECT bucket_ms, series_id {self._reached(threshold, values, "=" if tied else ">=")}
AND {cell_tests(self._beside, values)} AND {cell_times(self._query, values)}
AND {quarters_from(self._query, values, after)} AND {self._series("+cell.series_id", values)}"""
        # Of equal ones the index has the order asked for. Where there are others, most of those that come later are passed
        # over at once in this direction, in half the time. The limit only keeps the inner order.
        if not tied:
            inner = f"{reached} ORDER BY cell.{threshold.column} {direction} LIMIT {self.most_reached}"
            reached = f"SELECT bucket_ms, series_id FROM ({inner})"
        return f"{reached} ORDER BY bucket_ms {direction} LIMIT {self.opened[-1] + 1}", values

    def reaching(self, cells: Iterable[Row], after: Place | None) -> Statement:
        """Return what reads the matching rows of quarter hours of series, given as ``reach`` tells of them."""
        values = Values()
        tests = self._opened_tests(values, after)
        numbers = [bucket_ms // QUARTER_MS << _SERIES_BITS | series_id for bucket_ms, series_id in cells]
        given = (
            f"SELECT (value >> {_SERIES_BITS}) * {QUARTER_MS} AS bucket_ms, value & {2**_SERIES_BITS - 1} AS series_id "
            f"FROM json_each({values.mark(json.dumps(numbers))})"
        )
        direction = self._order.direction
        return self._rows(
            f"SELECT opened.seq FROM ({given}) AS cell "
            f"CROSS JOIN main.requests AS opened ON opened.seq IN ({self._rows_of_cell('cell', tests, self._limit)}) "
            f"ORDER BY opened.timestamp_ms {direction}, opened.seq {direction} LIMIT {self._limit}"
        ), values

    def walk(self, after: Place | None) -> Statement:
        """Return what reads the matching ones of the first rows."""
        values = Values()
        order = self._order.by_time
        needed = "seq, timestamp_ms, series_id" + (
            "" if self._plain else ", session_id, total_us, cost_nanousd"
        )
        needed += "" if self._query.status is None else ", status"
        first = f"SELECT {needed} FROM {self._walked_rows(values, after)} {order} LIMIT {self._walked}"
        tests = f"{row_tests(self._query, values)} AND {self._series('+series_id', values)}"
        # They come as the inner query puts them: told to sort them, SQLite reads all of these before the page's last one.
        return self._rows(f"SELECT seq FROM ({first}) WHERE {tests} LIMIT {self._limit}"), values

    def edge(self, after: Place | None) -> Statement:
        """Return what tells the place of the last row that ``walk`` looked at; nothing when that was the last of all."""
        values = Values()
        last = f"{self._order.by_time} LIMIT 1 OFFSET {self._walked - 1}"
        return f"SELECT timestamp_ms, seq FROM {self._walked_rows(values, after)} {last}", values

    def descend(self, edge: Place, limit: int) -> Statement:
        """Return what reads rows behind a place by the rollups, by spans that each are the largest with the next row."""
        values = Values()
        direction = self._order.direction
        cell = f"{cell_tests(self._query, values)} AND {cell_times(self._query, values)}"
        tests = f"status = node.status AND {self._opened_tests(values, edge)}"
        begun = values.mark(edge[0] // QUARTER_MS * QUARTER_MS)
        following = (
            f"SELECT seq FROM main.requests WHERE timestamp_ms {self._beyond} AND {self._until(values, 'timestamp_ms')} "
            f"{self._order.by_time} LIMIT 1"
        )
        grain, bucket = self._largest("further.timestamp_ms")
        of_cell = f"{self._moment('cell.bucket_ms', 'cell.grain_s')}, {self._cell_seq}, cell.grain_s, cell.bucket_ms"
        return self._rows(
            f"""WITH RECURSIVE step (grain_s, finer_s, offset_ms) AS (VALUES {_STEPS}),
node (moment, seq, grain_s, bucket_ms, series_id, status) AS (
SELECT {self._moment(begun)}, {self._cell_seq}, {_QUARTER_S}, {begun}, NULL, NULL
UNION ALL
SELECT {self._moment(bucket, grain)}, {self._cell_seq}, {grain}, {bucket}, NULL, NULL
FROM node CROSS JOIN main.requests AS further ON further.seq = ({following})
WHERE node.series_id IS NULL AND node.grain_s > 0
UNION ALL
SELECT {of_cell}, cell.series_id, cell.status
FROM node CROSS JOIN main.rollup AS cell ON cell.grain_s = node.grain_s AND cell.bucket_ms = node.bucket_ms
WHERE node.series_id IS NULL AND node.grain_s > 0 AND {cell}
AND {self._series("cell.series_id", values)}
UNION ALL
SELECT {of_cell}, cell.series_id, cell.status
FROM node CROSS JOIN step ON step.grain_s = node.grain_s CROSS JOIN main.rollup AS cell
ON cell.grain_s = step.finer_s AND cell.bucket_ms = node.bucket_ms + step.offset_ms
AND cell.series_id = node.series_id AND cell.status = node.status
WHERE node.series_id IS NOT NULL AND {cell}
UNION ALL
{self._opened("NULL, NULL, NULL", tests, limit)}
ORDER BY 1 {direction}, 2 {direction})
SELECT seq FROM node WHERE grain_s = 0 LIMIT {limit}"""
        ), values

    def session(self, after: Place | None) -> Statement:
        """Return what reads rows of a session, from its first cell on."""
        values = Values()
        direction = self._order.direction
        session = values.mark(storable(self._query.session_id or ""))
        cells = f"main.session_cell WHERE session_id = {session} AND {self._until(values, 'bucket_ms', QUARTER_MS)}"
        begun = quarters_from(self._query, values, after)
        tests = self._opened_tests(values, after)
        possible = cell_tests(self._query, values)
        if possible != ANY:
            possible = (
                f"EXISTS (SELECT 1 FROM main.rollup AS cell WHERE cell.grain_s = {_QUARTER_S} "
                f"AND cell.bucket_ms = part.bucket_ms AND cell.series_id = part.series_id AND {possible})"
            )
        return self._rows(
            f"""WITH RECURSIVE node (moment, seq, grain_s, bucket_ms, series_id) AS (
SELECT * FROM (SELECT {self._moment("bucket_ms")}, {self._cell_seq}, {_QUARTER_S}, bucket_ms, NULL
FROM {cells} AND {begun} ORDER BY bucket_ms {direction} LIMIT 1)
UNION ALL
SELECT {self._moment("further.bucket_ms")}, {self._cell_seq}, {_QUARTER_S}, further.bucket_ms, NULL
FROM node CROSS JOIN main.session_cell AS further ON further.session_id = {session}
AND (further.bucket_ms, further.series_id) = (SELECT bucket_ms, series_id FROM {cells} AND bucket_ms {self._beyond}
ORDER BY bucket_ms {direction}, series_id {direction} LIMIT 1)
WHERE node.series_id IS NULL AND node.grain_s > 0
UNION ALL
SELECT {self._moment("part.bucket_ms")}, {self._cell_seq}, {_QUARTER_S}, part.bucket_ms, part.series_id
FROM node CROSS JOIN main.session_cell AS part ON part.session_id = {session} AND part.bucket_ms = node.bucket_ms
WHERE node.series_id IS NULL AND node.grain_s > 0 AND {possible}
AND {self._series("part.series_id", values)}
UNION ALL
{self._opened("NULL, NULL", tests, self._limit)}
ORDER BY 1 {direction}, 2 {direction})
SELECT seq FROM node WHERE grain_s = 0 LIMIT {self._limit}"""
        ), values

    def _reached(self, threshold: _Threshold, values: Values, sign: str = ">=") -> str:
        reached = f"cell.{threshold.column} {sign} {values.mark(threshold.least)}"
        return f"FROM main.rollup AS cell INDEXED BY {threshold.by} WHERE cell.grain_s = {_QUARTER_S} AND {reached}"

    def _series(self, column: str, values: Values) -> str:
        return series_test(column, self._query, values, bound=self._bound)

    def _rows(self, places: str) -> str:
        return rows_at(self._select, places, self._order)

    def _walked_rows(self, values: Values, after: Place | None) -> str:
        tests = time_tests(self._query, values, after)
        if not self._by_status:
            return f"main.requests INDEXED BY requests_by_time WHERE {tests}"
        status = values.mark(str(self._query.status))
        # Said in these words, or SQLite does not know that the index has all of them.
        return (
            "main.requests INDEXED BY requests_unsuccessful "
            f"WHERE status = {status} AND status <> 'success' AND {tests}"
        )

    def _moment(self, bucket: str, grain_s: str = str(_QUARTER_S)) -> str:
        """Return the first moment of a cell in this order."""
        return f"({bucket}) + ({grain_s}) * 1000 - 1" if self._order is NEWEST else bucket

    def _opened_tests(self, values: Values, after: Place | None) -> str:
        """Return what a row of a cell must fulfil; the cell is narrower than any bound of the query."""
        return (
            f"{row_tests(self._query, values)} AND {time_tests(self._query, values, after, searched=False)}"
        )

    def _until(self, values: Values, column: str, size_ms: int = 1) -> str:
        """Return what holds up to the end of the query, of something that begins at ``column``."""
        query = self._query
        if self._order is NEWEST:
            return ANY if query.start_ms is None else f"{column} > {values.mark(query.start_ms - size_ms)}"
        return ANY if query.end_ms is None else f"{column} < {values.mark(query.end_ms)}"

    def _opened(self, nulls: str, tests: str, limit: int) -> str:
        """Return the node of a row for each of the first matching ones of a quarter-hour cell."""
        return f"""SELECT opened.timestamp_ms, opened.seq, 0, {nulls}
FROM node CROSS JOIN main.requests AS opened ON opened.seq IN ({self._rows_of_cell("node", tests, limit)})
WHERE node.series_id IS NOT NULL AND node.grain_s = {_QUARTER_S}"""

    def _rows_of_cell(self, cell: str, tests: str, limit: int) -> str:
        """Return what reads the numbers of the first rows of a quarter-hour cell that fulfil ``tests``."""
        return (
            f"SELECT seq FROM main.requests INDEXED BY requests_by_series WHERE series_id = {cell}.series_id "
            f"AND timestamp_ms >= {cell}.bucket_ms AND timestamp_ms < {cell}.bucket_ms + {QUARTER_MS} AND {tests} "
            f"{self._order.by_time} LIMIT {limit}"
        )

    def _largest(self, moment: str) -> tuple[str, str]:
        """Return size (s) and start of the largest cell that holds a moment and lies wholly behind the node."""
        grains = buckets = ""
        for grain in _GRAINS_S:
            bucket = f"{moment} / {grain * 1000} * {grain * 1000}"
            near = f"{bucket} + {grain * 1000 - 1}" if self._order is NEWEST else bucket
            case = "ELSE" if grain == _QUARTER_S else f"WHEN {near} {self._beyond} THEN"
            grains += f" {case} {grain}"
            buckets += f" {case} {bucket}"
        return f"CASE{grains} END", f"CASE{buckets} END"
