"""Do the sums agree? Every request is counted in four grains of rollups and, until it is pruned, in its own row.

SQLite checks no content: a bit that flips inside a number is read as another number. What was counted several times can be
compared, and where one copy differs from the others that one is wrong. ``TOTALS`` is the cheap comparison (one pass
over the rollups), ``inspect_span`` the whole one. Works on values only: ``store.repair`` and ``store.backup`` decide what follows.
May import ``domain``, ``store`` and ``errors``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from voicegw_mcp.store.agreement import CHECKED, same_sums
from voicegw_mcp.store.failures import contradicting
from voicegw_mcp.store.histogram import Histogram, lane_of
from voicegw_mcp.store.log_rows import FAMILY
from voicegw_mcp.store.rollups import COUNTED, EIGHT_DAYS_MS, GRAINS_MS, HOUR_MS, IS_TIMED

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from voicegw_mcp.store.reader import Reads

QUARTER_MS: Final = GRAINS_MS[0]
DAY_MS: Final = GRAINS_MS[2]

Value: TypeAlias = tuple[Any, ...]
Who: TypeAlias = tuple[Any, ...]
Cells: TypeAlias = dict[tuple[int, Who], Value]

BROKEN: Final[Value] = ()
"""Stands for a value that is none: text in place of a number, a histogram that cannot be read."""

# What each column of a rollup is, said of the rows of its cell.
_ROLLUP: Final = {
    "requests": COUNTED,
    "unpriced": "SUM(cost_nanousd IS NULL)",
    "family": f"SUM(price_id IN (SELECT price_id FROM price WHERE instr(source, '{FAMILY}')))",  # noqa: S608 - a constant
    "estimated": "SUM(estimated)",
    "cost_nanousd": "COALESCE(SUM(cost_nanousd), 0)",
    "audio_ms": "SUM(audio_ms)",
    "input_tokens": "SUM(input_tokens)",
    "output_tokens": "SUM(output_tokens)",
    "cached_tokens": "SUM(cached_tokens)",
    "characters": "SUM(characters)",
    "ttfb_count": f"SUM({IS_TIMED} AND ttfb_us IS NOT NULL)",
    "ttfb_sum_us": f"COALESCE(SUM(ttfb_us) FILTER (WHERE {IS_TIMED}), 0)",
    "total_count": f"SUM({IS_TIMED} AND total_us IS NOT NULL)",
    "total_sum_us": f"COALESCE(SUM(total_us) FILTER (WHERE {IS_TIMED}), 0)",
    "cost_max_nanousd": "COALESCE(MAX(cost_nanousd), 0)",
    "total_max_us": "COALESCE(MAX(total_us), 0)",
}

TOTALS: Final = f"SELECT grain_s, {CHECKED} FROM rollup GROUP BY grain_s"  # noqa: S608 - constants
"""One row for each grain: its totals, a check of its keys, and how many of its cells begin where none can."""
NAMELESS: Final = (
    f"SELECT COUNT(*) FROM rollup WHERE grain_s = {EIGHT_DAYS_MS // 1000} "  # noqa: S608 - constants
    "AND series_id NOT IN (SELECT series_id FROM series)"
)
"""How many cells belong to no series: reports would leave them out."""
NAMES: Final = "PRAGMA integrity_check(series)"
"""Whether names and their index are the same; a small table."""


def totals_agree(totals: Sequence[Sequence[Any]], nameless: int, names: str) -> bool:
    """Say whether the answers of ``TOTALS``, ``NAMELESS`` and ``NAMES`` are those of a sound store."""
    grains = {row[0] for row in totals}
    whole = not totals or grains == {grain // 1000 for grain in GRAINS_MS}
    return whole and same_sums([row[1:] for row in totals]) and not nameless and names == "ok"


def agrees(connection: sqlite3.Connection) -> bool:
    """Make the cheap comparison; about 0.2 s for a million rows in a month."""
    return totals_agree(
        connection.execute(TOTALS).fetchall(),
        connection.execute(NAMELESS).fetchone()[0],
        connection.execute(NAMES).fetchone()[0],
    )


def require_names(reads: Reads) -> None:
    """Look whether every series has its names; what sums a report reads is compared when it reads them.

    Raises:
        StoreUnavailable: not so, or the store cannot be read.
    """
    nameless, names = reads.read(NAMELESS), reads.read(NAMES)
    if nameless[0][0] or names[0][0] != "ok":
        raise contradicting(reads.path)


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell that is not what the others say.

    ``stored`` and ``right`` are what differs, by column (of a histogram: how many values), None for a cell that is not
    there. With ``remedy`` ``keep`` the rows of that hour differ from sums that agree with each other: a row is damaged or
    lost and ``right`` is what the sums say. ``hour`` says that the quarters of an hour were lost and the first one got them all.
    """

    table: Literal["rollup", "histogram", "requests"]
    grain_s: int
    bucket_ms: int
    series_id: int
    status: str | None
    stored: dict[str, Any] | None
    right: dict[str, Any] | None
    remedy: Literal["rows", "cells", "hour", "keep"]
    value: Value | None = None


class SumKind:
    """Rollups: the value of a cell is its numbers."""

    table: Final = "rollup"
    key: Final = ("series_id", "status")
    columns: Final = tuple(_ROLLUP)

    def read(self, values: Value) -> Value:
        """Return the stored columns as a value."""
        return values if all(type(number) is int for number in values) else BROKEN

    def merge(self, values: Sequence[Value]) -> Value:
        """Return the value of the cell that holds all of these."""
        if BROKEN in values:
            return BROKEN
        columns = list(zip(*values, strict=True))
        return (*map(sum, columns[:-2]), *map(max, columns[-2:]))

    def rows(self, connection: sqlite3.Connection, start_ms: int, end_ms: int) -> Cells:
        """Return the quarter-hour cells that the rows of a span make."""
        found = connection.execute(
            f"SELECT timestamp_ms / {QUARTER_MS} * {QUARTER_MS}, series_id, status, {', '.join(_ROLLUP.values())} "  # noqa: S608 - constants
            "FROM requests WHERE timestamp_ms >= ? AND timestamp_ms < ? GROUP BY 1, 2, 3",
            (start_ms, end_ms),
        )
        return {(row[0], row[1:3]): self.read(row[3:]) for row in found}

    def stored(self, value: Value, _grain_ms: int) -> Value:
        """Return the columns to store."""
        return value

    def shown(self, value: Value | None, other: Value | None) -> dict[str, Any] | None:
        """Return what is told of a value beside another one."""
        if not value:
            return None
        beside = other or (None,) * len(value)
        return {n: a for n, a, b in zip(self.columns, value, beside, strict=True) if a != b}


class HistogramKind:
    """Histograms: the value of a cell is its two histograms, each as one number (``Histogram.lanes``)."""

    table: Final = "histogram"
    key: Final = ("series_id",)
    columns: Final = ("ttfb", "total")

    def read(self, values: Value) -> Value:
        """Return the stored columns as a value."""
        found: list[int] = []
        for blob in values:
            histogram = Histogram()
            try:
                if blob is not None:
                    histogram.add_blob(blob)
            except (ValueError, TypeError):  # no histogram; not even bytes
                return BROKEN
            found.append(histogram.lanes)
        return tuple(found)

    def merge(self, values: Sequence[Value]) -> Value:
        """Return the value of the cell that holds all of these."""
        if BROKEN in values:
            return BROKEN
        return tuple(map(sum, zip(*values, strict=True)))

    def rows(self, connection: sqlite3.Connection, start_ms: int, end_ms: int) -> Cells:
        """Return the quarter-hour cells that the rows of a span make."""
        lanes: dict[tuple[int, Who], tuple[dict[int, int], dict[int, int]]] = {}
        found = connection.execute(
            f"SELECT timestamp_ms / {QUARTER_MS} * {QUARTER_MS}, series_id, ttfb_us, total_us FROM requests "  # noqa: S608 - constants
            f"WHERE timestamp_ms >= ? AND timestamp_ms < ? AND {IS_TIMED} "
            "AND (ttfb_us IS NOT NULL OR total_us IS NOT NULL)",
            (start_ms, end_ms),
        )
        for bucket, series_id, *latencies in found:
            key = (bucket, (series_id,))
            cell = lanes.get(key)
            if cell is None:
                cell = lanes[key] = (defaultdict(int), defaultdict(int))
            for counts, us in zip(cell, latencies, strict=True):
                if isinstance(us, int):
                    counts[lane_of(us / 1000)] += 1
        return {
            key: tuple(Histogram.of_lanes(counts).lanes for counts in cell) for key, cell in lanes.items()
        }

    def stored(self, value: Value, grain_ms: int) -> Value:
        """Return the columns to store: narrow below a day."""
        return tuple(Histogram(lanes).to_blob(wide=grain_ms >= DAY_MS) for lanes in value)

    def shown(self, value: Value | None, _other: Value | None) -> dict[str, Any] | None:
        """Return what is told of a value: how many latencies it counts."""
        if not value:
            return None
        return {name: sum(Histogram(lanes).counts()) for name, lanes in zip(self.columns, value, strict=True)}


Kind: TypeAlias = SumKind | HistogramKind
KINDS: Final[tuple[Kind, ...]] = (SumKind(), HistogramKind())


def spans(connection: sqlite3.Connection) -> list[int]:
    """Return the starts of the spans of eight days that have cells or rows."""
    found = connection.execute(
        f"SELECT DISTINCT bucket_ms / {EIGHT_DAYS_MS} FROM rollup "  # noqa: S608 - constants
        f"UNION SELECT DISTINCT bucket_ms / {EIGHT_DAYS_MS} FROM histogram "
        f"UNION SELECT DISTINCT timestamp_ms / {EIGHT_DAYS_MS} FROM requests"
    )
    return sorted(number * EIGHT_DAYS_MS for (number,) in found if isinstance(number, int))


def inspect_span(
    connection: sqlite3.Connection, start_ms: int, horizon_ms: int, lost: Collection[str] = ()
) -> list[Difference]:
    """Compare all cells of one span, and its rows from ``horizon_ms`` on, in the caller's transaction.

    ``lost`` are tables that could not be read to their end: a cell that is in no grain of them was lost, and the rows are right.
    """
    found: list[Difference] = []
    for kind in KINDS:
        levels = [_read(connection, kind, grain, start_ms) for grain in GRAINS_MS]
        complete = max(start_ms, horizon_ms)
        rows = kind.rows(connection, complete, start_ms + EIGHT_DAYS_MS)
        found += _Judge(kind, levels, rows, complete, cells_lost=kind.table in lost).differences()
    return found


def strays(connection: sqlite3.Connection) -> list[tuple[str, tuple[Any, ...]]]:
    """Return table and key of cells that can be none: of no grain, or beginning where none can."""
    grains = ", ".join(str(grain // 1000) for grain in GRAINS_MS)
    return [
        (kind.table, key)
        for kind in KINDS
        for key in connection.execute(
            f"SELECT grain_s, bucket_ms, {', '.join(kind.key)} FROM {kind.table} WHERE grain_s NOT IN ({grains}) "  # noqa: S608 - constants
            "OR typeof(bucket_ms) <> 'integer' OR bucket_ms % (grain_s * 1000) <> 0"
        )
    ]


def _read(connection: sqlite3.Connection, kind: Kind, grain_ms: int, start_ms: int) -> Cells:
    keys = len(kind.key)
    found = connection.execute(
        f"SELECT bucket_ms, {', '.join((*kind.key, *kind.columns))} FROM {kind.table} "  # noqa: S608 - constants
        "WHERE grain_s = ? AND bucket_ms >= ? AND bucket_ms < ?",
        (grain_ms // 1000, start_ms, start_ms + EIGHT_DAYS_MS),
    )
    return {
        (row[0], row[1 : keys + 1]): kind.read(row[keys + 1 :]) for row in found if row[0] % grain_ms == 0
    }


class _Judge:
    """Decides what the cells of a span should be: the copy that most of the others agree with."""

    def __init__(
        self, kind: Kind, levels: list[Cells], rows: Cells, complete_ms: int, *, cells_lost: bool
    ) -> None:
        self._cells_lost = cells_lost
        self._kind = kind
        self._levels = levels
        self._rows = rows
        self._complete = complete_ms
        self._notes: list[Difference] = []
        self._to_the_hour: set[tuple[int, Who]] = set()

    def differences(self) -> list[Difference]:
        right = [self._quarters()]
        for grain in GRAINS_MS[1:]:
            right.append(self._coarser(right[-1], grain))
        for grain, stored, cells in zip(GRAINS_MS, self._levels, right, strict=True):
            for key in sorted(stored.keys() | cells.keys(), key=repr):
                if stored.get(key) != cells.get(key):
                    self._note(grain, key, stored.get(key), cells.get(key))
        return self._notes

    def _quarters(self) -> Cells:
        """Return the right cells of a quarter hour."""
        quarters = _grouped(self._levels[0], HOUR_MS)
        rows = _grouped(self._rows, HOUR_MS)
        hours, days = self._levels[1], self._levels[2]
        by_day: dict[tuple[int, Who], list[tuple[int, Who]]] = defaultdict(list)
        for hour, who in quarters.keys() | rows.keys() | hours.keys():
            by_day[hour // DAY_MS * DAY_MS, who].append((hour, who))
        right: Cells = {}
        for day, inside in by_day.items():
            sums = {key: self._sum(quarters.get(key, {}).values()) for key in inside}
            hours_hold = self._sum(hours[key] for key in inside if key in hours) == days.get(day)
            quarters_hold = self._sum(value for value in sums.values() if value is not None) == days.get(day)
            rows_hold = self._sum(
                value for key in inside for value in rows.get(key, {}).values()
            ) == days.get(day)
            for key in inside:
                cells = quarters.get(key, {})
                if key[0] >= self._complete:
                    agreed = sums[key] == hours.get(key) and (hours_hold or not rows_hold)
                    agreed = agreed and (key in hours or not self._cells_lost)
                    cells = self._by_rows(key, cells, rows.get(key, {}), agreed=agreed)
                elif (
                    sums[key] != hours.get(key)
                    and (hours_hold or not quarters_hold)
                    and hours.get(key) != BROKEN
                ):
                    cells = self._by_hour(key, cells, hours.get(key))
                right |= {bucket: value for bucket, value in cells.items() if value != BROKEN}
        return right

    def _by_rows(self, key: tuple[int, Who], cells: Cells, rows: Cells, *, agreed: bool) -> Cells:
        if cells == rows or not agreed:
            return rows
        # Two grains say the same and the rows something else: a row is damaged or lost, the sums are right.
        kept, told = self._sum(cells.values()), self._sum(rows.values())
        if self._kind.table == "rollup":
            shown = self._kind.shown
            self._notes.append(
                Difference(
                    "requests",
                    HOUR_MS // 1000,
                    key[0],
                    key[1][0],
                    key[1][1],
                    shown(told, kept),
                    shown(kept, told),
                    "keep",
                )
            )
        return cells

    def _by_hour(self, key: tuple[int, Who], cells: Cells, hour: Value | None) -> Cells:
        if hour is None:
            return {}
        first = min((bucket for bucket, _ in cells), default=key[0])
        self._to_the_hour.add((first, key[1]))
        return {(first, key[1]): hour}

    def _coarser(self, cells: Cells, grain: int) -> Cells:
        groups = _grouped(cells, grain)
        return {key: self._kind.merge(list(inside.values())) for key, inside in groups.items()}

    def _sum(self, values: Iterable[Value]) -> Value | None:
        gathered = list(values)
        return self._kind.merge(gathered) if gathered else None

    def _note(self, grain: int, key: tuple[int, Who], stored: Value | None, right: Value | None) -> None:
        bucket, who = key
        remedy: Literal["rows", "cells", "hour"] = "rows" if bucket >= self._complete else "cells"
        if grain == QUARTER_MS and key in self._to_the_hour:
            remedy = "hour"
        shown = self._kind.shown
        self._notes.append(
            Difference(
                self._kind.table,
                grain // 1000,
                bucket,
                who[0],
                who[1] if len(who) > 1 else None,
                shown(stored, right),
                shown(right, stored),
                remedy,
                right,
            )
        )


def _grouped(cells: Mapping[tuple[int, Who], Value], grain: int) -> dict[tuple[int, Who], Cells]:
    """Return the cells inside each cell of ``grain``."""
    groups: dict[tuple[int, Who], Cells] = defaultdict(dict)
    for (bucket, who), value in cells.items():
        groups[bucket // grain * grain, who][bucket, who] = value
    return groups
