"""/v1/logs: pages as JSON, exports as CSV and NDJSON, and new rows as they come in. May import ``web.api``, ``tools``, ``core``."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from pydantic_core import to_json

from voicegw_mcp.core.costs import Units
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.log_following import followed_from, stream_log
from voicegw_mcp.core.log_pages import LogEntry, LogPage, log_page
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.tools.define import tool
from voicegw_mcp.web.api.answers import Logs
from voicegw_mcp.web.api.streams import EVENTS, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from voicegw_mcp.store.reader import Reader
    from voicegw_mcp.store.requests import LogFilter

PATH: Final = "/v1/logs"
JSON: Final = "application/json"
CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"
TYPES: Final = (JSON, CSV, NDJSON, EVENTS)

DEFAULT_LIMIT: Final = 100
EXPORTED_AT_ONCE: Final = 500
"""Rows of an export that are in memory together."""

MOST_PAGE_BYTES: Final = 8 * 1024 * 1024
"""Of a page: a thousand rows with the longest texts fit. What a model reads is cut at 32 KB; this is for programs."""

_UNITS: Final = tuple(Units.model_fields)
COLUMNS: Final = tuple(
    name for field in LogEntry.model_fields for name in (_UNITS if field == "units" else (field,))
)
"""Of a CSV: the keys of a row, those of its units in their place."""

_HEADING: Final = f"{','.join(COLUMNS)}\r\n".encode()

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


@tool("Request log", read_only=True)
async def logs(gateway: Gateway, args: Logs) -> LogPage:
    """Give logged requests: a page, an export of all (CSV, NDJSON), or new ones as they come in (server-sent events)."""
    store, query = await args.prepare(gateway)
    return await _page(store, query, args, args.limit or DEFAULT_LIMIT, args.cursor)


LOGS: Final = replace(logs, name=PATH)


def show_page(page: LogPage, given: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    """Return the rows of a page as JSON, and the header that leads to the next one (RFC 8288).

    Args:
        page: the answer.
        given: the parameters as they came.
    """
    headers: dict[str, str] = {}
    if page.next_cursor is not None:
        behind = urlencode({**given, "cursor": page.next_cursor})
        headers["link"] = f'<{PATH}?{behind}>; rel="next"'
    return to_json(page.logs, exclude_none=True), headers


async def export(gateway: Gateway, args: Logs, kind: str) -> Stream[LogPage]:
    """Return all rows that are asked for, as CSV or NDJSON; a bounded number of them is in memory at a time."""
    store, query = await args.prepare(gateway)
    write = _csv if kind == CSV else _ndjson
    pages = _pages(store, query, args)
    first = await anext(pages)
    headers = {"vary": "Accept"}
    if kind == CSV:
        headers["content-disposition"] = 'attachment; filename="voicegw-logs.csv"'
    return Stream(kind, (_HEADING if kind == CSV else b"") + write(first), pages, write, headers)


async def follow(gateway: Gateway, args: Logs, last_event: str | None) -> Stream[LogPage]:
    """Return new rows as events, each once, with ids to go on from.

    Args:
        gateway: as its caller may see it.
        args: the parameters; ``cursor`` is the id of an event.
        last_event: the id that a client sends when it comes again, which counts more.
    """
    _, query = await args.prepare(gateway)
    cursor = last_event or args.cursor
    after = followed_from(cursor, query)
    if cursor is not None and after is None:
        raise InvalidInput(
            "cursor is that of a page; following goes on from the id of an event.",
            field="cursor",
            hint="Leave cursor out to follow from now on.",
        )
    pages = stream_log(gateway, query, after=after, earlier=args.limit or 0, detail=args.detail)
    first = await anext(pages)
    earlier = first.count - (first.new_count or 0)
    if query.order == "newest":  # what comes in comes last, so the past goes the same way
        past = first.logs[:earlier]
        first = first.model_copy(update={"logs": [*reversed(past), *first.logs[earlier:]]})
    return Stream(
        EVENTS,
        b": following\n\n" + _events(first),
        pages,
        _events,
        {"x-accel-buffering": "no", "vary": "Accept"},
    )


async def _page(store: Reader, query: LogFilter, args: Logs, limit: int, cursor: str | None) -> LogPage:
    return await store.ask(
        log_page, query, limit=limit, cursor=cursor, detail=args.detail, most_bytes=MOST_PAGE_BYTES
    )


async def _pages(store: Reader, query: LogFilter, args: Logs) -> AsyncGenerator[LogPage]:
    left, cursor = args.limit, args.cursor
    while True:
        limit = EXPORTED_AT_ONCE if left is None else min(left, EXPORTED_AT_ONCE)
        page = await _page(store, query, args, limit, cursor)
        yield page
        left, cursor = None if left is None else left - page.count, page.next_cursor
        if cursor is None or left == 0:
            return


def _csv(page: LogPage) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    for entry in page.logs:
        row: dict[str, Any] = entry.as_json()
        row |= row.pop("units", {})
        writer.writerow([harmless(row.get(name, "")) for name in COLUMNS])
    return text.getvalue().encode()


def _ndjson(page: LogPage) -> bytes:
    return b"".join(entry.model_dump_json(exclude_none=True).encode() + b"\n" for entry in page.logs)


def harmless(value: object) -> object:
    """Return a cell that no spreadsheet computes: a text that begins like a formula has an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _events(page: LogPage) -> bytes:
    """Return the rows of a page as events; the last one has the id to go on from.

    So that a client that comes again gets all rows of a page of which it got a part. Nothing in JSON is a line's end.
    """
    parts: list[bytes] = []
    for number, entry in enumerate(page.logs, start=1):
        data = entry.model_dump_json(exclude_none=True).encode()
        mark = f"id: {page.next_cursor}\n".encode() if number == page.count else b""
        parts.append(b"%bevent: log\ndata: %b\n\n" % (mark, data))
    return b"".join(parts)
