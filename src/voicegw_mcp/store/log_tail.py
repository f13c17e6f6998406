"""Waits for new rows of the request log, whichever process inserts them. May import ``store``.

One task polls however many wait, and nobody polls while nobody waits: whoever holds the turn looks, the others stand in
line behind it. There is no task to start or to end, so that a caller who goes away leaves nothing behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import anyio

from voicegw_mcp.store.requests import newest_number

if TYPE_CHECKING:
    from voicegw_mcp.store.reader import Reader
    from voicegw_mcp.store.sqlite import Stamp, Store

POLL_S: Final = 0.2
"""How often is looked: two ``stat`` each time, and one query when they differ."""


class LogTails:
    """One tail for each reader: who is bound to projects is not woken by the rows of others."""

    def __init__(self) -> None:
        self._tails: WeakKeyDictionary[Reader, _Tail] = WeakKeyDictionary()

    async def wait(self, store: Store, reader: Reader, seen: int) -> None:
        """Return once ``reader`` shows a row whose number is above ``seen``.

        Args:
            store: whose files tell that something was written.
            reader: of the store, or of some projects of it.
            seen: ``LogRow.seq`` of the newest row that is known.

        Raises:
            StoreUnavailable: locked, damaged, or closed.
        """
        tail = self._tails.get(reader)
        if tail is None:
            tail = self._tails[reader] = _Tail()
        await tail.wait(store, reader, seen)


class _Tail:
    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._newest = 0
        self._stamp: Stamp | None = None

    async def wait(self, store: Store, reader: Reader, seen: int) -> None:
        while self._newest <= seen:
            async with self._turn:
                if self._newest <= seen:
                    await self._look(store, reader)
                if self._newest <= seen:
                    await anyio.sleep(POLL_S)

    async def _look(self, store: Store, reader: Reader) -> None:
        stamp = store.stamp()
        if stamp != self._stamp:
            self._newest = await newest_number(reader, self._newest)
            self._stamp = stamp if stamp.is_settled() else None
