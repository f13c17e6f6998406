"""What a query asks of rows and of cells of the rollups, as SQL: the parts that all ways to rows share. May import ``domain`` and ``store``."""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from voicegw_mcp.domain import QUARTER_MS, UNCOUNTED, UNTIMED, RequestStatus
from voicegw_mcp.store.peaks import cost_step, latency_step, reach_test
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicegw_mcp.store.log_rows import LogFilter

Place: TypeAlias = tuple[int, int]
"""(timestamp_ms, seq) of a row."""

Statement: TypeAlias = tuple[str, Sequence[object]]
"""SQL and its parameters."""

ANY: Final = "1 = 1"


class Values(list[object]):
    """The parameters of a statement."""

    def mark(self, value: object) -> str:
        """Add a parameter and return what stands for it."""
        self.append(value)
        return f"?{len(self)}"


class Order(NamedTuple):
    """SQL of an order: ``sign`` is between a row and the one before it, ``last_seq`` behind all of a millisecond."""

    direction: str
    sign: str
    last_seq: int

    @property
    def by_time(self) -> str:
        """Return what puts rows of ``requests`` into this order."""
        return f"ORDER BY timestamp_ms {self.direction}, seq {self.direction}"


NEWEST: Final = Order("DESC", "<", -1)
OLDEST: Final = Order("ASC", ">", 2**62)


def order_of(query: LogFilter) -> Order:
    """Return the order of a query."""
    return NEWEST if query.order == "newest" else OLDEST


def row_tests(query: LogFilter, values: Values) -> str:
    """Return what a row must fulfil besides its time and series."""
    tests: list[str] = []
    if query.status is not None:
        tests.append(f"status = {values.mark(str(query.status))}")
    if query.session_id is not None:
        tests.append(f"session_id = {values.mark(storable(query.session_id))}")
    if query.min_latency_ms is not None:
        tests.append(f"total_us >= {values.mark(query.min_latency_ms * 1000)}")
    if query.min_cost_nanousd is not None:
        tests.append(f"cost_nanousd >= {values.mark(query.min_cost_nanousd)}")
    if query.search is not None:
        needle = storable(query.search).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        tests.append(f"error_message LIKE {values.mark(f'%{needle}%')} ESCAPE '\\'")
    return " AND ".join(tests or [ANY])


def time_tests(query: LogFilter, values: Values, after: Place | None, *, searched: bool = True) -> str:
    """Return what the time of a row must fulfil, and its place when only rows behind one are sought.

    Of two bounds on the same side SQLite may search an index by the one that leaves more rows: only the narrower one is
    offered to it. With ``searched`` False none is, because the statement has narrower ones of its own.
    """
    newest = order_of(query) is NEWEST
    tests: list[str] = []
    for sign, bound, behind in ((">=", query.start_ms, newest), ("<", query.end_ms, not newest)):
        if bound is not None:
            column = "timestamp_ms" if searched and (behind or after is None) else "+timestamp_ms"
            tests.append(f"{column} {sign} {values.mark(bound)}")
    if after is not None:
        place = f"({values.mark(after[0])}, {values.mark(after[1])})"
        column = "timestamp_ms" if searched else "+timestamp_ms"
        tests.append(f"({column}, seq) {order_of(query).sign} {place}")
    return " AND ".join(tests or [ANY])


def cell_tests(query: LogFilter, values: Values) -> str:
    """Return what a cell must fulfil to hold a matching row."""
    tests: list[str] = []
    if query.status is not None:
        tests.append(f"cell.status = {values.mark(str(query.status))}")
    if query.min_latency_ms is not None:
        tests.append(f"cell.total_max_us >= {values.mark(query.min_latency_ms * 1000)}")
        if query.min_latency_ms == 0:
            tests.append(
                f"(cell.total_max_us > 0 OR cell.total_count > 0 OR cell.status IN {_words(UNTIMED)})"
            )
    if query.min_cost_nanousd is not None:
        tests.append(f"cell.cost_max_nanousd >= {values.mark(query.min_cost_nanousd)}")
        if query.min_cost_nanousd == 0:
            counted = f"cell.requests > cell.unpriced OR cell.status IN {_words(UNCOUNTED)}"
            tests.append(f"(cell.cost_max_nanousd > 0 OR {counted})")
    if query.min_latency_ms is not None and query.min_cost_nanousd is not None:
        latency = values.mark(latency_step(ceil(query.min_latency_ms * 1000)))
        cost = values.mark(bytes((cost_step(query.min_cost_nanousd),)))
        tests.append(reach_test("cell.peaks", latency, cost))
    return " AND ".join(tests or [ANY])


def cell_times(query: LogFilter, values: Values) -> str:
    """Return what the time of a cell must fulfil, and the session; cells older than every row are of pruned ones."""
    tests = ["cell.bucket_ms + cell.grain_s * 1000 > (SELECT MIN(timestamp_ms) FROM main.requests)"]
    if query.start_ms is not None:
        tests.append(f"cell.bucket_ms + cell.grain_s * 1000 > {values.mark(query.start_ms)}")
    if query.end_ms is not None:
        # The sign keeps SQLite from searching by it: a cell is searched by its very start.
        tests.append(f"+cell.bucket_ms < {values.mark(query.end_ms)}")
    if query.session_id is not None:
        session = values.mark(storable(query.session_id))
        part = "bucket_ms = cell.bucket_ms AND series_id = cell.series_id"
        tests.append(
            f"(cell.grain_s > {QUARTER_MS // 1000} OR EXISTS "
            f"(SELECT 1 FROM main.session_cell WHERE session_id = {session} AND {part}))"
        )
    return " AND ".join(tests)


def quarters_from(query: LogFilter, values: Values, after: Place | None) -> str:
    """Return what holds of quarter hours from the beginning of the query on, or from that of a page behind a place."""
    newest = order_of(query) is NEWEST
    first = query.end_ms if newest else query.start_ms
    moments = [] if after is None else [after[0]]
    moments += [] if first is None else [first - 1 if newest else first]
    if not moments:
        return ANY
    quarter = (min(moments) if newest else max(moments)) // QUARTER_MS * QUARTER_MS
    return f"bucket_ms {'<=' if newest else '>='} {values.mark(quarter)}"


def series_query(query: LogFilter, values: Values) -> str:
    """Return what reads the numbers of the series a query is about, as far as the reader sees them."""
    given = {
        "project": query.project,
        "modality": query.modality,
        "provider": query.provider,
        "model_id": query.model_id,
    }
    tests = [
        f"{name} = {values.mark(storable(str(value)))}" for name, value in given.items() if value is not None
    ]
    return "SELECT series_id FROM series" + (f" WHERE {' AND '.join(tests)}" if tests else "")


def of_any_series(query: LogFilter, *, bound: bool) -> bool:
    """Say whether a query is about all series; ``bound`` says that the reader does not see all of them."""
    named = (query.project, query.modality, query.provider, query.model_id)
    return not bound and all(name is None for name in named)


def series_test(column: str, query: LogFilter, values: Values, *, bound: bool) -> str:
    """Return what the number of a series must fulfil; ``bound`` as in ``of_any_series``."""
    return ANY if of_any_series(query, bound=bound) else f"{column} IN ({series_query(query, values)})"


def rows_at(select: str, places: str, order: Order) -> str:
    """Return what reads, by ``select``, the rows whose ``seq`` the query ``places`` gives, in their order."""
    direction = order.direction
    return (
        f"{select} WHERE requests.seq IN ({places}) "
        f"ORDER BY requests.timestamp_ms {direction}, requests.seq {direction}"
    )


def _words(statuses: Iterable[RequestStatus]) -> str:
    return f"({', '.join(repr(str(status)) for status in sorted(statuses))})"
