"""Finds rows of the log by their error text, newest or oldest first, with the index of texts (``store.log_indexes``).

The index names the milliseconds that have errors with all three-character parts of a text, of the series and status asked
for, and about as slow and costly: their rows are then read and tested. May import ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from voicegw_mcp.store.log_conditions import (
    Values,
    order_of,
    row_tests,
    rows_at,
    series_query,
    time_tests,
)
from voicegw_mcp.store.log_indexes import (
    COST,
    LATENCY,
    any_of,
    at_least,
    message_terms,
    series_terms,
    short_terms,
    status_term,
)
from voicegw_mcp.store.log_rows import SELECT_ROWS
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.store.connections import Row
    from voicegw_mcp.store.log_conditions import Place, Statement
    from voicegw_mcp.store.log_rows import LogFilter
from voicegw_mcp.store.reader import Reads

_SCANNED: Final = 200
"""Rows with an error text that are looked at one after the other for one or two characters, before the index is asked."""
_MOST_TERMS: Final = 200
_MOST_SERIES_TERMS: Final = 64
_TERM_CHARACTERS: Final = 3


def find_errors(reads: Reads, query: LogFilter, *, limit: int, after: Place | None) -> list[Row]:
    """Return up to ``limit`` rows that match, as ``SELECT_ROWS`` reads them, in the query's order, behind ``after``."""
    values = Values()
    numbers = reads.read(series_query(query, values), values)
    wanted = _terms_besides(query, [number for (number,) in numbers])
    needle = storable(query.search or "")
    rows: list[Row] = []
    if len(needle) >= _TERM_CHARACTERS:
        wanted.append(message_terms(needle))
    else:
        # What is so short is common as a rule, and found among the first.
        first = _Candidates(query, wanted)
        rows = reads.read(*first.rows(after, _SCANNED, limit))
        edge = [] if len(rows) == limit else reads.read(*first.edge(after, _SCANNED))
        if not edge:
            return rows
        after = (edge[0][0], edge[0][1])
        found = reads.read(
            f"SELECT term FROM main.error_term WHERE term >= ? AND term <= ? LIMIT {_MOST_TERMS + 1}",
            short_terms(needle),
        )
        if not found:
            return rows
        if len(found) <= _MOST_TERMS:
            wanted.append(any_of(term for (term,) in found))
    return rows + _read_on(reads, _Candidates(query, wanted), after, limit - len(rows))


def _read_on(reads: Reads, candidates: _Candidates, after: Place | None, limit: int) -> list[Row]:
    """Read the first matching rows; look at more candidates as long as too few are what was sought."""
    rows: list[Row] = []
    most = limit + 1
    while True:
        rows += reads.read(*candidates.rows(after, most, limit - len(rows)))
        edge = [] if len(rows) == limit else reads.read(*candidates.edge(after, most))
        if not edge:
            return rows
        after = (edge[0][0], edge[0][1])
        most *= 4


def _terms_besides(query: LogFilter, numbers: Sequence[int]) -> list[str]:
    """Return what the index is asked besides the text; ``numbers`` are those of the series."""
    wanted: list[str] = []
    if len(numbers) <= _MOST_SERIES_TERMS:
        wanted.append(series_terms(numbers or [0]))
    if query.status is not None:
        wanted.append(status_term(str(query.status)))
    if query.min_latency_ms:
        wanted.append(at_least(LATENCY, ceil(query.min_latency_ms * 1000)))
    if query.min_cost_nanousd:
        wanted.append(at_least(COST, query.min_cost_nanousd))
    return wanted


class _Candidates:
    """Rows that may match, in the order asked for: all that have an error text, or those of the moments the index names."""

    def __init__(self, query: LogFilter, wanted: Sequence[str]) -> None:
        self._query = query
        self._match = " AND ".join(wanted)
        self._order = order_of(query)

    def rows(self, after: Place | None, most: int, limit: int) -> Statement:
        """Return what reads up to ``limit`` matching rows from the first ``most`` candidates behind ``after``."""
        values = Values()
        found = f"{self._found(values, after)} LIMIT {most}"
        tests = f"{row_tests(self._query, values)} AND series_id IN ({series_query(self._query, values)})"
        if self._match:
            found = (
                f"({found}) AS found CROSS JOIN main.requests INDEXED BY requests_with_message "
                "ON timestamp_ms = found.rowid"
            )
            tests += f" AND {time_tests(self._query, values, after, searched=False)}"
        else:
            found = f"({found})"
        places = f"SELECT seq FROM {found} WHERE error_message IS NOT NULL AND {tests} {self._order.by_time} LIMIT {limit}"
        return rows_at(SELECT_ROWS, places, self._order), values

    def edge(self, after: Place | None, most: int) -> Statement:
        """Return what tells the place of the last of the first ``most`` candidates; nothing when there are fewer."""
        values = Values()
        place = f"rowid, {self._order.last_seq}" if self._match else "timestamp_ms, seq"
        return f"SELECT {place} FROM ({self._found(values, after)} LIMIT 1 OFFSET {most - 1})", values

    def _found(self, values: Values, after: Place | None) -> str:
        if not self._match:
            return (
                "SELECT * FROM main.requests INDEXED BY requests_with_message "
                f"WHERE error_message IS NOT NULL AND {time_tests(self._query, values, after)} {self._order.by_time}"
            )
        tests = [f"error_text MATCH {values.mark(self._match)}"]
        bounds = (
            (f"{self._order.sign}=", None if after is None else after[0]),
            (">=", self._query.start_ms),
            ("<", self._query.end_ms),
        )
        tests += [f"rowid {sign} {values.mark(bound)}" for sign, bound in bounds if bound is not None]
        return (
            f"SELECT rowid FROM main.error_text WHERE {' AND '.join(tests)} "
            f"ORDER BY rowid {self._order.direction}"
        )
