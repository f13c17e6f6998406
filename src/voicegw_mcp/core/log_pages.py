"""Pages of the request log, with keyset cursors and within the byte budget of an answer; following is ``core.log_following``.

Text in the log was written by providers and agents: it is shown as data, escaped and cut. May import ``store``,
``domain``, ``errors``, ``core`` and pydantic.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache, partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import TypeAdapter

from voicegw_mcp.core.answer_size import MOST_BYTES, fitting_views
from voicegw_mcp.core.answers import Answer
from voicegw_mcp.core.costs import Units, show_units
from voicegw_mcp.core.cursors import decode_cursor, encode_cursor
from voicegw_mcp.core.periods import iso
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.domain import to_usd
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.failures import decoding
from voicegw_mcp.store.requests import MOST_MESSAGE_CHARACTERS, number_of, read_lines, read_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from voicegw_mcp.store.reader import Reads
    from voicegw_mcp.store.requests import LogFilter, LogLine, LogRow

R = TypeVar("R", "LogLine", "LogRow")

Detail = Literal["concise", "full"]

_NAME_CHARACTERS: Final = 200
_MOST_INTEGER: Final = 2**63 - 1
ENVELOPE_BYTES: Final = 200
"""Bytes of a page besides its rows."""


class LogEntry(Answer):
    """One request. Times are ISO 8601 in UTC, latencies ms; cost is absent when unpriced.

    ``units`` and the fields behind it are there only with ``detail="full"``.
    """

    id: str
    timestamp: str
    project: str
    modality: str
    model_id: str
    provider: str
    status: str
    cost_usd: float | None = None
    ttfb_ms: float | None = None
    total_latency_ms: float | None = None
    session_id: str | None = None
    error_message: str | None = None
    units: Units | None = None
    price_source: str | None = None
    price_date: str | None = None
    price_version: str | None = None
    unit_price: str | None = None
    error_kind: str | None = None
    fallback_from: str | None = None
    estimated: bool | None = None


class LogPage(Answer):
    """The answer of ``get_logs``. ``truncated`` says that the page was cut to the byte budget.

    The last ``new_count`` of ``logs`` are rows that came in while the log was followed, in the order they came in.
    """

    logs: list[LogEntry]
    count: int
    new_count: int | None = None
    next_cursor: str | None = None
    truncated: bool | None = None


def log_page(
    reads: Reads,
    query: LogFilter,
    *,
    limit: int = 50,
    cursor: str | None = None,
    detail: Detail = "concise",
    most_bytes: int = MOST_BYTES,
) -> LogPage:
    """Return one page of the log.

    Args:
        reads: the log, or a part of it.
        query: filters and order.
        limit: rows at most; a page of long rows has fewer, is marked ``truncated``, and goes on with its cursor.
        cursor: ``next_cursor`` of the page before, from a call with the same query.
        detail: ``full`` adds units, price, error kind and longer error text.
        most_bytes: of the answer, in compact JSON.

    Raises:
        InvalidInput: field ``cursor`` (not ours, or another query's) or ``limit``.
        StoreUnavailable: the store cannot be read.
    """
    if limit < 1:
        raise InvalidInput(f"limit {limit} is less than 1.", field="limit", hint="Use 1 or more.")
    described = asdict(query)
    after = None if cursor is None else _place(reads, decode_cursor(cursor, described), query)
    # One row more than asked for tells whether there is a next page.
    if detail == "full":
        rows = read_log(reads, query, limit=limit + 1, after=after)
        with decoding(reads.path):
            entries = _fitting(rows[:limit], partial(view_rows, detail=detail), most_bytes)
    else:
        rows = read_lines(reads, query, limit=limit + 1, after=after)
        with decoding(reads.path):
            entries = _fitting(rows[:limit], _view_lines, most_bytes)
    kept = len(entries)
    more = len(rows) > kept
    return LogPage(
        logs=entries,
        count=kept,
        # Named by its id: the number would tell who sees some projects how many rows all of them have.
        next_cursor=encode_cursor(described, [rows[kept - 1].timestamp_ms, rows[kept - 1].id])
        if more
        else None,
        truncated=kept < min(limit, len(rows)) or None,
    )


def _place(reads: Reads, position: list[str | int], query: LogFilter) -> tuple[int, int]:
    match position:
        case [int(timestamp_ms), str(row_id)] if abs(timestamp_ms) <= _MOST_INTEGER:
            number = number_of(reads, row_id)
            # Rows are pruned by time: with this one went all of its millisecond.
            return timestamp_ms, (
                0 if query.order == "newest" else _MOST_INTEGER
            ) if number is None else number
        case _:
            raise InvalidInput(
                "cursor is not one of this list.",
                field="cursor",
                hint="Pass next_cursor of the page before unchanged, or leave cursor out to begin anew.",
            )


def view_rows(rows: Iterable[LogRow], detail: Detail) -> list[LogEntry]:
    """Return what is shown of rows: text of others escaped and cut."""
    view = _view_in_full if detail == "full" else _view
    return _entries().validate_python([view(row) for row in rows])


def _view_lines(rows: Iterable[LogLine]) -> list[LogEntry]:
    return _entries().validate_python([_view(row) for row in rows])


def _fitting(
    rows: Sequence[R], view: Callable[[Sequence[R]], list[LogEntry]], most_bytes: int
) -> list[LogEntry]:
    """Return what is shown of the first rows; at least of one, however long it is, or a cursor would lead nowhere."""
    return fitting_views(rows, view, most_bytes - ENVELOPE_BYTES) or view(rows[:1])


@cache
def _entries() -> TypeAdapter[list[LogEntry]]:
    """Return what makes entries in one go: 50 of them in half the time of one by one."""
    return TypeAdapter(list[LogEntry])


def _view(row: LogLine | LogRow, message_characters: int = _NAME_CHARACTERS) -> dict[str, object]:
    return {
        "id": _named(row.id),
        "timestamp": iso(row.timestamp_ms, "UTC", milliseconds=True),
        "project": _named(row.project),
        "modality": row.modality,
        "model_id": _named(row.model_id),
        "provider": _named(row.provider),
        "status": row.status,
        "cost_usd": None if row.cost_nanousd is None else to_usd(row.cost_nanousd),
        "ttfb_ms": None if row.ttfb_us is None else row.ttfb_us / 1000,
        "total_latency_ms": None if row.total_us is None else row.total_us / 1000,
        "session_id": _optional(row.session_id),
        "error_message": _optional(row.error_message, message_characters),
    }


def _view_in_full(row: LogRow) -> dict[str, object]:
    return {
        **_view(row, MOST_MESSAGE_CHARACTERS),
        "units": show_units(row.usage()),
        "price_source": _optional(row.price_source or None),
        "price_date": _optional(row.price_date or None),
        "price_version": _optional(row.price_version or None),
        "unit_price": _optional(row.price_terms or None),
        "error_kind": _optional(row.error_kind),
        "fallback_from": _optional(row.fallback_from),
        "estimated": bool(row.estimated),
    }


def _named(text: str) -> str:
    return escape_untrusted(text, _NAME_CHARACTERS)


def _optional(text: str | None, limit: int = _NAME_CHARACTERS) -> str | None:
    return None if text is None else escape_untrusted(text, limit)
