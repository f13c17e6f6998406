"""Waits for new rows of the request log, whichever process inserts them. May import ``store``.

One task polls however many wait, and nobody polls while nobody waits: whoever holds the turn looks, the others stand in
line behind it. There is no task to start or to end, so that a caller who goes away leaves nothing behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import anyio

from voicegw_mcp.store.requests import last_number, newest_number

if TYPE_CHECKING:
    from voicegw_mcp.store.reader import Reader, Reads
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
    """All rows numbered above ``_from`` and up to ``_up_to`` were looked at; ``_newest`` is the last of them that is seen."""

    def __init__(self) -> None:
        self._turn = anyio.Lock()
        self._newest = 0
        self._from: int | None = None
        self._up_to = 0
        self._stamp: Stamp | None = None

    async def wait(self, store: Store, reader: Reader, seen: int) -> None:
        while self._newest <= seen:
            async with self._turn:
                if self._newest <= seen:
                    await self._look(store, reader, seen)
                if self._newest <= seen:
                    await anyio.sleep(POLL_S)

    async def _look(self, store: Store, reader: Reader, seen: int) -> None:
        stamp = store.stamp()
        if self._from is None or seen < self._from:
            self._from = self._up_to = seen
        elif stamp == self._stamp:
            return
        last, newest = await reader.ask(_newest, self._up_to)
        if newest > self._up_to:
            self._newest = max(self._newest, newest)
        self._up_to = max(self._up_to, last)
        self._stamp = stamp if stamp.is_settled() else None


def _newest(reads: Reads, above: int) -> tuple[int, int]:
    return last_number(reads), newest_number(reads, above)
