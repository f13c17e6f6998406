"""Reads what a window holds by local hour or day: the newest of them, as many as an answer can show.

May import ``store``, ``domain`` and ``core.periods``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from voicegw_mcp.core.periods import LocalBuckets, cell_size, newest_spans
from voicegw_mcp.domain import Window
from voicegw_mcp.store.part_reading import read_parts, settled_until
from voicegw_mcp.store.rollups import recorded_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voicegw_mcp.core.periods import BucketUnit
    from voicegw_mcp.store.part_reading import Values
    from voicegw_mcp.store.parts import Part, TimedRow
    from voicegw_mcp.store.reader import Reads
    from voicegw_mcp.store.rollups import SeriesFilter

_DAYS_TOGETHER: Final = 8
"""Local days of one part when they are asked for by day; by hour, each is one."""

_MOST_SPANS: Final = 64

Sums = tuple[int, ...]


class TimedKind(Protocol):
    """A kind of part that tells of local hours or days."""

    def __call__(
        self, start_ms: int, end_ms: int, buckets: LocalBuckets, largest_ms: int, only: SeriesFilter
    ) -> Part[TimedRow]:
        """Return the part for a span."""
        ...


K = TypeVar("K", bound=TimedKind)


def read_newest(
    reads: Reads,
    window: Window,
    unit: BucketUnit,
    kinds: Sequence[TimedKind],
    only: SeriesFilter,
    *,
    most: int,
    also: Sequence[Part[Any]],
) -> tuple[Values, list[dict[int, Sums]], bool]:
    """Return what the newest local hours or days give.

    Args:
        reads: the store, or a part of it.
        window: the span of time.
        unit: of the buckets.
        kinds: what is read of each.
        only: of which series.
        most: buckets that are needed; there may be more.
        also: parts to read besides.

    Returns:
        The values of ``also``; for each kind the sums by the start of the bucket (UTC epoch ms), in order of time; and
        whether these are all.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    buckets = LocalBuckets(window.timezone, unit)
    days, whole = (most, _DAYS_TOGETHER) if unit == "day" else (-(-most // 24) + 1, 1)
    inside = window
    while True:
        spans, complete = newest_spans(inside, days, whole=whole)
        if not complete and inside is window:
            inside = _recorded(reads, window)
            continue
        pieces = list(_settled(spans))
        parts = [
            [
                kind(start, end, buckets, cell_size(Window("", start, end, window.timezone), unit), only)
                for start, end in pieces
            ]
            for kind in kinds
        ]
        values = read_parts(reads, [*also, *(part for own in parts for part in own)])
        found = [_added(map(values.of, own)) for own in parts]
        if complete or len(found[0]) >= most:
            return values, found, complete
        days *= 4
        # Where so little happened, few parts: a clock that was wrong is decades away.
        whole = max(whole, days // _MOST_SPANS)


def _recorded(reads: Reads, window: Window) -> Window:
    """Return the window without the time before the first request and after the last one."""
    first, last = reads.once(recorded_span) or (window.end_ms, window.end_ms)
    start = min(max(window.start_ms, first), window.end_ms)
    return Window(window.period, start, max(start, min(window.end_ms, last)), window.timezone)


def _settled(spans: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """Give the spans, the one that is still written to in two."""
    for start, end in spans:
        settled = settled_until(end)
        if start < settled < end:
            yield start, settled
            yield settled, end
        else:
            yield start, end


def _added(parts: Iterable[Iterable[TimedRow]]) -> dict[int, Sums]:
    """Return the sums of parts by bucket: one bucket may lie in two parts."""
    found: dict[int, Sums] = {}
    for part in parts:
        own = dict(part)
        for start in found.keys() & own.keys():
            own[start] = tuple(map(sum, zip(found[start], own[start], strict=True)))
        found.update(own)
    return found
