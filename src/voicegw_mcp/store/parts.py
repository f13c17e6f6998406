"""What reports are put together from: sums and histograms of a span of time, by series or by local hour or day.

A part is a value: it says what is read, and makes rows of what was found. ``store.part_reading`` reads it.
May import ``domain`` and ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from voicegw_mcp.store.histogram import merged
from voicegw_mcp.store.rollups import ANY_SERIES, SeriesFilter, cover

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voicegw_mcp.store.connections import Row
    from voicegw_mcp.store.rollups import Span

V = TypeVar("V")

_NAMES: Final = "project, modality, provider, model_id"


class CostRow(NamedTuple):
    """What one series cost. Money in nano-USD."""

    project: str
    modality: str
    provider: str
    model_id: str
    requests: int
    unpriced: int
    family: int
    estimated: int
    cost_nanousd: int
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int


class StatusRow(NamedTuple):
    """What the requests of one series and status cost, in nano-USD."""

    project: str
    modality: str
    provider: str
    model_id: str
    status: str
    cost_nanousd: int
    requests: int


class TotalRow(NamedTuple):
    """All that is summed of the requests of one series and status. Money in nano-USD, latencies in microseconds."""

    project: str
    modality: str
    provider: str
    model_id: str
    status: str
    requests: int
    unpriced: int
    cost_nanousd: int
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    ttfb_sum_us: int
    total_sum_us: int


class LatencyRow(NamedTuple):
    """How long the requests of one series took together, in microseconds; failed ones are only counted."""

    project: str
    modality: str
    provider: str
    model_id: str
    requests: int
    errors: int
    ttfb_count: int
    ttfb_sum_us: int
    total_count: int
    total_sum_us: int


class HistogramRow(NamedTuple):
    """How the latencies of one series spread: two histograms, each as one number (``store.histogram.merged``)."""

    project: str
    modality: str
    provider: str
    model_id: str
    ttfb: int
    total: int


TimedRow: TypeAlias = tuple[int, tuple[int, ...]]
"""The start of a local hour or day (UTC epoch ms) and what there is of it, in the order its part tells."""

SeriesRow: TypeAlias = CostRow | StatusRow | LatencyRow | HistogramRow
"""A row that tells of one series."""


class Buckets(Protocol):
    """Local hours or days. Equal ones are those of the same zone and unit."""

    def start_of(self, moment_ms: int) -> int:
        """Return the start of the one that holds ``moment_ms``; both UTC epoch ms."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Part(Generic[V]):
    """What to read of ``[start_ms, end_ms)``, both on quarter hours. Equal ones are the same part.

    ``weight`` is what a row of it takes in memory, as a multiple of half a kilobyte.
    """

    weight: ClassVar[int] = 1
    start_ms: int
    end_ms: int

    def spans(self) -> list[Span]:
        """Return the cells that are read."""
        return cover(self.start_ms, self.end_ms)

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """Return the one statement that reads its cells, and its parameters."""
        raise NotImplementedError

    def decode(self, rows: list[Row]) -> list[V]:
        """Return the values.

        Raises:
            ValueError, TypeError: the rows are damaged.
        """
        raise NotImplementedError


class SeriesCosts(Part[CostRow]):
    """What each series cost."""

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return _by_series(CostRow._fields[4:], spans)

    def decode(self, rows: list[Row]) -> list[CostRow]:
        """See ``Part``."""
        return list(map(CostRow._make, rows))


class StatusCosts(Part[StatusRow]):
    """What each series cost, by status."""

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return _by_series(StatusRow._fields[5:], spans, "series_id, status")

    def decode(self, rows: list[Row]) -> list[StatusRow]:
        """See ``Part``."""
        return list(map(StatusRow._make, rows))


class SeriesTotals(Part[TotalRow]):
    """What there is of each series, by status."""

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return _by_series(TotalRow._fields[5:], spans, "series_id, status")

    def decode(self, rows: list[Row]) -> list[TotalRow]:
        """See ``Part``."""
        return list(map(TotalRow._make, rows))


class SeriesLatencies(Part[LatencyRow]):
    """How long the requests of each series took together."""

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return _by_series(LatencyRow._fields[4:], spans)

    def decode(self, rows: list[Row]) -> list[LatencyRow]:
        """See ``Part``."""
        return list(map(LatencyRow._make, rows))


class SeriesHistograms(Part[HistogramRow]):
    """How the latencies of each series spread."""

    weight = 4

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        cells, params = _cells("SELECT 1, series_id, ttfb, total, '', '' FROM histogram", ANY_SERIES, spans)
        return f"SELECT 0, series_id, {_NAMES} FROM series UNION ALL {cells}", params

    def decode(self, rows: list[Row]) -> list[HistogramRow]:
        """See ``Part``."""
        names = {row[1]: row[2:] for row in rows if row[0] == 0}
        spread = _merged(row[1:4] for row in rows if row[0] == 1)
        if spread.keys() - names.keys():
            raise ValueError("latencies of no series")
        return [HistogramRow._make((*names[key], *lanes)) for key, lanes in spread.items()]


@dataclass(frozen=True)
class _Timed(Part[TimedRow]):
    """Of series that ``only`` admits, in cells of at most ``largest_ms``, none of which a bucket cuts through."""

    buckets: Buckets
    largest_ms: int
    only: SeriesFilter = ANY_SERIES

    def spans(self) -> list[Span]:
        """See ``Part``."""
        return cover(self.start_ms, self.end_ms, largest_ms=self.largest_ms)

    def _sums(self, columns: Sequence[str], spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        sums = ", ".join(f"SUM({_column(name)})" for name in columns)
        return _cells(f"SELECT bucket_ms, {sums} FROM rollup", self.only, spans, "GROUP BY bucket_ms")

    def decode(self, rows: list[Row]) -> list[TimedRow]:
        """See ``Part``."""
        cells: dict[int, list[Row]] = {}
        for row in sorted(rows):
            cells.setdefault(self.buckets.start_of(row[0]), []).append(row[1:])
        return [(start, tuple(map(sum, zip(*own, strict=True)))) for start, own in cells.items()]


class TimedCosts(_Timed):
    """What each local hour or day cost, in nano-USD, and its requests."""

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return self._sums(("cost_nanousd", "requests"), spans)


class TimedLatencies(_Timed):
    """How long the requests of each local hour or day took together: the sums of ``LatencyRow``."""

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return self._sums(LatencyRow._fields[4:], spans)


class TimedHistograms(_Timed):
    """How the latencies of each local hour or day spread: the histograms of ``HistogramRow``."""

    weight = 4

    def statement(self, spans: Sequence[Span]) -> tuple[str, Sequence[object]]:
        """See ``Part``."""
        return _cells("SELECT bucket_ms, ttfb, total FROM histogram", self.only, spans)

    def decode(self, rows: list[Row]) -> list[TimedRow]:
        """See ``Part``."""
        return sorted(_merged((self.buckets.start_of(row[0]), *row[1:]) for row in rows).items())


def _by_series(
    columns: Sequence[str], spans: Sequence[Span], group: str = "series_id"
) -> tuple[str, Sequence[object]]:
    # Summed before the names are joined: sorting names along with every cell doubles the time.
    cells, params = _cells(
        f"SELECT {group}, {', '.join(f'{_column(name)} AS {name}' for name in columns)} FROM rollup",
        ANY_SERIES,
        spans,
    )
    sums = ", ".join(f"SUM({name}) AS {name}" for name in columns)
    shown = ", ".join((_NAMES, *group.split(", ")[1:], *columns))
    summed = f"SELECT {group}, {sums} FROM ({cells}) AS cells GROUP BY {group}"
    return f"SELECT {shown} FROM ({summed}) AS sums JOIN series ON series.series_id = sums.series_id", params


def _column(name: str) -> str:
    return "CASE status WHEN 'error' THEN requests ELSE 0 END" if name == "errors" else name


def _cells(
    select: str, only: SeriesFilter, spans: Sequence[Span], group: str = ""
) -> tuple[str, Sequence[object]]:
    """Return one statement that reads each span by its part of the primary key, and its parameters."""
    condition, values = only.condition()
    part = f"{select} WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?{condition} {group}"
    params = [
        value for span in spans for value in (span.grain_ms // 1000, span.start_ms, span.end_ms, *values)
    ]
    return " UNION ALL ".join(part for _ in spans), params


def _merged(rows: Iterable[tuple[Any, ...]]) -> dict[int, tuple[int, int]]:
    """Return the two histograms of each key, of rows of key, ttfb and total."""
    blobs: dict[int, tuple[list[bytes], list[bytes]]] = {}
    for key, ttfb, total in rows:
        own = blobs.get(key)
        if own is None:
            own = blobs[key] = ([], [])
        if ttfb is not None:
            own[0].append(ttfb)
        if total is not None:
            own[1].append(total)
    return {key: (merged(ttfb), merged(total)) for key, (ttfb, total) in blobs.items()}
