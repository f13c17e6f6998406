"""The open store of a gateway: opened when it is first needed, checked once, and what is known of it without a query.

A file that was deleted or replaced is opened anew: what is written into the old one is gone with it.

May import ``config``, ``store``, ``errors`` and ``core.recovery``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from voicegw_mcp.core.recovery import Drift, describe_drift
from voicegw_mcp.domain import QUARTER_MS
from voicegw_mcp.errors import StoreUnavailable
from voicegw_mcp.store.audit import require_names
from voicegw_mcp.store.failures import translated
from voicegw_mcp.store.losses import Loss, read_losses
from voicegw_mcp.store.rollups import recorded_requests, recorded_span
from voicegw_mcp.store.schema import choose_path, identity
from voicegw_mcp.store.sqlite import Stamp, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.store.reader import Reads


_COMPARING_S: Final = 0.05


class Figures(NamedTuple):
    """What get_health tells of a store.

    Its ``path``, ``requests`` ever recorded and the last quarter hour of them (UTC epoch ms), bytes, what recorders lost, and how the
    file differs from the journal ("").
    """

    path: Path
    requests: int
    last_ms: int
    size_bytes: int
    losses: list[Loss]
    drift: str


class StoreHandle:
    """Opens the store when it is first needed, again after a failure, and elsewhere when its path changed.

    Args:
        read_path: gives the path to open; raises ConfigInvalid while it cannot be known.
        opened: what to do with a store before it is used.
        used: what to do with it whenever it is asked for; must cost nothing.
        read_only: neither make, migrate nor change it; until somebody else has made it, it is empty.
    """

    def __init__(
        self,
        read_path: Callable[[], Path],
        opened: Callable[[Store], Awaitable[None]] | None = None,
        *,
        used: Callable[[Store], None] = lambda _store: None,
        read_only: bool = False,
    ) -> None:
        self._used = used
        self._checking = anyio.Lock()
        self._sound: Store | None = None
        self._read_path = read_path
        self._opened = opened
        self.read_only = read_only
        self._opening = anyio.Lock()
        self._store: Store | None = None
        self._asked: Path | None = None
        self._file: tuple[int, int] | None = None
        self._counted: tuple[Stamp | None, int, int, list[Loss]] = (None, 0, 0, [])
        self._drift: Drift | None = None
        self._attempt = 0
        self._failure: StoreUnavailable | None = None

    def wanted_path(self) -> Path:
        """Return the path the configuration and environment name."""
        return self._read_path()

    async def figures(self, files: ConfigFile) -> Figures:
        """Return what get_health tells of the store; looks again only at what changed.

        Each time, sums that no report has read yet are compared for a moment, until all were.

        Raises:
            StoreUnavailable: sums differ, or as ``sound``.
        """
        store = await self.sound()
        agreed = store.shared.agreed
        if not agreed.complete:
            await store.ask(agreed.require_more, _COMPARING_S)
        stamp = store.stamp()
        if stamp != self._counted[0]:
            settled = stamp if stamp.is_settled() else None
            self._counted = settled, *await store.ask(_count)
        key = (stamp, files.stamps_read())
        if self._drift is None or self._drift.key != key:
            self._drift = await store.ask(describe_drift, files.disks(), key, self._drift)
        _, requests, last_ms, losses = self._counted
        return Figures(store.path, requests, last_ms, stamp.size_bytes(), losses, self._drift.text)

    async def sound(self) -> Store:
        """Return the open store, whose names were looked at once; sums are compared when a report reads them.

        Raises:
            StoreUnavailable: some are missing, or as ``get``.
        """
        store = await self.get()
        if self._sound is not store:
            async with self._checking:
                if self._sound is not store:
                    await store.ask(require_names)
                    self._sound = store
        return store

    async def get(self) -> Store:
        """Return the open store.

        Raises:
            StoreUnavailable: it is locked, damaged, or newer than this program; the next call tries again.
        """
        path = self._read_path()
        if self._store is not None and self._is_current(self._store, path):
            self._used(self._store)
            return self._store
        attempt = self._attempt
        async with self._opening:
            if self._store is None or not self._is_current(self._store, path):
                if attempt != self._attempt and self._failure is not None:
                    # Someone failed while we waited; one more span of patience each would add up.
                    raise _again(self._failure)
                return await self._open(path)
        return self._store

    def _is_current(self, store: Store, path: Path) -> bool:
        # To compare paths takes longer than the look below.
        if path is not self._asked and path != self._asked:
            return False
        try:
            return identity(store.path) == self._file
        except OSError:  # the disk does not say; whoever reads will
            return True

    async def _open(self, path: Path) -> Store:
        old = self._forget()
        if old is not None:
            await old.retire()
        self._attempt, self._failure = self._attempt + 1, None
        try:
            chosen = await anyio.to_thread.run_sync(choose_path, path)
            store = await Store.open(chosen, read_only=self.read_only)
            try:
                with translated(chosen):
                    self._file = identity(chosen)
                if self._opened is not None:
                    await self._opened(store)
            except BaseException:
                await store.close()
                raise
        except StoreUnavailable as error:
            self._failure = error
            raise
        self._store, self._asked = store, path
        self._used(store)
        return store

    async def close(self) -> None:
        """Close it; closing twice is fine."""
        async with self._opening:
            store = self._forget()
            if store is not None:
                await store.close()

    def _forget(self) -> Store | None:
        store, self._store, self._sound = self._store, None, None
        self._counted = None, 0, 0, []
        return store


def _count(reads: Reads) -> tuple[int, int, list[Loss]]:
    requests, span = recorded_requests(reads), recorded_span(reads)
    return requests, 0 if span is None else span[1] - QUARTER_MS, read_losses(reads)


def _again(error: StoreUnavailable) -> StoreUnavailable:
    """Return the same answer for another caller."""
    return StoreUnavailable(error.message, hint=error.hint, details=error.details)
