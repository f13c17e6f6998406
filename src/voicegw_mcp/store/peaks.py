"""How costly the slow requests of a cell are: a few bytes that tell whether one can be slow and costly at once.

The highest latency and the highest cost of a cell may be those of two requests. So each cell also holds, for every step of
latency, the highest step of cost of the requests that took at least so long; four steps double a number. As bytes: the first
one is the lowest latency any of them has; each one behind it is a cost, for that latency and every following one; further up
there is none. None of them is 0, and the first one is less than 128, so that SQL can read it as a letter. Empty is a cell
without a request that has both. Imports nothing of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOWEST_BITS: Final = 7
"""Latencies below 128 microseconds are one step."""
_FIRST: Final = 4 * _LOWEST_BITS - 1


def peaks_of(requests: Iterable[tuple[int | None, int | None]]) -> bytes:
    """Return the peaks of requests, given by latency (microseconds) and cost (nano-USD)."""
    known = sorted(((us, cost) for us, cost in requests if us is not None and cost is not None), reverse=True)
    if not known:
        return b""
    falling: list[int] = []
    place, highest = latency_step(known[0][0]), -1
    for latency, cost in known:
        if cost > highest:
            step = latency_step(latency)
            falling += [cost_step(highest)] * (place - step)
            place, highest = step, cost
    first = latency_step(known[-1][0])
    falling += [cost_step(highest)] * (place - first + 1)
    return bytes((first, *reversed(falling)))


def latency_step(latency_us: int) -> int:
    """Return the step of a latency, 1 .. 112 up to 10^7 ms; never a lower one for a longer one."""
    bits = latency_us.bit_length()
    return 4 * bits + (latency_us >> bits - 3 & 3) - _FIRST if bits > _LOWEST_BITS else 1


def cost_step(cost_nanousd: int) -> int:
    """Return the step of a cost, 1 .. 180 up to 10^13 nano-USD and at most 255; never a lower one for a higher one."""
    bits = cost_nanousd.bit_length()
    return min(255, 4 * bits + 1 + (cost_nanousd >> bits - 3 & 3 if bits > 2 else 0))


def merge_peaks(parts: Iterable[bytes]) -> bytes:
    """Return the peaks of all requests together; the same whatever way they are put together."""
    given = set(parts)
    given.discard(b"")
    if len(given) < 2:
        return given.pop() if given else b""
    first = min(given)[0]
    # Below its lowest latency a part reaches as high as there, above its highest nothing.
    costs = [part[1:2] * (part[0] - first) + part[1:] for part in given]
    length = max(map(len, costs))
    return bytes((first, *map(max, *(part.ljust(length, b"\0") for part in costs))))


def reach_test(column: str, latency: str, cost: str) -> str:
    """Return SQL that is false only where no request took so long and cost so much.

    Args:
        column: the peaks; what is not known (NULL) may reach anything.
        latency: SQL of a ``latency_step``.
        cost: SQL of a ``cost_step``, as one byte.
    """
    lowest = f"unicode(CAST(substr({column}, 1, 1) AS TEXT))"
    return f"({column} IS NULL OR substr({column}, MAX(2, {latency} + 2 - {lowest}), 1) >= {cost})"
