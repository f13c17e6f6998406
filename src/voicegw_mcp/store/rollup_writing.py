"""The write side of the rollups: rows that are inserted are added to their cells, in the same transaction.

What a batch adds is put together in memory first, one row of each table per cell: the rate of inserting hangs on how
many rows SQLite touches. May import ``store.rollups`` and ``store.histogram``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from voicegw_mcp.domain import DAY_MS, QUARTER_MS
from voicegw_mcp.store.histogram import grown_blob, lane_of
from voicegw_mcp.store.rollups import GRAINS_MS, SUMMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voicegw_mcp.store.reader import Row

_HIGHEST: Final = ("cost_max_nanousd", "total_max_us")
_KEY: Final = ("grain_s", "bucket_ms", "series_id", "status")
_UPSERT: Final = (
    f"INSERT INTO rollup ({', '.join((*_KEY, *SUMMED, *_HIGHEST))}) "
    f"VALUES ({', '.join('?' for _ in (*_KEY, *SUMMED, *_HIGHEST))}) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(
        [f"{name} = rollup.{name} + excluded.{name}" for name in SUMMED]
        + [
            f"{name} = CASE WHEN rollup.{name} > excluded.{name} THEN rollup.{name} ELSE excluded.{name} END"
            for name in _HIGHEST
        ]
    )
)
_REPLACE: Final = (
    "INSERT INTO histogram (grain_s, bucket_ms, series_id, ttfb, total) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (grain_s, bucket_ms, series_id) DO UPDATE SET ttfb = excluded.ttfb, total = excluded.total"
)

Lanes: TypeAlias = tuple[Counter[int], Counter[int]]
"""How many values of ttfb and of total are in each lane."""


class LoggedRow(NamedTuple):
    """A row of ``requests``, in the order of its columns. ``price_id`` and ``series_id`` refer to their tables."""

    seq: int
    id: str
    timestamp_ms: int
    series_id: int
    status: str
    session_id: str | None
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    cost_nanousd: int | None
    price_id: int
    ttfb_us: int | None
    total_us: int | None
    error_kind: str | None
    error_message: str | None
    fallback_from: str | None
    estimated: int


def add_to_rollups(connection: sqlite3.Connection, rows: Iterable[LoggedRow]) -> None:
    """Add rows that were just inserted to the sums and histograms of all grains, in the caller's transaction."""
    cells: dict[tuple[int, int, str], list[Sequence[int]]] = {}
    lanes: dict[tuple[int, int], Lanes] = {}
    for row in rows:
        bucket = row.timestamp_ms // QUARTER_MS * QUARTER_MS
        cells.setdefault((bucket, row.series_id, row.status), []).append(_cell(row))
        if row.status != "error" and (row.ttfb_us is not None or row.total_us is not None):
            ttfb, total = lanes.setdefault((bucket, row.series_id), (Counter(), Counter()))
            if row.ttfb_us is not None:
                ttfb[lane_of(row.ttfb_us / 1000)] += 1
            if row.total_us is not None:
                total[lane_of(row.total_us / 1000)] += 1
    sums = {key: _total(group) for key, group in cells.items()}
    for grain in GRAINS_MS:
        sums, lanes = _coarser(sums, lanes, grain)
        connection.executemany(_UPSERT, ((grain // 1000, *key, *cell) for key, cell in sorted(sums.items())))
        connection.executemany(
            _REPLACE,
            [
                (
                    grain // 1000,
                    *key,
                    *_grown(connection, (grain // 1000, *key), counts, wide=grain >= DAY_MS),
                )
                for key, counts in sorted(lanes.items(), key=_key_of)
            ],
        )


def _cell(row: LoggedRow) -> list[int]:
    cost = row.cost_nanousd
    counted = row.status != "error"
    ttfb = row.ttfb_us if counted else None
    total = row.total_us if counted else None
    return [
        1,
        cost is None,
        row.estimated,
        cost or 0,
        row.audio_ms,
        row.input_tokens,
        row.output_tokens,
        row.cached_tokens,
        row.characters,
        ttfb is not None,
        ttfb or 0,
        total is not None,
        total or 0,
        cost or 0,
        row.total_us or 0,
    ]


def _total(group: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return several cells as one."""
    if len(group) == 1:
        return group[0]
    columns = list(zip(*group, strict=True))
    summed = len(SUMMED)
    return [*map(sum, columns[:summed]), *map(max, columns[summed:])]


def _coarser(
    sums: dict[tuple[int, int, str], Sequence[int]], lanes: dict[tuple[int, int], Lanes], grain: int
) -> tuple[dict[tuple[int, int, str], Sequence[int]], dict[tuple[int, int], Lanes]]:
    """Return the same sums and counts per lane in cells of ``grain``."""
    cells: dict[tuple[int, int, str], list[Sequence[int]]] = {}
    for (bucket, series_id, status), cell in sums.items():
        cells.setdefault((bucket // grain * grain, series_id, status), []).append(cell)
    merged: dict[tuple[int, int], Lanes] = {}
    for (bucket, series_id), counters in lanes.items():
        key = (bucket // grain * grain, series_id)
        known = merged.get(key)
        # Added up into new ones: the finer grain's are still the caller's.
        merged[key] = counters if known is None else (known[0] + counters[0], known[1] + counters[1])
    return {key: _total(group) for key, group in cells.items()}, merged


def _key_of(item: tuple[tuple[int, int], Lanes]) -> tuple[int, int]:
    return item[0]


def _grown(
    connection: sqlite3.Connection, key: tuple[int, int, int], counts: Lanes, *, wide: bool
) -> tuple[bytes, bytes]:
    """Return the two stored histograms of a cell with ``counts`` added.

    Raises:
        sqlite3.DatabaseError: what is stored there is none, as if SQLite had found the damage itself.
    """
    known: Row | None = connection.execute(
        "SELECT ttfb, total FROM histogram WHERE grain_s = ? AND bucket_ms = ? AND series_id = ?", key
    ).fetchone()
    ttfb, total = known or (None, None)
    try:
        return grown_blob(ttfb, counts[0], wide=wide), grown_blob(total, counts[1], wide=wide)
    except (ValueError, TypeError) as error:
        damage = sqlite3.DatabaseError("a stored histogram is damaged")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage from error
