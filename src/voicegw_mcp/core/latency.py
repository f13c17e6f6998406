"""How fast requests were: averages and percentiles of a window, from sums and histograms, never from raw rows.

Averages are exact. Percentiles are within ``relative_error`` of those of the recorded values, apart from the rounding
to 0.01 ms. Both cover the requests that carry a latency, failed ones left out; ``request_count`` counts all, and
``error_count`` the failed. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from voicegw_mcp.core.answer_size import MOST_BYTES, OTHER, fitting_shown, json_bytes
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.buckets import read_newest
from voicegw_mcp.core.periods import iso
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.store.failures import damaged
from voicegw_mcp.store.histogram import RELATIVE_ERROR, percentiles_of
from voicegw_mcp.store.part_reading import cut, read_parts
from voicegw_mcp.store.parts import SeriesHistograms, SeriesLatencies, TimedHistograms, TimedLatencies
from voicegw_mcp.store.rollups import SeriesFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from voicegw_mcp.domain import Window
    from voicegw_mcp.store.parts import HistogramRow, LatencyRow, SeriesRow
    from voicegw_mcp.store.reader import Reads

LatencyGrouping = Literal["model", "provider", "project", "modality", "hour", "day"]

_MOST_KEY_CHARACTERS: Final = 200
_MODEL_BYTES: Final = 16_000
_MOST_BUCKETS: Final = 200
"""The newest buckets that are read at all: more of them do not fit into an answer with three percentiles each."""
_NAMES: Final[dict[str, Callable[[SeriesRow], str]]] = {
    "project": lambda row: row.project,
    "modality": lambda row: row.modality,
    "provider": lambda row: row.provider,
    "model": lambda row: row.model_id,
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


class _Tally(NamedTuple):
    """The sums of a group, times in microseconds, and its two histograms as numbers."""

    requests: int = 0
    errors: int = 0
    ttfb_count: int = 0
    ttfb_us: int = 0
    total_count: int = 0
    total_us: int = 0
    ttfb: int = 0
    total: int = 0

    def figures(self, wanted: tuple[float, ...]) -> dict[str, Any]:
        """Return the fields of ``LatencyStats``."""
        return {
            "avg_ttfb_ms": _average_ms(self.ttfb_us, self.ttfb_count),
            "avg_latency_ms": _average_ms(self.total_us, self.total_count),
            "request_count": self.requests,
            "error_count": self.errors,
            "ttfb_percentiles": _percentiles(self.ttfb, wanted),
            "latency_percentiles": _percentiles(self.total, wanted),
        }


def latency(
    reads: Reads,
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
        reads: the store.
        window: the span of time.
        project, modality, provider_id, model_id: limit the report; None means all.
        group_by: adds ``groups``: most requests first, hours and days in order of time.
        percentiles: which to give, 0 .. 100; 99.9 is shown as ``p99.9``.

    Raises:
        StoreUnavailable: the store cannot be read, or a histogram in it is damaged.
    """
    only = SeriesFilter(project, modality, provider_id, model_id)
    wanted = tuple(percentiles)
    spans = cut(window)
    of_sums, of_spread = (
        [SeriesLatencies(*span) for span in spans],
        [SeriesHistograms(*span) for span in spans],
    )
    timed: Iterable[tuple[LatencyGroup, int]] = ()
    complete = True
    if group_by in ("hour", "day"):
        kinds = (TimedLatencies, TimedHistograms)
        values, (counted, drawn), complete = read_newest(
            reads, window, group_by, kinds, only, most=_MOST_BUCKETS, also=[*of_sums, *of_spread]
        )
        if drawn.keys() - counted.keys():  # latencies of no request
            raise damaged(reads.path)
        complete = complete and len(counted) <= _MOST_BUCKETS
        timed = (
            _show_group(iso(start, window.timezone), counted[start], drawn.get(start, ()), wanted)
            for start in sorted(counted, reverse=True)[:_MOST_BUCKETS]
        )
    else:
        values = read_parts(reads, [*of_sums, *of_spread])
    sums, spread = only.among(values.of_all(of_sums)), only.among(values.of_all(of_spread))
    models = _ranked(sums, spread, "model")
    by_model, folded = _models(models, wanted)
    report = LatencyReport(
        period=window.period,
        project=only.project,
        modality=only.modality,
        start=iso(window.start_ms, window.timezone),
        end=iso(window.end_ms, window.timezone),
        timezone=window.timezone,
        overall=LatencyStats(**_whole(models).figures(wanted)),
        by_model=by_model,
        relative_error=RELATIVE_ERROR,
        truncated=folded or not complete or None,
    )
    if group_by is None:
        return report
    if group_by in ("hour", "day"):
        return _with_groups(report, timed, reverse=True)
    ranked = _ranked(sums, spread, group_by)
    return _with_groups(report, (_show_group(name, tally, (), wanted) for name, tally in ranked))


def _tally(sums: Sequence[LatencyRow], spread: Sequence[HistogramRow]) -> _Tally:
    counts = [sum(column) for column in list(zip(*sums, strict=True))[4:]] or [0] * 6
    return _Tally._make((*counts, sum(row.ttfb for row in spread), sum(row.total for row in spread)))


def _whole(ranked: Sequence[tuple[str, _Tally]]) -> _Tally:
    return _Tally(*map(sum, zip(*(tally for _, tally in ranked), strict=True)))


def _ranked(
    sums: Sequence[LatencyRow], spread: Sequence[HistogramRow], grouping: str
) -> list[tuple[str, _Tally]]:
    """Return the tallies by the name shown, most requests first; names that look alike after escaping are one."""
    name_of = _NAMES[grouping]
    groups: dict[str, tuple[list[LatencyRow], list[HistogramRow]]] = {}
    for row in sums:
        groups.setdefault(name_of(row), ([], []))[0].append(row)
    for row in spread:
        groups.setdefault(name_of(row), ([], []))[1].append(row)
    shown: dict[str, tuple[list[LatencyRow], list[HistogramRow]]] = {}
    for name, (counted, drawn) in groups.items():
        own = shown.setdefault(escape_untrusted(name, _MOST_KEY_CHARACTERS), ([], []))
        own[0].extend(counted)
        own[1].extend(drawn)
    tallies = [(name, _tally(*own)) for name, own in shown.items()]
    return sorted(tallies, key=lambda item: (-item[1].requests, item[0]))


def _models(
    ranked: Sequence[tuple[str, _Tally]], wanted: tuple[float, ...]
) -> tuple[dict[str, LatencyStats], bool]:
    """Return stats by model and whether some were folded into ``(other)``, so that the counts still add up."""
    entries: dict[str, LatencyStats] = {}
    left = _MODEL_BYTES
    for number, (name, tally) in enumerate(ranked):
        stats, size = _show_stats(tally, wanted)
        left -= json_bytes(name) + size
        if left < 0:
            return {**entries, OTHER: LatencyStats(**_whole(ranked[number:]).figures(wanted))}, True
        entries[name] = stats
    return entries, False


def _with_groups(
    report: LatencyReport, shown: Iterable[tuple[LatencyGroup, int]], *, reverse: bool = False
) -> LatencyReport:
    """Return the report with as many groups as fit, the first of ``shown``."""
    kept, all_fit = fitting_shown(shown, MOST_BYTES - json_bytes(report) - 40)
    cut_off = report.truncated or not all_fit
    groups = kept[::-1] if reverse else kept
    return report.model_copy(update={"groups": groups, "truncated": cut_off or None})


@lru_cache(maxsize=1024)
def _show_group(
    key: str, sums: tuple[int, ...], spread: tuple[int, ...], wanted: tuple[float, ...]
) -> tuple[LatencyGroup, int]:
    """Return a group and its length in bytes. Remembered: of hundreds of hours only the last one changes.

    Args:
        key: what it is called.
        sums, spread: the fields of a ``_Tally``, or the first and the last of them.
        wanted: the percentiles.
    """
    group = LatencyGroup(key=key, **_Tally(*sums, *spread).figures(wanted))
    return group, json_bytes(group)


@lru_cache(maxsize=512)
def _show_stats(tally: _Tally, wanted: tuple[float, ...]) -> tuple[LatencyStats, int]:
    """Return what is shown of a model and its length in bytes."""
    stats = LatencyStats(**tally.figures(wanted))
    return stats, json_bytes(stats)


def _average_ms(sum_us: int, count: int) -> float | None:
    return round(sum_us / count / 1000, 2) if count else None


def _percentiles(lanes: int, wanted: tuple[float, ...]) -> dict[str, float] | None:
    values = percentiles_of(lanes, wanted)
    names = (f"p{percent:g}" for percent in wanted)
    return {name: round(value, 2) for name, value in zip(names, values, strict=True)} if values else None
