"""How fast requests were: averages and percentiles of a window, from sums and histograms, never from raw rows.

Averages are exact. Percentiles are within ``relative_error`` of those of the recorded values, apart from the rounding
to 0.01 ms. Both cover the requests that carry a latency, failed ones left out; ``request_count`` counts all, and
``error_count`` the failed. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal

from voicegw_mcp.core.answer_size import MOST_BYTES, OTHER, fitting, json_bytes
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.periods import LocalBuckets, cell_size, iso
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.store.histogram import RELATIVE_ERROR, Histogram
from voicegw_mcp.store.rollups import (
    Latencies,
    SeriesFilter,
    read_cell_histograms,
    read_cells,
    read_histograms,
    read_sums,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from voicegw_mcp.domain import Window
    from voicegw_mcp.store.reader import Reader, Reads
    from voicegw_mcp.store.rollups import CellSums, SeriesSums

LatencyGrouping = Literal["model", "provider", "project", "modality", "hour", "day"]

_MOST_KEY_CHARACTERS: Final = 200
_MODEL_BYTES: Final = 16_000
# The newest buckets that are read at all: more of them do not fit into an answer with three percentiles each.
_MOST_BUCKETS: Final = 200

Names = tuple[str, str, str, str]
"""(project, modality, provider, model_id), as in ``store.rollups``."""

_DIMENSIONS: Final[dict[str, Callable[[Names], str]]] = {
    "project": lambda names: names[0],
    "modality": lambda names: names[1],
    "provider": lambda names: names[2],
    "model": lambda names: names[3],
}


class LatencyStats(Answer):
    """Latencies in ms; averages and percentiles are absent when no request carried the value."""

    avg_ttfb_ms: float | None = None
    avg_latency_ms: float | None = None
    request_count: int
    error_count: int
    ttfb_percentiles: dict[str, float] | None = None
    latency_percentiles: dict[str, float] | None = None


class LatencyGroup(LatencyStats):
    """One group. ``key`` is a name, or the ISO 8601 start of a local hour or day."""

    key: str


class LatencyReport(Answer):
    """The answer of ``get_latency_stats``. Models that were too many are one under ``(other)``; ``truncated`` says so."""

    period: str
    project: str | None = None
    modality: str | None = None
    start: str
    end: str
    timezone: str
    overall: LatencyStats
    by_model: dict[str, LatencyStats]
    groups: list[LatencyGroup] | None = None
    relative_error: float
    truncated: bool | None = None


@dataclass(slots=True)
class _Tally:
    """Running sums of one group."""

    requests: int = 0
    errors: int = 0
    ttfb_count: int = 0
    ttfb_us: int = 0
    total_count: int = 0
    total_us: int = 0
    latencies: Latencies = field(default_factory=lambda: Latencies(Histogram(), Histogram()))

    def count(self, row: SeriesSums | CellSums) -> None:
        self.requests += row.requests
        self.errors += row.requests if row.status == "error" else 0
        self.ttfb_count += row.ttfb_count
        self.ttfb_us += row.ttfb_sum_us
        self.total_count += row.total_count
        self.total_us += row.total_sum_us

    def spread(self, latencies: Latencies) -> None:
        self.latencies.ttfb.add(latencies.ttfb)
        self.latencies.total.add(latencies.total)

    def merge(self, other: _Tally) -> None:
        for name in ("requests", "errors", "ttfb_count", "ttfb_us", "total_count", "total_us"):
            setattr(self, name, attrgetter(name)(self) + attrgetter(name)(other))
        self.spread(other.latencies)

    def stats(self, percentiles: Sequence[float]) -> LatencyStats:
        return LatencyStats(
            avg_ttfb_ms=_average_ms(self.ttfb_us, self.ttfb_count),
            avg_latency_ms=_average_ms(self.total_us, self.total_count),
            request_count=self.requests,
            error_count=self.errors,
            ttfb_percentiles=_percentiles(self.latencies.ttfb, percentiles),
            latency_percentiles=_percentiles(self.latencies.total, percentiles),
        )


async def latency(
    store: Reader,
    window: Window,
    *,
    project: str | None = None,
    modality: str | None = None,
    provider_id: str | None = None,
    model_id: str | None = None,
    group_by: LatencyGrouping | None = None,
    percentiles: Sequence[float] = (50, 95, 99),
) -> LatencyReport:
    """Return how fast the requests of a window were.

    Args:
        store: an open store.
        window: the span of time.
        project, modality, provider_id, model_id: limit the report; None means all.
        group_by: adds ``groups``: most requests first, hours and days in order of time.
        percentiles: which to give, 0 .. 100; 99.9 is shown as ``p99.9``.

    Raises:
        StoreUnavailable: the store cannot be read, or a histogram in it is damaged.
    """
    only = SeriesFilter(project, modality, provider_id, model_id)
    by_time: dict[int, _Tally] = {}
    cut = False
    async with store.snapshot() as reads:
        sums = await read_sums(reads, window.start_ms, window.end_ms, only)
        spread = await read_histograms(reads, window.start_ms, window.end_ms, only)
        if group_by in ("hour", "day"):
            by_time, cut = await _by_time(reads, window, only, group_by)
    overall = _Tally()
    for tally in _tallies(sums, spread, lambda _names: "").values():
        overall.merge(tally)
    by_model, folded = _models(_tallies(sums, spread, _DIMENSIONS["model"]), percentiles)
    report = LatencyReport(
        period=window.period,
        project=project,
        modality=modality,
        start=iso(window.start_ms, window.timezone),
        end=iso(window.end_ms, window.timezone),
        timezone=window.timezone,
        overall=overall.stats(percentiles),
        by_model=by_model,
        relative_error=RELATIVE_ERROR,
        truncated=folded or cut or None,
    )
    if group_by is None:
        return report
    if group_by in _DIMENSIONS:
        ranked = _ranked(_tallies(sums, spread, _DIMENSIONS[group_by]))
        return _with_groups(report, ranked, percentiles, newest_first=False)
    timed = [(iso(start, window.timezone), by_time[start]) for start in sorted(by_time, reverse=True)]
    return _with_groups(report, timed, percentiles, newest_first=True)


async def _by_time(
    reads: Reads, window: Window, only: SeriesFilter, unit: Literal["hour", "day"]
) -> tuple[dict[int, _Tally], bool]:
    """Return the newest local hours or days with their tallies by start, and whether older ones were left out."""
    buckets = LocalBuckets(window.timezone, unit)
    size = cell_size(window, unit)
    tallies: dict[int, _Tally] = {}
    for cell in sorted(await read_cells(reads, window.start_ms, window.end_ms, only, largest_ms=size)):
        tallies.setdefault(buckets.start_of(cell.bucket_ms), _Tally()).count(cell)
    newest = dict(list(tallies.items())[-_MOST_BUCKETS:])
    if newest:
        since = max(window.start_ms, min(newest))
        spread = await read_cell_histograms(reads, since, window.end_ms, only, largest_ms=size)
        for bucket_ms, latencies in spread.items():
            newest[buckets.start_of(bucket_ms)].spread(latencies)
    return newest, len(newest) < len(tallies)


def _tallies(
    sums: Iterable[SeriesSums], spread: dict[Names, Latencies], key: Callable[[Names], str]
) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = {}
    for row in sums:
        tallies.setdefault(key(row[:4]), _Tally()).count(row)
    for names, latencies in spread.items():
        tallies.setdefault(key(names), _Tally()).spread(latencies)
    return tallies


def _ranked(tallies: dict[str, _Tally]) -> list[tuple[str, _Tally]]:
    """Return the tallies by the name shown, most requests first; names that look alike after escaping are one."""
    shown: dict[str, _Tally] = {}
    for name, tally in tallies.items():
        shown.setdefault(escape_untrusted(name, _MOST_KEY_CHARACTERS), _Tally()).merge(tally)
    return sorted(shown.items(), key=lambda item: (-item[1].requests, item[0]))


def _models(tallies: dict[str, _Tally], percentiles: Sequence[float]) -> tuple[dict[str, LatencyStats], bool]:
    """Return stats by model and whether some were folded into ``(other)``, so that the counts still add up."""
    ranked = _ranked(tallies)
    entries = [(name, tally.stats(percentiles)) for name, tally in ranked]
    kept = fitting((json_bytes(name) + json_bytes(stats) for name, stats in entries), _MODEL_BYTES)
    if kept == len(entries):
        return dict(entries), False
    rest = _Tally()
    for _, tally in ranked[kept:]:
        rest.merge(tally)
    return {**dict(entries[:kept]), OTHER: rest.stats(percentiles)}, True


def _with_groups(
    report: LatencyReport,
    ranked: Sequence[tuple[str, _Tally]],
    percentiles: Sequence[float],
    *,
    newest_first: bool,
) -> LatencyReport:
    groups = [LatencyGroup(key=key, **dict(tally.stats(percentiles))) for key, tally in ranked]
    kept = groups[: fitting(map(json_bytes, groups), MOST_BYTES - json_bytes(report) - 40)]
    cut = report.truncated or len(kept) < len(groups)
    return report.model_copy(
        update={"groups": kept[::-1] if newest_first else kept, "truncated": cut or None}
    )


def _average_ms(sum_us: int, count: int) -> float | None:
    return round(sum_us / count / 1000, 2) if count else None


def _percentiles(histogram: Histogram, wanted: Sequence[float]) -> dict[str, float] | None:
    values = histogram.percentiles(wanted)
    return (
        {f"p{percent:g}": round(value, 2) for percent, value in zip(wanted, values, strict=True)}
        if values
        else None
    )
