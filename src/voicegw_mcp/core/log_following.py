"""Follows the request log: what comes in while a call waits, each row once, and a cursor to go on from.

The order is that in which rows came in, not that of their timestamps: a row that is recorded late, with an older time,
would stand before a place that was passed already. May import ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import anyio

from voicegw_mcp.core.answer_size import MOST_BYTES, fitting, json_bytes
from voicegw_mcp.core.cursors import decode_cursor, encode_cursor
from voicegw_mcp.core.log_pages import ENVELOPE_BYTES, LogPage, log_page, view_rows
from voicegw_mcp.errors import InvalidInput
from voicegw_mcp.store.failures import decoding
from voicegw_mcp.store.requests import id_at, last_number, newest_number, number_of, read_arrivals

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.core.log_pages import Detail, LogEntry
    from voicegw_mcp.store.reader import Reads
    from voicegw_mcp.store.requests import LogFilter

AT_ONCE: Final = 500
"""Rows of one page of a stream at most."""

_AFTER: Final = "after"
"""The first part of a place to follow from; places of pages have numbers only."""


def followed_from(cursor: str | None, query: LogFilter) -> str | None:
    """Return the id of the row behind which a cursor goes on following ("": of none), None for one of a page or none.

    Raises:
        InvalidInput: field ``cursor``; it is not ours, or of another query.
    """
    match decode_cursor(cursor, asdict(query)) if cursor is not None else []:
        case [str(mark), str(row_id)] if mark == _AFTER:
            return row_id
        case _:
            return None


async def follow_log(
    gateway: Gateway, query: LogFilter, *, seconds: float, after: str | None, limit: int, detail: Detail
) -> LogPage:
    """Return a page of the log and what comes in meanwhile, or what came in since ``after``.

    Ends early when ``limit`` rows came in or the answer is full. Every batch goes to ``gateway.caller.report`` as it
    comes; the answer holds them all the same.

    Args:
        gateway: whose log, as its caller may see it.
        query: filters, and the order of the page.
        seconds: how long to wait; 0 only looks.
        after: what ``followed_from`` said; None begins now, with a page.
        limit: rows of the page at most, and new ones at most.
        detail: as of ``log_page``.

    Raises:
        InvalidInput: field ``cursor``: the log it was made for is not the one there is; field ``follow_seconds``: one call
            too many of this client follows.
        StoreUnavailable: the store cannot be read, or too many calls follow.
    """
    following = _Following(gateway, query, limit, detail)
    counted = gateway.followers.joined(gateway.caller.session()) if seconds else contextlib.nullcontext()
    with counted:
        await following.begin(after, limit)
        found = await following.collect()
        with anyio.move_on_after(seconds):
            while True:
                if found and gateway.caller.report is not None:
                    await gateway.caller.report(len(following.new), _compact(found))
                if following.is_full:
                    break
                await following.wait()
                found = await following.collect()
        return await following.answer()


async def stream_log(
    gateway: Gateway, query: LogFilter, *, after: str | None, earlier: int, detail: Detail
) -> AsyncGenerator[LogPage]:
    """Yield what comes in as pages, in the order it comes in, for as long as the caller takes them.

    The first page comes at once: what came in since ``after``, or up to ``earlier`` rows of the past. Each has a cursor to go
    on from; one without rows moved only that. A stream counts as a session of its own.

    Args:
        gateway: whose log, as its caller may see it.
        query: filters, and the order of the rows of the past.
        after: what ``followed_from`` said; None begins now.
        earlier: rows of the past at most, when it begins now.
        detail: as of ``log_page``.

    Raises:
        InvalidInput: field ``cursor``: the log it was made for is not the one there is.
        StoreUnavailable: the store cannot be read, or too many calls follow.
    """
    following = _Following(gateway, query, AT_ONCE, detail)
    with gateway.followers.joined(f"stream:{id(following)}"):
        await following.begin(after, earlier)
        while True:
            await following.collect()
            full = following.is_full
            yield await following.answer()
            following.clear()
            if not full:
                await following.wait()


class _Following:
    """What was found so far, and the number behind which the next look begins."""

    def __init__(self, gateway: Gateway, query: LogFilter, limit: int, detail: Detail) -> None:
        self._gateway = gateway
        self._query = query
        self._limit = limit
        self._detail: Detail = detail
        self._after = 0
        self._page: list[LogEntry] = []
        self._bytes_left = MOST_BYTES - ENVELOPE_BYTES
        self._page_cut = False
        self._cut = False
        self.new: list[LogEntry] = []

    @property
    def is_full(self) -> bool:
        """Whether nothing more goes into this answer."""
        return self._cut or len(self.new) >= self._limit

    def clear(self) -> None:
        """Begin the next answer at the place where this one ended."""
        self._page, self.new = [], []
        self._page_cut = self._cut = False
        self._bytes_left = MOST_BYTES - ENVELOPE_BYTES

    async def begin(self, after: str | None, earlier: int) -> None:
        """Take a page of ``earlier`` rows and the place behind it from one state of the store, or check the place to go on from."""
        reader = await self._gateway.reader()
        if after is not None:
            known = await reader.ask(number_of, after) if after else 0
            if known is None:
                raise InvalidInput(
                    "cursor is of rows that the log does not have (any more).",
                    field="cursor",
                    hint="Leave cursor out to begin anew.",
                )
            self._after = known
            return
        self._after, page = await reader.ask(_begin, self._query, earlier, self._detail)
        if page is not None:
            self._page = page.logs
            self._page_cut = page.truncated or False
            self._bytes_left -= sum(map(json_bytes, page.logs))

    async def collect(self) -> list[LogEntry]:
        """Take what came in behind the place, and move the place; cancelled, it has done neither."""
        reader = await self._gateway.reader()
        newest = await reader.ask(newest_number, self._after)
        if newest == self._after:
            return []
        room = self._limit - len(self.new)
        rows = await reader.ask(read_arrivals, self._query, after=self._after, until=newest, limit=room)
        with decoding(reader.path):
            entries = view_rows(rows, self._detail)
        sizes = list(map(json_bytes, entries))
        kept = fitting(sizes, self._bytes_left)
        if not kept and rows and not self._page and not self.new:
            kept = 1  # one row goes out however long it is, or a cursor would lead nowhere
        self._cut = kept < len(rows)
        if self._cut or len(rows) == room:
            self._after = rows[kept - 1].seq if kept else self._after
        else:
            self._after = newest
        self._bytes_left -= sum(sizes[:kept])
        self.new += entries[:kept]
        return entries[:kept]

    async def wait(self) -> None:
        """Return once anything came in behind the place."""
        store = await self._gateway.store_handle.get()
        await self._gateway.log_tails.wait(store, await self._gateway.reader(), self._after)

    async def answer(self) -> LogPage:
        """Return it all, with a cursor to go on from."""
        reader = await self._gateway.reader()
        last = await reader.ask(id_at, self._after)
        return LogPage(
            logs=[*self._page, *self.new],
            count=len(self._page) + len(self.new),
            new_count=len(self.new),
            next_cursor=encode_cursor(asdict(self._query), [_AFTER, last]),
            truncated=self._cut or self._page_cut or None,
        )


def _begin(reads: Reads, query: LogFilter, earlier: int, detail: Detail) -> tuple[int, LogPage | None]:
    page = (
        log_page(reads, query, limit=earlier, detail=detail, most_bytes=MOST_BYTES // 2) if earlier else None
    )
    return last_number(reads), page


def _compact(entries: list[LogEntry]) -> str:
    return json.dumps([entry.as_json() for entry in entries], ensure_ascii=False, separators=(",", ":"))
