"""Compares what a report reads with the next finer sums, once while a store is open.

SQLite checks no content: a bit that flips inside a number is read as another number. Every request is counted in four
grains, so that a report of coarse cells can be compared with finer ones before it is given. What is compared is what is
read, hence the time it takes does not grow with the store; the rest follows a little at a time. ``store.audit`` compares
everything at once.
May import ``domain``, ``errors``, ``store.rollups`` and ``store.failures``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from itertools import pairwise
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from voicegw_mcp.domain import DAY_MS, RequestStatus
from voicegw_mcp.store.failures import contradicting
from voicegw_mcp.store.rollups import EIGHT_DAYS_MS, GRAINS_MS, HOUR_MS, SUMMED, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voicegw_mcp.store.reader import Reads

_FINER: Final = {coarse: fine for fine, coarse in pairwise(GRAINS_MS)}
_ENDLESS_MS: Final = 2**62
_MOST_RUNS: Final = 200
"""Statements are put together of two for each run; SQLite takes 500."""

_STATUS: Final = f"CASE status {' '.join(f'WHEN {status.value!r} THEN {n}' for n, status in enumerate(RequestStatus))} ELSE 31 END"
# A cell that moves to another series, status or span changes this, times what it counts and costs.
_KEY: Final = f"(series_id * 31 + {_STATUS} * 7 + bucket_ms / {EIGHT_DAYS_MS})"
_WEIGHT: Final = "(requests + unpriced + cost_nanousd)"
_HALF_BITS: Final = 20  # costs times numbers do not fit into 64 bits
_MISPLACED: Final = "SUM(bucket_ms % (grain_s * 1000) <> 0)"

CHECKED: Final = (
    f"{', '.join(f'SUM({name})' for name in SUMMED)}, "
    f"SUM(({_WEIGHT} >> {_HALF_BITS}) * {_KEY}), SUM(({_WEIGHT} & {(1 << _HALF_BITS) - 1}) * {_KEY}), {_MISPLACED}"
)
"""What two grains must have in common, see ``same_sums``: their totals, a check of their keys, and how many cells begin where none can."""

# Always of all projects: whether cells agree is not a matter of who asks.
_RUN: Final = f"SELECT {CHECKED} FROM main.rollup WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?"
_LAST: Final = " UNION ALL ".join(
    f"SELECT MAX(bucket_ms) FROM main.rollup WHERE grain_s = {grain // 1000} AND bucket_ms < ?"
    for grain in GRAINS_MS
)
_WHOLE: Final = " UNION ALL ".join(
    f"SELECT SUM(requests), SUM({_WEIGHT}), {_MISPLACED} FROM main.rollup WHERE grain_s = {grain // 1000}"
    for grain in (EIGHT_DAYS_MS, DAY_MS)
)


def same_sums(rows: Sequence[Sequence[Any]]) -> bool:
    """Say whether rows of what is ``CHECKED`` are the same, and no cell begins where none can."""
    return len(set(map(_comparable, rows))) <= 1 and not any(row[-1] for row in rows)


def _comparable(row: Sequence[Any]) -> tuple[Any, ...]:
    *sums, high, low, _ = row
    whole = type(high) is int and type(low) is int
    return (*sums, (high << _HALF_BITS) + low) if whole else (*sums, high, low)


class Agreed:
    """Which cells were compared already.

    Threads of several connections share it: what two of them compared at the same moment is compared once more at worst.
    """

    def __init__(self) -> None:
        self._known = {grain: _Runs() for grain in _FINER}
        self._whole = False
        self._until_ms = _ENDLESS_MS

    @property
    def complete(self) -> bool:
        """Whether ``require_more`` has nothing left to compare."""
        return self._until_ms <= 0

    def require(self, reads: Reads, spans: Iterable[Span]) -> None:
        """Compare the cells of spans with the finer ones inside, as far as that was not done.

        Quarter hours, the finest, are compared with the hours around them.

        Raises:
            StoreUnavailable: they differ, or the store cannot be read.
        """
        asked = {grain: _Runs(known.runs) for grain, known in self._known.items()}
        runs: list[Span] = []
        for span in spans:
            grain = max(span.grain_ms, HOUR_MS)
            start, end = span.start_ms // grain * grain, -(-span.end_ms // grain) * grain
            runs += [Span(grain, *gap) for gap in asked[grain].add(start, end)]
        for first in range(0, len(runs), _MOST_RUNS):
            _compare(reads, runs[first : first + _MOST_RUNS])
        for grain, start, end in runs:
            self._known[grain].add(start, end)

    def require_whole(self, reads: Reads) -> None:
        """Compare how many requests all days and all spans of eight days count: whether one is missing.

        Raises:
            StoreUnavailable: as ``require``.
        """
        if not self._whole:
            eights, days = reads.read(_WHOLE)
            if eights != days or eights[-1]:
                raise contradicting(reads.path)
            self._whole = True

    def require_more(self, reads: Reads, seconds: float) -> None:
        """Compare cells that no report read yet, day by day from the newest back, for about so long; the next call goes on.

        Raises:
            StoreUnavailable: as ``require``.
        """
        deadline = monotonic() + seconds
        while not self.complete and monotonic() < deadline:
            found = reads.read(_LAST, [self._until_ms] * len(GRAINS_MS))
            last = max((edge for (edge,) in found if edge is not None), default=None)
            if last is None:
                self._until_ms = 0
                return
            day = last // DAY_MS * DAY_MS
            around = last // EIGHT_DAYS_MS * EIGHT_DAYS_MS
            self.require(
                reads,
                [
                    Span(EIGHT_DAYS_MS, around, around + EIGHT_DAYS_MS),
                    Span(DAY_MS, day, day + DAY_MS),
                    Span(HOUR_MS, day, day + DAY_MS),
                ],
            )
            self._until_ms = day


class _Runs:
    """Spans of time that do not touch each other, in order; a century of hours is one of them."""

    def __init__(self, runs: Sequence[tuple[int, int]] = ()) -> None:
        self.runs = runs

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """Add a span and return the parts of it that were not there."""
        touching = [run for run in self.runs if run[0] <= end and start <= run[1]]
        edges = [start, *(edge for run in touching for edge in run), end]
        gaps = [(left, right) for left, right in zip(edges[::2], edges[1::2], strict=True) if left < right]
        whole = min([start, *(run[0] for run in touching)]), max([end, *(run[1] for run in touching)])
        self.runs = sorted([*(run for run in self.runs if run not in touching), whole])
        return gaps


def _compare(reads: Reads, runs: Sequence[Span]) -> None:
    both = [grain for run in runs for grain in (run.grain_ms, _FINER[run.grain_ms])]
    edges = [(run.start_ms, run.end_ms) for run in runs for _ in range(2)]
    params = [value for grain, span in zip(both, edges, strict=True) for value in (grain // 1000, *span)]
    rows = reads.read(" UNION ALL ".join(_RUN for _ in both), params)
    if not all(map(same_sums, zip(rows[::2], rows[1::2], strict=True))):
        raise contradicting(reads.path)
