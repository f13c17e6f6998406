"""Finds the rows of few series, newest or oldest first: the first ones of each, merged by their time.

What few rows match, as those of a model that was used fifty times, is found without looking at other rows. May import
``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from voicegw_mcp.store.log_conditions import NEWEST, Values, order_of, rows_at, series_query, time_tests

if TYPE_CHECKING:
    from voicegw_mcp.store.log_conditions import Place, Statement
    from voicegw_mcp.store.log_rows import LogFilter

_FEW_SERIES: Final = 32
_EARLIEST_MS: Final = -(2**63)
_LATEST_MS: Final = 2**63 - 1


def by_series_alone(query: LogFilter) -> bool:
    """Say whether rows are told by series and time alone, and not many series are likely."""
    named = (query.project, query.provider, query.model_id)
    others = (query.status, query.session_id, query.min_latency_ms, query.min_cost_nanousd, query.search)
    return any(name is not None for name in named) and all(other is None for other in others)


def first_of_series(query: LogFilter, limit: int, after: Place | None, select: str) -> Statement:
    """Return what reads the first rows, or nothing when the series are not few.

    The index of series tells all of it: how far the page can reach at most in each series, and the rows up to there.

    Args:
        query: one that ``by_series_alone`` is true of.
        limit: at least 1.
        after: the place behind which to begin.
        select: reads rows.
    """
    values = Values()
    order = order_of(query)
    newest = order is NEWEST
    last = (
        "SELECT timestamp_ms FROM main.requests INDEXED BY requests_by_series WHERE series_id = chosen.series_id "
        f"AND {time_tests(query, values, after)} ORDER BY timestamp_ms {order.direction} LIMIT 1 OFFSET {limit - 1}"
    )
    # Of a series with fewer rows than a page all are meant that the query's own bound leaves.
    if newest:
        furthest = _EARLIEST_MS if query.start_ms is None else query.start_ms
        unbounded = replace(query, start_ms=None)
    else:
        furthest = _LATEST_MS if query.end_ms is None else query.end_ms - 1
        unbounded = replace(query, end_ms=None)
    places = f"""WITH chosen AS MATERIALIZED ({series_query(query, values)} LIMIT {_FEW_SERIES + 1})
SELECT seq FROM chosen CROSS JOIN main.requests INDEXED BY requests_by_series ON requests.series_id = chosen.series_id
AND timestamp_ms {">" if newest else "<"}= COALESCE(({last}), {values.mark(furthest)})
AND {time_tests(unbounded, values, after)}
WHERE (SELECT COUNT(*) FROM chosen) <= {_FEW_SERIES} {order.by_time} LIMIT {limit}"""
    return rows_at(select, places, order), values
