"""Sums and latency histograms per cell of time, read instead of the rows; ``store.rollup_writing`` keeps them.

A cell is a quarter of an hour, an hour, a day (UTC) or eight days: every time zone's midnight is a quarter-hour
boundary, so any window is covered exactly by whole cells, the largest that fit. The grains share one table with a grain
column: one statement shape serves all. Measured at a million rows in 30 days, 80 series: hours take two thirds of the
cells away from a window without whole UTC days (a local day, the last 24 hours), eight days half of those of a month;
together they cost 5 to 20 % of the insert rate (batches of 500). Both latency metrics share a histogram row: half the rows and upserts.
May import ``domain``, ``store.histogram``, ``store.failures``, ``store.text`` and ``store.sqlite``.

Latencies of rows with status ``error`` are left out of histograms and averages: how fast a provider fails says nothing
about how fast it answers. They are counted as errors.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import DAY_MS, QUARTER_MS
from voicegw_mcp.store.failures import damaged
from voicegw_mcp.store.histogram import Histogram
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voicegw_mcp.store.reader import Reads, Row

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
)
"""The columns of ``rollup`` that are sums."""


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


ANY_SERIES: Final = SeriesFilter()


class SeriesSums(NamedTuple):
    """Sums of one series and status over a window. Money in nano-USD, times in microseconds."""

    project: str
    modality: str
    provider: str
    model_id: str
    status: str
    requests: int
    unpriced: int
    estimated: int
    cost_nanousd: int
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    ttfb_count: int
    ttfb_sum_us: int
    total_count: int
    total_sum_us: int


class CellSums(NamedTuple):
    """Sums of one cell of time and one status, over all series asked for."""

    bucket_ms: int
    status: str
    requests: int
    cost_nanousd: int
    ttfb_count: int
    ttfb_sum_us: int
    total_count: int
    total_sum_us: int


class Span(NamedTuple):
    """Whole cells of one grain: ``[start_ms, end_ms)``."""

    grain_ms: int
    start_ms: int
    end_ms: int


class Latencies(NamedTuple):
    """The two histograms of a latency report."""

    ttfb: Histogram
    total: Histogram


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


async def read_sums(
    reads: Reads, start_ms: int, end_ms: int, only: SeriesFilter = ANY_SERIES
) -> list[SeriesSums]:
    """Return the sums of a window per series and status, in one statement."""
    spans = cover(start_ms, end_ms)
    cells, params = _union(f"SELECT series_id, status, {', '.join(SUMMED)} FROM rollup", only, spans, "")
    if not spans:
        return []
    names = ", ".join(SeriesSums._fields[:4])
    sums = ", ".join(f"SUM({name}) AS {name}" for name in SUMMED)
    # Summed before the names are joined: sorting names along with every cell doubles the time.
    rows = await reads.read(
        f"SELECT {names}, status, {', '.join(SUMMED)} "
        f"FROM (SELECT series_id, status, {sums} FROM ({cells}) AS cells GROUP BY series_id, status) AS sums "
        "JOIN series ON series.series_id = sums.series_id",
        params,
    )
    return [SeriesSums(*row) for row in rows]


async def read_cells(
    reads: Reads, start_ms: int, end_ms: int, only: SeriesFilter = ANY_SERIES, *, largest_ms: int
) -> list[CellSums]:
    """Return the sums of a window per cell of time and status; cells are at most ``largest_ms`` long.

    The rows come in no order; cells in which nothing happened are absent.
    """
    columns = ", ".join(f"SUM({name})" for name in CellSums._fields[2:])
    inner, params = _union(
        f"SELECT bucket_ms, status, {columns} FROM rollup",
        only,
        cover(start_ms, end_ms, largest_ms=largest_ms),
        "GROUP BY bucket_ms, status",
    )
    return [CellSums(*row) for row in await reads.read(inner, params)] if inner else []


async def read_histograms(
    reads: Reads, start_ms: int, end_ms: int, only: SeriesFilter = ANY_SERIES
) -> dict[tuple[str, str, str, str], Latencies]:
    """Return the latency histograms of a window by (project, modality, provider, model_id).

    Raises:
        StoreUnavailable: a stored histogram is damaged, or the store cannot be read.
    """
    spans = cover(start_ms, end_ms)
    inner, params = _union("SELECT series_id, ttfb, total FROM histogram", only, spans, "")
    if not spans:
        return {}
    names: dict[int, tuple[str, str, str, str]] = {
        row[0]: row[1:]
        for row in await reads.read("SELECT series_id, project, modality, provider, model_id FROM series")
    }
    merged = await _merged(reads.path, await reads.read(inner, params))
    return {names[series_id]: latencies for series_id, latencies in merged.items()}


async def read_cell_histograms(
    reads: Reads, start_ms: int, end_ms: int, only: SeriesFilter = ANY_SERIES, *, largest_ms: int
) -> dict[int, Latencies]:
    """Return the latency histograms of a window by cell of time, over all series asked for.

    Raises:
        StoreUnavailable: a stored histogram is damaged, or the store cannot be read.
    """
    spans = cover(start_ms, end_ms, largest_ms=largest_ms)
    inner, params = _union("SELECT bucket_ms, ttfb, total FROM histogram", only, spans, "")
    return await _merged(reads.path, await reads.read(inner, params)) if spans else {}


async def recorded_span(reads: Reads) -> tuple[int, int] | None:
    """Return the first and last quarter hour that ever had a request as ``[start_ms, end_ms)``, or None.

    Rollups outlive pruned rows, so this is the span of what reports can tell.
    """
    rows = await reads.read(
        "SELECT MIN(bucket_ms), MAX(bucket_ms) FROM rollup WHERE grain_s = ?", (QUARTER_MS // 1000,)
    )
    first, last = rows[0]
    return None if first is None else (first, last + QUARTER_MS)


async def recorded_requests(reads: Reads) -> int:
    """Return how many requests were ever recorded, pruned ones included."""
    rows = await reads.read(
        "SELECT COALESCE(SUM(requests), 0) FROM rollup WHERE grain_s = ?", (DAY_MS // 1000,)
    )
    return rows[0][0]


def _union(
    select: str, only: SeriesFilter, spans: Sequence[Span], group: str
) -> tuple[str, Sequence[object]]:
    """Return one statement that reads each span by its part of the primary key, and its parameters."""
    condition, values = only.condition()
    part = f"{select} WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?{condition} {group}"
    params = [
        value for span in spans for value in (span.grain_ms // 1000, span.start_ms, span.end_ms, *values)
    ]
    return " UNION ALL ".join(part for _ in spans), params


async def _merged(path: Path, rows: list[Row]) -> dict[int, Latencies]:
    # In a thread: thousands of additions would otherwise hold the event loop for milliseconds.
    try:
        return await asyncio.to_thread(_merge, rows)
    except ValueError as error:
        raise damaged(path) from error


def _merge(rows: list[Row]) -> dict[int, Latencies]:
    merged: dict[int, Latencies] = {}
    for key, *blobs in rows:
        into = merged.setdefault(key, Latencies(Histogram(), Histogram()))
        for histogram, blob in zip(into, blobs, strict=True):
            if blob is not None:
                histogram.add_blob(blob)
    return merged
