"""Sums and latency histograms per cell of time, read instead of the rows; ``store.rollup_writing`` keeps them.

A cell is a quarter of an hour, an hour, a day (UTC) or eight days: every time zone's midnight is a quarter-hour
boundary, so any window is covered exactly by whole cells, the largest that fit. The grains share one table with a grain
column: one statement shape serves all. Measured at a million rows in 30 days, 80 series: hours take two thirds of the
cells away from a window without whole UTC days (a local day, the last 24 hours), eight days half of those of a month;
together they cost 5 to 20 % of the insert rate (batches of 500). Both latency metrics share a histogram row: half the rows and upserts.
May import ``domain``, ``store.failures`` and ``store.text``.

Latencies of rows with status ``error`` are left out of histograms and averages: how fast a provider fails says nothing
about how fast it answers. They are counted as errors.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from voicegw_mcp.domain import DAY_MS, QUARTER_MS, UNCOUNTED, UNTIMED
from voicegw_mcp.store.failures import contradicting
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicegw_mcp.store.reader import Reads

R = TypeVar("R", bound=tuple[Any, ...])

HOUR_MS: Final = 3_600_000
EIGHT_DAYS_MS: Final = 8 * DAY_MS
GRAINS_MS: Final = (QUARTER_MS, HOUR_MS, DAY_MS, EIGHT_DAYS_MS)
"""Cell sizes, smallest first; each divides the next, and all count from the epoch."""

SUMMED: Final = (
    "requests",
    "unpriced",
    "estimated",
    "cost_nanousd",
    "audio_ms",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "characters",
    "ttfb_count",
    "ttfb_sum_us",
    "total_count",
    "total_sum_us",
    "family",
)
"""The columns of ``rollup`` that are sums."""

COUNTED: Final = f"SUM(status NOT IN {tuple(sorted(map(str, UNCOUNTED)))})"
"""How many of some rows of the log are in counts of requests; NULL when there are no rows."""

IS_TIMED: Final = f"status NOT IN {tuple(sorted(map(str, UNTIMED)))}"
"""Whether a row of the log is in latencies."""


_ENDLESS_MS: Final = 2**62
_CELLS: Final = "FROM rollup WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?"
# Two statements: SQLite goes straight to one edge, and looks through everything for both at once.
_EDGES: Final = f"SELECT (SELECT MIN(bucket_ms) {_CELLS}), (SELECT MAX(bucket_ms) {_CELLS})"


class SeriesFilter(NamedTuple):
    """Which series to read; None means any."""

    project: str | None = None
    modality: str | None = None
    provider: str | None = None
    model_id: str | None = None

    def condition(self) -> tuple[str, tuple[str, ...]]:
        """Return SQL that limits ``series_id`` (empty when nothing is filtered) and its parameters."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        if not given:
            return "", ()
        tests = " AND ".join(f"{name} = ?" for name in given)
        return f" AND series_id IN (SELECT series_id FROM series WHERE {tests})", tuple(
            storable(str(value)) for value in given.values()
        )

    def among(self, rows: Iterable[R]) -> list[R]:
        """Return those of rows that begin with project, modality, provider and model id which are of such a series."""
        wanted = [(place, storable(str(value))) for place, value in enumerate(self) if value is not None]
        if not wanted:
            return list(rows)
        return [row for row in rows if all(row[place] == value for place, value in wanted)]


ANY_SERIES: Final = SeriesFilter()


class Span(NamedTuple):
    """Whole cells of one grain: ``[start_ms, end_ms)``."""

    grain_ms: int
    start_ms: int
    end_ms: int


def cover(start_ms: int, end_ms: int, *, largest_ms: int = EIGHT_DAYS_MS) -> list[Span]:
    """Cover a window with whole cells, the largest that fit and none above ``largest_ms``.

    The window is taken outward to quarter hours; an empty one has no spans.
    """
    left, right = start_ms // QUARTER_MS * QUARTER_MS, -(-end_ms // QUARTER_MS) * QUARTER_MS
    spans: list[Span] = []
    grain = QUARTER_MS
    # From small to large: cells of a grain cover both edges up to where the next larger grain begins.
    for larger in GRAINS_MS[1:]:
        inner_left, inner_right = -(-left // larger) * larger, right // larger * larger
        if larger > largest_ms or inner_left >= inner_right:
            break
        spans += [Span(grain, left, inner_left), Span(grain, inner_right, right)]
        grain, left, right = larger, inner_left, inner_right
    spans.append(Span(grain, left, right))
    return [span for span in spans if span.start_ms < span.end_ms]


def recorded_span(reads: Reads) -> tuple[int, int] | None:
    """Return the first and last quarter hour that ever had a request as ``[start_ms, end_ms)``, or None.

    Rollups outlive pruned rows, so this is the span of what reports can tell.

    Raises:
        StoreUnavailable: the grains contradict each other, or the store cannot be read.
    """
    reads.shared.agreed.require_whole(reads)
    first, last, inside = 0, 0, _ENDLESS_MS
    # From grain to grain, each inside the one before: among all quarter hours at once, those of projects that have few
    # rows would be looked for through all others.
    for grain in reversed(GRAINS_MS):
        params = [value for edge in (first, last) for value in (grain // 1000, edge, edge + inside)]
        ((earliest, latest),) = reads.read(_EDGES, params)
        if earliest is None or latest is None:
            if grain == EIGHT_DAYS_MS:
                return None
            raise contradicting(reads.path)
        first, last, inside = earliest, latest, grain
    reads.shared.agreed.require(reads, [span for edge in (first, last) for span in _around(edge)])
    return first, last + QUARTER_MS


def recorded_requests(reads: Reads) -> int:
    """Return how many requests were ever recorded, pruned ones included.

    Raises:
        StoreUnavailable: as ``recorded_span``.
    """
    reads.shared.agreed.require_whole(reads)
    rows = reads.read(
        "SELECT COALESCE(SUM(requests), 0) FROM rollup WHERE grain_s = ?", (EIGHT_DAYS_MS // 1000,)
    )
    return rows[0][0]


def _around(quarter_ms: int) -> list[Span]:
    """Return the cells around a quarter hour, up to the day."""
    starts = [(grain, quarter_ms // grain * grain) for grain in (HOUR_MS, DAY_MS)]
    return [Span(grain, start, start + grain) for grain, start in starts]
