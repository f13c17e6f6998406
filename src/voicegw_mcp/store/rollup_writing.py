"""The write side of the rollups: rows that are inserted are added to their cells, in the same transaction.

What a batch adds is put together in memory first, one row of each table per cell: the rate of inserting hangs on how
many rows SQLite touches. May import ``store.rollups`` and ``store.histogram``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from voicegw_mcp.domain import DAY_MS, QUARTER_MS, UNCOUNTED, UNTIMED
from voicegw_mcp.store.histogram import grown_blob, lane_of
from voicegw_mcp.store.peaks import merge_peaks, peaks_of
from voicegw_mcp.store.rollups import GRAINS_MS, SUMMED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from voicegw_mcp.store.connections import Row
    from voicegw_mcp.store.log_rows import LogRow

_HIGHEST: Final = ("cost_max_nanousd", "total_max_us")
_KEY: Final = ("grain_s", "bucket_ms", "series_id", "status")
_UPSERT: Final = (
    f"INSERT INTO rollup ({', '.join((*_KEY, *SUMMED, *_HIGHEST, 'peaks'))}) "
    f"VALUES ({', '.join('?' for _ in (*_KEY, *SUMMED, *_HIGHEST, 'peaks'))}) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(
        [f"{name} = rollup.{name} + excluded.{name}" for name in SUMMED]
        + [
            f"{name} = CASE WHEN rollup.{name} > excluded.{name} THEN rollup.{name} ELSE excluded.{name} END"
            for name in _HIGHEST
        ]
        + ["peaks = excluded.peaks"]
    )
)
_PEAKS: Final = f"SELECT peaks FROM rollup WHERE {' AND '.join(f'{name} = ?' for name in _KEY)}"
_WHERE_KEY: Final = " AND ".join(f"{name} = ?" for name in _KEY)
_CHANGE_COSTS: Final = (
    "UPDATE rollup SET unpriced = unpriced + ?, family = family + ?, cost_nanousd = cost_nanousd + ?, cost_max_nanousd = ?, peaks = ? "
    f"WHERE {_WHERE_KEY}"
)
_HIGHEST_COST: Final = f"SELECT cost_max_nanousd FROM rollup WHERE {_WHERE_KEY}"
_HIGHEST_OF_ROWS: Final = (
    "SELECT COALESCE(MAX(cost_nanousd), 0) FROM requests WHERE series_id = ? AND timestamp_ms >= ? AND timestamp_ms < ? "
    "AND status = ?"
)
_REPLACE: Final = (
    "INSERT INTO histogram (grain_s, bucket_ms, series_id, ttfb, total) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (grain_s, bucket_ms, series_id) DO UPDATE SET ttfb = excluded.ttfb, total = excluded.total"
)

_Cell: TypeAlias = Sequence[Any]
"""Numbers: those that are added up, then the highest ones. Last the peaks; of a row what they are made of."""

CostChange: TypeAlias = tuple[int, int, str, int | None, int | None, int | None, int]
"""Of a row: timestamp (UTC epoch ms), series, status, total latency (us), cost before and now (nano-USD, None is unpriced),
and whether it is priced by a relative of its model: 1 or -1 when that is different now."""

_Delta: TypeAlias = tuple[int, int, int, bytes]

Lanes: TypeAlias = tuple[Counter[int], Counter[int]]
"""How many values of ttfb and of total are in each lane."""


def add_to_rollups(connection: sqlite3.Connection, rows: Iterable[LogRow]) -> None:
    """Add rows that were just inserted to the sums and histograms of all grains, in the caller's transaction."""
    cells: dict[tuple[int, int, str], list[_Cell]] = {}
    lanes: dict[tuple[int, int], Lanes] = {}
    for row in rows:
        bucket = row.timestamp_ms // QUARTER_MS * QUARTER_MS
        cells.setdefault((bucket, row.series_id, row.status), []).append(_cell(row))
        if row.status not in UNTIMED and (row.ttfb_us is not None or row.total_us is not None):
            known = lanes.get((bucket, row.series_id))
            if known is None:  # not setdefault: it would make two counters a row
                known = lanes[bucket, row.series_id] = (Counter(), Counter())
            ttfb, total = known
            if row.ttfb_us is not None:
                ttfb[lane_of(row.ttfb_us / 1000)] += 1
            if row.total_us is not None:
                total[lane_of(row.total_us / 1000)] += 1
    sums = {key: _total(group, peaks_of) for key, group in cells.items()}
    for grain in GRAINS_MS:
        sums, lanes = _coarser(sums, lanes, grain)
        connection.executemany(
            _UPSERT,
            [
                (grain // 1000, *key, *cell[:-1], _grown_peaks(connection, (grain // 1000, *key), cell[-1]))
                for key, cell in sorted(sums.items())
            ],
        )
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


def unknown_peaks(connection: sqlite3.Connection, since_ms: int) -> list[tuple[int, int]]:
    """Return grain (ms) and start of the times from ``since_ms`` on with a cell whose peaks are not known, finest first."""
    return [
        (grain, bucket)
        for grain in GRAINS_MS
        for (bucket,) in connection.execute(
            "SELECT DISTINCT bucket_ms FROM rollup WHERE grain_s = ? AND bucket_ms >= ? AND peaks IS NULL",
            (grain // 1000, since_ms),
        )
    ]


def fill_peaks(connection: sqlite3.Connection, grain_ms: int, bucket_ms: int) -> None:
    """Work out the peaks that are not known of the cells of a time, whose rows are all there, in the caller's transaction.

    They are put together from those of finer cells; of a quarter hour they are made from its rows.
    """
    parts: dict[tuple[int, str], list[Any]] = {}
    if grain_ms == QUARTER_MS:
        rows = connection.execute(
            "SELECT series_id, status, total_us, cost_nanousd FROM requests WHERE timestamp_ms >= ? AND timestamp_ms < ?",
            (bucket_ms, bucket_ms + grain_ms),
        )
        for series_id, status, total_us, cost in rows:
            sound = {type(total_us), type(cost)} <= {int, type(None)}
            parts.setdefault((series_id, status), []).append(peaks_of([(total_us, cost)]) if sound else None)
    else:
        finer = GRAINS_MS[GRAINS_MS.index(grain_ms) - 1]
        cells = connection.execute(
            "SELECT series_id, status, peaks FROM rollup WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?",
            (finer // 1000, bucket_ms, bucket_ms + grain_ms),
        )
        for series_id, status, peaks in cells:
            parts.setdefault((series_id, status), []).append(peaks)
    connection.executemany(
        f"UPDATE rollup SET peaks = ? WHERE {' AND '.join(f'{name} = ?' for name in _KEY)} AND peaks IS NULL",
        [
            (merge_peaks(known), grain_ms // 1000, bucket_ms, *who)
            for who, known in parts.items()
            if all(isinstance(part, bytes) for part in known)
        ],
    )


def change_costs(connection: sqlite3.Connection, changed: Iterable[CostChange], *, complete_ms: int) -> None:
    """Bring the sums of all grains in line with rows that were given other costs, in the caller's transaction.

    The highest cost of a cell stays exact from ``complete_ms`` on, where all rows are there; before, and in the peaks, it
    is never too low, which is all that who looks for costly requests needs.

    Args:
        connection: in a transaction; the rows have their new costs.
        changed: the rows.
        complete_ms: up to where rows may have been pruned, UTC epoch ms.
    """
    cells: dict[tuple[int, int, str], list[CostChange]] = {}
    for each in changed:
        cells.setdefault((each[0] // QUARTER_MS * QUARTER_MS, each[1], each[2]), []).append(each)
    sums = {key: _cost_delta(group) for key, group in cells.items()}
    highest: dict[tuple[int, int, str], int] = {}
    for key, group in cells.items():
        before = connection.execute(_HIGHEST_COST, (QUARTER_MS // 1000, *key)).fetchone()
        now = max(each[5] or 0 for each in group)
        if before is not None and now < before[0]:
            lowered = any(each[4] == before[0] for each in group) and key[0] >= complete_ms
            now = (
                connection.execute(
                    _HIGHEST_OF_ROWS, (key[1], key[0], key[0] + QUARTER_MS, key[2])
                ).fetchone()[0]
                if lowered
                else before[0]
            )
        highest[key] = now
    for grain in GRAINS_MS:
        if grain != QUARTER_MS:
            sums, highest = _coarser_costs(connection, sums, grain)
        connection.executemany(
            _CHANGE_COSTS,
            [
                (
                    unpriced,
                    family,
                    cost,
                    highest[key],
                    _grown_peaks(connection, (grain // 1000, *key), peaks),
                    grain // 1000,
                    *key,
                )
                for key, (unpriced, family, cost, peaks) in sorted(sums.items())
            ],
        )


def _cost_delta(group: Sequence[CostChange]) -> _Delta:
    return (
        sum((each[5] is None) - (each[4] is None) for each in group),
        sum(each[6] for each in group),
        sum((each[5] or 0) - (each[4] or 0) for each in group),
        peaks_of((each[3], each[5]) for each in group),
    )


def _coarser_costs(
    connection: sqlite3.Connection, sums: dict[tuple[int, int, str], _Delta], grain: int
) -> tuple[dict[tuple[int, int, str], _Delta], dict[tuple[int, int, str], int]]:
    """Return the same changes in cells of ``grain``, and the highest costs of those; the finer cells are written already."""
    finer = GRAINS_MS[GRAINS_MS.index(grain) - 1]
    cells: dict[tuple[int, int, str], list[_Delta]] = {}
    for (bucket, series_id, status), delta in sums.items():
        cells.setdefault((bucket // grain * grain, series_id, status), []).append(delta)
    highest = {
        key: max(
            (
                row[0]
                for bucket in range(key[0], key[0] + grain, finer)
                for row in connection.execute(_HIGHEST_COST, (finer // 1000, bucket, *key[1:]))
            ),
            default=0,
        )
        for key in cells
    }
    merged = {
        key: (
            sum(d[0] for d in group),
            sum(d[1] for d in group),
            sum(d[2] for d in group),
            merge_peaks(d[3] for d in group),
        )
        for key, group in cells.items()
    }
    return merged, highest


def _cell(row: LogRow) -> _Cell:
    cost = row.cost_nanousd
    timed = row.status not in UNTIMED
    ttfb = row.ttfb_us if timed else None
    total = row.total_us if timed else None
    return [
        row.status not in UNCOUNTED,
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
        row.by_family(),
        cost or 0,
        row.total_us or 0,
        (row.total_us, cost),
    ]


def _grown_peaks(
    connection: sqlite3.Connection, key: tuple[int, int, int, str], added: bytes
) -> bytes | None:
    """Return the peaks of a cell with those of a batch; what is stored there and is none makes them unknown."""
    known: Row | None = connection.execute(_PEAKS, key).fetchone()
    if known is None:
        return added
    return merge_peaks((known[0], added)) if isinstance(known[0], bytes) else None


def _total(group: Sequence[_Cell], join: Callable[[Iterable[Any]], bytes]) -> _Cell:
    """Return several cells as one; ``join`` makes peaks of what is last in each."""
    if len(group) == 1:
        return [*group[0][:-1], join((group[0][-1],))]
    columns = list(zip(*group, strict=True))
    summed = len(SUMMED)
    return [*map(sum, columns[:summed]), *map(max, columns[summed:-1]), join(columns[-1])]


def _coarser(
    sums: dict[tuple[int, int, str], _Cell], lanes: dict[tuple[int, int], Lanes], grain: int
) -> tuple[dict[tuple[int, int, str], _Cell], dict[tuple[int, int], Lanes]]:
    """Return the same sums and counts per lane in cells of ``grain``."""
    cells: dict[tuple[int, int, str], list[_Cell]] = {}
    for (bucket, series_id, status), cell in sums.items():
        cells.setdefault((bucket // grain * grain, series_id, status), []).append(cell)
    merged: dict[tuple[int, int], Lanes] = {}
    for (bucket, series_id), counters in lanes.items():
        key = (bucket // grain * grain, series_id)
        known = merged.get(key)
        # Added up into new ones: the finer grain's are still the caller's.
        merged[key] = counters if known is None else (known[0] + counters[0], known[1] + counters[1])
    return {key: _total(group, merge_peaks) for key, group in cells.items()}, merged


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
