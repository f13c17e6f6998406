"""Rows of the log whose cost is worked out anew: reading them, changing them with all that is made of them, and the record of it.

One transaction changes a few rows, their sums in all grains and the record of the run: whoever reads in between, or after a
kill, sees totals that agree with the rows. What a row costs is decided outside of it: the writer is held for no price. May
import ``domain`` and ``store``.
"""

# Statements are put together from names in this file; values always travel as parameters.
# ruff: noqa: S608

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from voicegw_mcp.domain import MOST_COUNT, QUARTER_MS, Usage
from voicegw_mcp.errors import InvalidInput, quote
from voicegw_mcp.store.log_indexes import change_rows
from voicegw_mcp.store.log_rows import FAMILY
from voicegw_mcp.store.requests import Numbers
from voicegw_mcp.store.retention import pruned_before
from voicegw_mcp.store.rollup_writing import change_costs
from voicegw_mcp.store.rollups import COUNTED
from voicegw_mcp.store.text import storable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from voicegw_mcp.store.reader import Reads

BATCH_ROWS: Final = 500
"""Rows of one transaction: other writers wait for about 15 ms."""
READ_ROWS: Final = 2_000
"""Numbers of rows that are looked at in one read."""

_ENDLESS_MS: Final = 2**62


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows: of ``[start_ms, end_ms)`` (UTC epoch ms), of one model, only those without a cost. None is any."""

    start_ms: int | None = None
    end_ms: int | None = None
    model_id: str | None = None
    unpriced_only: bool = False

    def span(self) -> tuple[int, int]:
        """Return the bounds as numbers."""
        return (
            0 if self.start_ms is None else self.start_ms,
            _ENDLESS_MS if self.end_ms is None else self.end_ms,
        )

    def model(self) -> tuple[str, ...]:
        """Return the parameter of a test for the model, if there is one."""
        return () if self.model_id is None else (storable(self.model_id),)


class PricedRow(NamedTuple):
    """What of a row its cost hangs on, and by which price it was worked out; ``told`` says whether it has an error text."""

    seq: int
    timestamp_ms: int
    series_id: int
    status: str
    audio_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    characters: int
    cost_nanousd: int | None
    price_id: int
    total_us: int | None
    told: int
    project: str
    modality: str
    provider: str
    model_id: str
    price_source: str
    price_version: str
    price_model: str
    price_terms: str
    price_batch: int

    def usage(self) -> Usage:
        """Return the billed units."""
        return Usage(
            self.audio_ms, self.input_tokens, self.output_tokens, self.cached_tokens, self.characters
        )


class Repriced(NamedTuple):
    """A row with its new cost (nano-USD, None is unpriced), and the new price: source, date, version, model, terms, batch."""

    row: PricedRow
    cost_nanousd: int | None
    price: tuple[str | int, ...]


class Run(NamedTuple):
    """What one run changed of one model's rows; times are UTC epoch ms, money nano-USD."""

    run: str
    model_id: str
    actor: str
    first_ms: int
    last_ms: int
    requests: int
    before_nanousd: int
    after_nanousd: int
    unpriced_before: int
    unpriced_after: int


_OF_REQUESTS: Final = PricedRow._fields[: PricedRow._fields.index("told")]
_SELECT: Final = (
    f"SELECT {', '.join(f'requests.{name}' for name in _OF_REQUESTS)}, error_message IS NOT NULL, project, modality, "
    "provider, model_id, price.source, price.version, price.model, price.terms, price.batch FROM requests NOT INDEXED "
    "JOIN series ON series.series_id = requests.series_id JOIN price ON price.price_id = requests.price_id"
)
_CHANGE: Final = (
    "UPDATE requests SET cost_nanousd = ?, price_id = ? WHERE seq = ? AND cost_nanousd IS ? AND price_id = ?"
)
_CREDIT: Final = (
    "INSERT INTO credited (series_id, nanousd) VALUES (?, ?) "
    "ON CONFLICT (series_id) DO UPDATE SET nanousd = credited.nanousd + excluded.nanousd"
)
_SUMMED: Final = ("requests", "before_nanousd", "after_nanousd", "unpriced_before", "unpriced_after")
_RECORD: Final = (
    f"INSERT INTO repriced ({', '.join(Run._fields)}) VALUES ({', '.join('?' for _ in Run._fields)}) "
    "ON CONFLICT (run, model_id) DO UPDATE SET last_ms = excluded.last_ms, "
    + ", ".join(f"{name} = repriced.{name} + excluded.{name}" for name in _SUMMED)
)


def numbers_of(reads: Reads, selection: Selection) -> tuple[int, int]:
    """Return the lowest and the highest number of a row of the time, (1, 0) when there is none."""
    rows = reads.read(
        "SELECT COALESCE(MIN(seq), 1), COALESCE(MAX(seq), 0) FROM requests WHERE timestamp_ms >= ? AND timestamp_ms < ?",
        selection.span(),
    )
    return rows[0][0], rows[0][1]


def read_rows(reads: Reads, selection: Selection, *, first: int, last: int) -> list[PricedRow]:
    """Return the rows of the selection that are numbered ``first`` to ``last``, in that order."""
    tests = "" if selection.model_id is None else " AND series.model_id = ?"
    tests += " AND cost_nanousd IS NULL" if selection.unpriced_only else ""
    rows = reads.read(
        f"{_SELECT} WHERE seq >= ? AND seq <= ? AND timestamp_ms >= ? AND timestamp_ms < ?{tests} ORDER BY seq",
        (first, last, *selection.span(), *selection.model()),
    )
    return [PricedRow._make(row) for row in rows]


def recorded_models(reads: Reads) -> list[str]:
    """Return the ids of all models that ever had a request."""
    return [row[0] for row in reads.read("SELECT DISTINCT model_id FROM series ORDER BY model_id")]


def read_pruned(reads: Reads, selection: Selection) -> tuple[int, int]:
    """Return how many requests of the selection are counted in sums and have no row any more, and up to when (UTC epoch ms).

    Of a time that begins or ends inside a quarter of an hour, those of the whole quarter.
    """
    found = reads.read("SELECT pruned_before_ms FROM retention")
    start, end = selection.span()
    start, end = start // QUARTER_MS * QUARTER_MS, min(end, found[0][0] if found else 0)
    end = -(-end // QUARTER_MS) * QUARTER_MS
    if start >= end:
        return 0, 0
    values = selection.model()
    model = " AND series_id IN (SELECT series_id FROM series WHERE model_id = ?)" if values else ""
    counted = "COALESCE(SUM(unpriced), 0)" if selection.unpriced_only else "COALESCE(SUM(requests), 0)"
    there = "COALESCE(SUM(cost_nanousd IS NULL), 0)" if selection.unpriced_only else f"COALESCE({COUNTED}, 0)"
    rows = reads.read(
        f"SELECT (SELECT {counted} FROM rollup WHERE grain_s = {QUARTER_MS // 1000} AND bucket_ms >= ? AND bucket_ms < ?{model})"
        f" - (SELECT {there} FROM requests WHERE timestamp_ms >= ? AND timestamp_ms < ?{model})",
        (start, end, *values, start, end, *values),
    )
    return rows[0][0], end


def apply(
    connection: sqlite3.Connection, changes: Sequence[Repriced], *, run: str, actor: str, now_ms: int
) -> list[Repriced]:
    """Give rows their new costs, in the caller's transaction: rows, sums of all grains, indexes and the record of the run.

    Args:
        connection: in a transaction.
        changes: at most ``BATCH_ROWS``, each row once.
        run: the id of the run.
        actor: who asked for it.
        now_ms: the current time, UTC epoch ms.

    Returns:
        Those that were changed: a row that was pruned, or changed by somebody else since it was read, is left alone.

    Raises:
        InvalidInput: ``pricing``: a cost is absurdly high; nothing is then changed.
    """
    for each in changes:
        if (each.cost_nanousd or 0) >= MOST_COUNT:
            raise InvalidInput(
                f"A request of {quote(each.row.model_id)} would cost {each.cost_nanousd} nano-USD; the most is {MOST_COUNT - 1}.",
                field="pricing",
                hint="Correct its price under pricing: in voicegw.yaml, and run this again.",
            )
    numbers, done = Numbers(connection), list[Repriced]()
    texts = [(each.row.seq, each.row.timestamp_ms) for each in changes if each.row.told]
    change_rows(connection, partial(_change, connection, changes, numbers, done), texts)
    change_costs(
        connection,
        [
            (
                each.row.timestamp_ms,
                each.row.series_id,
                each.row.status,
                each.row.total_us,
                each.row.cost_nanousd,
                each.cost_nanousd,
                (FAMILY in str(each.price[0])) - (FAMILY in each.row.price_source),
            )
            for each in done
        ],
        complete_ms=pruned_before(connection),
    )
    lowered: Counter[int] = Counter()
    by_model: dict[str, list[Repriced]] = {}
    for each in done:
        by_model.setdefault(each.row.model_id, []).append(each)
        lowered[each.row.series_id] += max(0, (each.row.cost_nanousd or 0) - (each.cost_nanousd or 0))
    connection.executemany(_CREDIT, (+lowered).items())
    connection.executemany(
        _RECORD,
        [
            Run(
                run,
                model_id,
                storable(actor),
                now_ms,
                now_ms,
                len(own),
                sum(each.row.cost_nanousd or 0 for each in own),
                sum(each.cost_nanousd or 0 for each in own),
                sum(each.row.cost_nanousd is None for each in own),
                sum(each.cost_nanousd is None for each in own),
            )
            for model_id, own in by_model.items()
        ],
    )
    return done


def read_runs(reads: Reads, *, limit: int) -> list[Run]:
    """Return what the last ``limit`` runs changed, the newest first, by model."""
    rows = reads.read(
        f"SELECT {', '.join(Run._fields)} FROM repriced WHERE run IN "
        "(SELECT DISTINCT run FROM repriced ORDER BY run DESC LIMIT ?) ORDER BY run DESC, model_id",
        (limit,),
    )
    return [Run._make(row) for row in rows]


def _change(
    connection: sqlite3.Connection, changes: Sequence[Repriced], numbers: Numbers, done: list[Repriced]
) -> None:
    for each in changes:
        row = each.row
        values = (
            each.cost_nanousd,
            numbers.price(*each.price),
            row.seq,
            row.cost_nanousd,
            row.price_id,
        )
        if connection.execute(_CHANGE, values).rowcount:
            done.append(each)
