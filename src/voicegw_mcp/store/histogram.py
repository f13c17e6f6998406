"""Mergeable histograms of latencies: log buckets whose counts are added at C speed. Imports nothing of ours.

A latency falls into lane ``ceil(log(ms) / log(GAMMA))``; every value of a lane lies within ``RELATIVE_ERROR`` of the
lane's estimate. A stored histogram is a blob: one byte for the width of a count (1, 2 or 4 bytes), two bytes for the
number of the first lane, then the counts from the first to the last used lane, all little-endian. Narrow counts keep
the many small cells small: a quarter-hour cell takes about 30 bytes. Cells of a day and more keep the full width: they are
read most, and merging them is then no more than adding big integers. A lane holds up to 2^32 - 1 values.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GAMMA: Final = 1.02 / 0.98
RELATIVE_ERROR: Final = 0.02

_LOG_GAMMA: Final = math.log(GAMMA)
_LEAST_MS: Final = 0.1
MOST_MS: Final = 1e7
"""Above this (2.8 h) a latency is none; below 0.1 ms all are one."""
_FIRST: Final = math.floor(math.log(_LEAST_MS) / _LOG_GAMMA)
LANES: Final = math.ceil(math.log(MOST_MS) / _LOG_GAMMA) - _FIRST + 1
_WIDTH: Final = 4
_BITS: Final = 8 * _WIDTH
_HEADER: Final = struct.Struct("<BH")
_LETTERS: Final = {1: "B", 2: "H", 4: "I"}
_COUNTS: Final = {width: struct.Struct(f"<{letter}") for width, letter in _LETTERS.items()}

_ESTIMATES: Final = tuple(2 * GAMMA ** (lane + _FIRST) / (GAMMA + 1) for lane in range(LANES))


def lane_of(ms: float) -> int:
    """Return the lane (0 .. ``LANES`` - 1) of a latency; anything below 0.1 ms is in the first, above 10^7 in the last."""
    if ms < _LEAST_MS:
        return 0
    return min(math.ceil(math.log(ms) / _LOG_GAMMA) - _FIRST, LANES - 1)


def grown_blob(blob: bytes | None, counts: Mapping[int, int], *, wide: bool = False) -> bytes:
    """Return a stored histogram with ``counts`` values per lane number added: what ``Histogram`` makes, sooner.

    Raises:
        ValueError: the blob is not one that ``to_blob`` made.
    """
    grown = _patched(blob, counts) if blob is not None else None
    if grown is None:
        histogram = Histogram.of_lanes(counts)
        if blob is not None:
            histogram.add_blob(blob)
        grown = histogram.to_blob(wide=wide)
    return grown


def _patched(blob: bytes, counts: Mapping[int, int]) -> bytes | None:
    """Return the blob with a few counts raised where they stand, None when one has no place or no room there."""
    if len(blob) < _HEADER.size:
        return None
    width, first = _HEADER.unpack_from(blob)
    if width not in _COUNTS or (len(blob) - _HEADER.size) % width:
        return None
    count_of = _COUNTS[width]
    grown = bytearray(blob)
    for lane, count in counts.items():
        offset = _HEADER.size + (lane - first) * width
        if not _HEADER.size <= offset < len(blob):
            return None
        raised = count_of.unpack_from(grown, offset)[0] + count
        if raised >> 8 * width:
            return None
        count_of.pack_into(grown, offset, raised)
    return bytes(grown)


class Histogram:
    """A sum of histograms, empty at first."""

    __slots__ = ("_lanes",)

    def __init__(self, lanes: int = 0) -> None:
        self._lanes = lanes

    @classmethod
    def of_lanes(cls, counts: Mapping[int, int]) -> Histogram:
        """Return the histogram with ``counts`` values per lane number."""
        return cls(sum(count << (_BITS * lane) for lane, count in counts.items()))

    @property
    def lanes(self) -> int:
        """The counts as one number, what ``Histogram`` is made of: equal for equal histograms, and added by adding."""
        return self._lanes

    def add_blob(self, blob: bytes) -> None:
        """Add a stored histogram.

        Raises:
            ValueError: the blob is not one that ``to_blob`` made.
        """
        self._lanes += merged((blob,))

    def to_blob(self, *, wide: bool = False) -> bytes:
        """Return the stored form: the used lanes only, as narrow as the largest count allows, or ``wide``."""
        lanes = self._lanes
        if not lanes:
            return _HEADER.pack(1, 0)
        first, counts = _used(lanes)
        width = _WIDTH if wide else next(width for width in _LETTERS if max(counts) < 1 << (8 * width))
        return _HEADER.pack(width, first) + struct.pack(f"<{len(counts)}{_LETTERS[width]}", *counts)

    def counts(self) -> tuple[int, ...]:
        """Return the number of values in each of the ``LANES`` lanes."""
        return struct.unpack(f"<{LANES}I", self._lanes.to_bytes(LANES * _WIDTH, "little"))


def merged(blobs: Iterable[bytes]) -> int:
    """Return the sum of stored histograms as one number, what ``Histogram.lanes`` is.

    Raises:
        ValueError: one of them is not what ``to_blob`` made.
    """
    # Added up per first lane, and put in place once at the end: half the time of a long addition for each.
    sums: dict[int, int] = {}
    for blob in blobs:
        if len(blob) < _HEADER.size:
            raise ValueError("too short for a histogram")
        width, first = _HEADER.unpack_from(blob)
        counts = blob[_HEADER.size :]
        used, rest = divmod(len(counts), width) if width in _LETTERS else (0, 1)
        if rest or first + used > LANES:
            raise ValueError("not a histogram")
        if width < _WIDTH:
            wide = bytearray(used * _WIDTH)
            for byte in range(width):
                wide[byte::_WIDTH] = counts[byte::width]
            counts = wide
        sums[first] = sums.get(first, 0) + int.from_bytes(counts, "little")
    return sum(counts << _BITS * first for first, counts in sums.items())


def percentiles_of(lanes: int, wanted: tuple[float, ...]) -> tuple[float, ...]:
    """Return estimates in ms for ``wanted`` (0 .. 100), none when the histogram is empty.

    A percentile between two values is interpolated linearly, as VoiceGateway does; both ends are within
    ``RELATIVE_ERROR``, so the result is too.

    Args:
        lanes: the counts, as ``merged`` returns them.
        wanted: which percentiles.
    """
    if not lanes:
        return ()
    first, counts = _used(lanes)
    reached = list(accumulate(counts))
    total = reached[-1]
    results: list[float] = []
    for percent in wanted:
        rank = percent / 100 * (total - 1)
        below = math.floor(rank)
        low = _ESTIMATES[first + bisect_left(reached, below + 1)]
        high = _ESTIMATES[first + bisect_left(reached, min(below + 2, total))]
        results.append(low + (high - low) * (rank - below))
    return tuple(results)


@lru_cache(maxsize=4096)
def counts_up_to(lanes: int, bounds_ms: tuple[float, ...]) -> tuple[int, ...]:
    """Return how many values are at most each bound, and last how many there are.

    A lane counts as a whole, on the side of its estimate: a value within 2.05 % of a bound (``1 - 1 / (1 + x)`` is the
    ``RELATIVE_ERROR``) may be counted on its other side, and no other.

    Args:
        lanes: the counts, as ``merged`` returns them.
        bounds_ms: ascending.
    """
    first, counts = _used(lanes) if lanes else (0, ())
    reached = list(accumulate(counts, initial=0))
    within = (bisect_right(_ESTIMATES, bound) - first for bound in bounds_ms)
    return (*(reached[min(max(lane, 0), len(counts))] for lane in within), reached[-1])


def _used(lanes: int) -> tuple[int, tuple[int, ...]]:
    """Return the number of the first used lane and the counts from there to the last one."""
    # The lowest and the highest set bit say which lanes are used, without looking at the empty ones.
    first = ((lanes & -lanes).bit_length() - 1) // _BITS
    used = -(-lanes.bit_length() // _BITS) - first
    return first, struct.unpack(f"<{used}I", (lanes >> _BITS * first).to_bytes(used * _WIDTH, "little"))
