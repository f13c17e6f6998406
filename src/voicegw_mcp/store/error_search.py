"""Finds rows of the log by their error text, newest or oldest first, with the index of texts (``store.log_indexes``).

The index names the milliseconds that have errors with all three-character parts of a text, of the series and status asked
for, and about as slow and costly: their rows are then read and tested. May import ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import json
from math import ceil
from typing import TYPE_CHECKING, Final

from voicegw_mcp.store.log_conditions import (
    Values,
    of_any_series,
    order_of,
    row_tests,
    rows_at,
    series_query,
    series_test,
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
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.store.connections import Row
    from voicegw_mcp.store.log_conditions import Place, Statement
    from voicegw_mcp.store.log_rows import LogFilter
    from voicegw_mcp.store.reader import Reads

_SCANNED: Final = 200
"""Rows with an error text that are looked at one after the other for one or two characters, before the index is asked."""
_MOST_CANDIDATES: Final = 4_000
"""Candidates that are looked at in one go."""
_MOST_TERMS: Final = 200
_MOST_SERIES_TERMS: Final = 64
_TERM_CHARACTERS: Final = 3
_FEW_TERMS: Final = 3
"""Of a text that are looked up at first. Each takes the index as long as reading twenty rows, and few tell most of it."""


def find_errors(reads: Reads, query: LogFilter, *, limit: int, after: Place | None, select: str) -> list[Row]:
    """Return up to ``limit`` rows that match, as ``select`` reads them, in the query's order, behind ``after``."""
    wanted = [*_series_terms(reads, query), *_terms_besides(query)]
    needle, bound = storable(query.search or ""), reads.projects is not None
    short = len(needle) < _TERM_CHARACTERS
    # What is so short is common as a rule, and found among the first.
    likely, most = ([], _SCANNED) if short else ([message_terms(needle, _FEW_TERMS)], limit + 1)
    first = _Candidates(query, [*wanted, *likely], bound=bound, select=select)
    places, rows = first.read(reads, after, most, limit)
    if len(rows) == limit or len(places) < most:
        return rows
    after = places[-1]
    if not short:
        wanted.append(message_terms(needle))
    else:
        found = reads.read(
            f"SELECT term FROM main.error_term WHERE term >= ? AND term <= ? LIMIT {_MOST_TERMS + 1}",
            short_terms(needle),
        )
        if not found:
            return rows
        if len(found) <= _MOST_TERMS:
            wanted.append(any_of(term for (term,) in found))
    return rows + _read_on(
        reads, _Candidates(query, wanted, bound=bound, select=select), after, limit - len(rows)
    )


def _read_on(reads: Reads, candidates: _Candidates, after: Place | None, limit: int) -> list[Row]:
    """Read the first matching rows; look at more candidates as long as too few are what was sought."""
    rows: list[Row] = []
    most = limit + 1
    while True:
        places, found = candidates.read(reads, after, most, limit - len(rows))
        rows += found
        if len(rows) == limit or len(places) < most:
            return rows
        after = places[-1]
        most = min(most * 4, _MOST_CANDIDATES)


def _series_terms(reads: Reads, query: LogFilter) -> list[str]:
    """Return what the index is asked about series: nothing where they are many, or all."""
    if of_any_series(query, bound=reads.projects is not None):
        return []
    values = Values()
    found = reads.read(f"{series_query(query, values)} LIMIT {_MOST_SERIES_TERMS + 1}", values)
    return [series_terms([number for (number,) in found] or [0])] if len(found) <= _MOST_SERIES_TERMS else []


def _terms_besides(query: LogFilter) -> list[str]:
    """Return what else the index is asked besides the text."""
    wanted: list[str] = []
    if query.status is not None:
        wanted.append(status_term(str(query.status)))
    if query.min_latency_ms:
        wanted.append(at_least(LATENCY, ceil(query.min_latency_ms * 1000)))
    if query.min_cost_nanousd:
        wanted.append(at_least(COST, query.min_cost_nanousd))
    return wanted


class _Candidates:
    """Rows that may match, in the order asked for: all that have an error text, or those of the moments the index names."""

    def __init__(self, query: LogFilter, wanted: Sequence[str], *, bound: bool, select: str) -> None:
        self._query = query
        self._select = select
        self._bound = bound
        self._match = " AND ".join(wanted)
        self._order = order_of(query)

    def read(self, reads: Reads, after: Place | None, most: int, limit: int) -> tuple[list[Place], list[Row]]:
        """Return the places of the first ``most`` candidates behind ``after``, and up to ``limit`` matching rows of them."""
        places = [(moment, seq) for moment, seq in reads.read(*self._first(after, most))]
        return places, reads.read(*self._rows(places, after, limit)) if places else []

    def _first(self, after: Place | None, most: int) -> Statement:
        """Return what reads places of candidates; of a moment that the index names, the last one there can be."""
        values = Values()
        if not self._match:
            return (
                "SELECT timestamp_ms, seq FROM main.requests INDEXED BY requests_with_message WHERE error_message "
                f"IS NOT NULL AND {time_tests(self._query, values, after)} {self._order.by_time} LIMIT {most}"
            ), values
        tests = [f"error_text MATCH {values.mark(self._match)}"]
        bounds = (
            (f"{self._order.sign}=", None if after is None else after[0]),
            (">=", self._query.start_ms),
            ("<", self._query.end_ms),
        )
        tests += [f"rowid {sign} {values.mark(bound)}" for sign, bound in bounds if bound is not None]
        return (
            f"SELECT rowid, {self._order.last_seq} FROM main.error_text WHERE {' AND '.join(tests)} "
            f"ORDER BY rowid {self._order.direction} LIMIT {most}"
        ), values

    def _rows(self, places: Sequence[Place], after: Place | None, limit: int) -> Statement:
        """Return what reads the matching rows of candidates."""
        values = Values()
        of_series = series_test("series_id", self._query, values, bound=self._bound)
        tests = f"{row_tests(self._query, values)} AND {of_series}"
        if self._match:
            found = "main.requests INDEXED BY requests_with_message ON timestamp_ms = found.value"
            tests += f" AND {time_tests(self._query, values, after, searched=False)}"
        else:
            found = "main.requests ON requests.seq = found.value"
        given = values.mark(json.dumps([moment if self._match else seq for moment, seq in places]))
        matching = (
            f"SELECT seq FROM json_each({given}) AS found CROSS JOIN {found} "
            f"WHERE error_message IS NOT NULL AND {tests} {self._order.by_time} LIMIT {limit}"
        )
        return rows_at(self._select, matching, self._order), values
