"""Reads the parts of reports: what is remembered holds, and what is read anew was compared first.

A window is cut where today and where the last hour begin, so that what is still written to is little and is read
quickly. May import ``domain``, ``errors`` and ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from voicegw_mcp.domain import DAY_MS, QUARTER_MS
from voicegw_mcp.store.failures import decoding
from voicegw_mcp.store.part_cache import MISSING
from voicegw_mcp.store.rollups import EIGHT_DAYS_MS, HOUR_MS, Span
from voicegw_mcp.store.schema import TRIGGERS, trigger_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voicegw_mcp.domain import Window
    from voicegw_mcp.store.parts import Part
    from voicegw_mcp.store.reader import Reads

V = TypeVar("V")


class Values:
    """What parts gave; all of one state of the store."""

    def __init__(self) -> None:
        self._values: dict[Part[Any], list[Any]] = {}

    def of(self, part: Part[V]) -> list[V]:
        """Return what a part gave."""
        return self._values[part]

    def of_all(self, parts: Iterable[Part[V]]) -> Iterator[V]:
        """Give what several parts gave, one after the other."""
        return chain.from_iterable(self._values[part] for part in parts)

    def put(self, part: Part[V], value: list[V]) -> None:
        """Say what a part gave."""
        self._values[part] = value


def settled_until(end_ms: int) -> int:
    """Return the moment before which rows hardly come any more: where the last hour began, or ``end_ms`` if that is earlier."""
    return min(end_ms, (time.time_ns() // 1_000_000 - QUARTER_MS) // HOUR_MS * HOUR_MS)


def cut(window: Window) -> list[tuple[int, int]]:
    """Return a window in pieces: up to today (UTC), today up to the last hour, and what may still be written to."""
    start_ms, end_ms = window.start_ms, window.end_ms
    settled = settled_until(end_ms)
    edges = [settled // DAY_MS * DAY_MS, settled] if settled < end_ms else []
    inner = [edge for edge in edges if start_ms < edge]
    return [piece for piece in zip((start_ms, *inner), (*inner, end_ms), strict=True) if piece[0] < piece[1]]


def read_parts(reads: Reads, parts: Iterable[Part[Any]]) -> Values:
    """Return what the parts give; what is remembered is not read again.

    Raises:
        StoreUnavailable: damaged, or it cannot be read.
    """
    values, missing = _remembered(reads, _signatures(reads, list(dict.fromkeys(parts))))
    spans = {part: part.spans() for part in missing}
    reads.shared.agreed.require(reads, (span for own in spans.values() for span in own))
    for part, signature in missing.items():
        rows = reads.read(*part.statement(spans[part])) if spans[part] else []
        with decoding(reads.path):
            value = part.decode(rows)
        values.put(part, value)
        if signature is not None:
            reads.shared.parts.put((reads.projects, part), signature, value, part.weight * len(value) + 1)
    return values


def _remembered(
    reads: Reads, signatures: dict[Part[Any], int | None]
) -> tuple[Values, dict[Part[Any], int | None]]:
    """Return the values that hold, and the other parts with their signatures."""
    values = Values()
    missing: dict[Part[Any], int | None] = {}
    for part, signature in signatures.items():
        value = MISSING if signature is None else reads.shared.parts.get((reads.projects, part), signature)
        if value is MISSING:
            missing[part] = signature
        else:
            values.put(part, value)
    return values, missing


def _signatures(reads: Reads, parts: Sequence[Part[Any]]) -> dict[Part[Any], int | None]:
    """Return the signature of each part, None where changes are not watched."""
    cache = reads.shared.parts
    if cache.watched is None:
        cache.watched = dict(reads.read(TRIGGERS)) == trigger_texts()
    if not cache.watched or not parts:
        return dict.fromkeys(parts)
    hulls = {(part.start_ms, part.end_ms): 0 for part in parts}
    ranges = [
        (number, grain // 1000, start, end)
        for number, hull in enumerate(hulls)
        for grain, start, end in _watched(*hull)
    ]
    rows = reads.read(
        f"WITH asked (number, grain, since, until) AS (VALUES {', '.join('(?, ?, ?, ?)' for _ in ranges)}) "
        "SELECT number, (SELECT COALESCE(SUM(stamp), 0) FROM main.touched "
        "WHERE grain_s = grain AND bucket_ms >= since AND bucket_ms < until) FROM asked",
        [value for values in ranges for value in values],
    )
    keys = list(hulls)
    for number, stamps in rows:
        hulls[keys[number]] += stamps
    return {part: hulls[part.start_ms, part.end_ms] for part in parts}


def _watched(start_ms: int, end_ms: int) -> list[Span]:
    """Return the watched cells that hold a span: whole hours, and spans of eight days where there are any."""
    left, right = start_ms // HOUR_MS * HOUR_MS, -(-end_ms // HOUR_MS) * HOUR_MS
    inner_left = -(-left // EIGHT_DAYS_MS) * EIGHT_DAYS_MS
    inner_right = right // EIGHT_DAYS_MS * EIGHT_DAYS_MS
    if inner_left >= inner_right:
        return [Span(HOUR_MS, left, right)]
    return [
        Span(HOUR_MS, left, inner_left),
        Span(EIGHT_DAYS_MS, inner_left, inner_right),
        Span(HOUR_MS, inner_right, right),
    ]
