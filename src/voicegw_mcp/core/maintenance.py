"""What keeps a store in order: pruning, backups, putting one back, repair. Commands ask for it, servers prune by themselves.

Backup, restore and repair work on the file itself, in a thread: the last two are there when the store cannot be opened.
May import ``config``, ``store``, ``errors`` and ``core.gateway``.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from voicegw_mcp.core.periods import iso
from voicegw_mcp.errors import ConfigInvalid, Conflict, InvalidInput
from voicegw_mcp.store import backup, repair, retention
from voicegw_mcp.store.failures import missing, translated
from voicegw_mcp.store.schema import choose_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.backup import Figures
    from voicegw_mcp.store.repair import Findings, Repair
    from voicegw_mcp.store.sqlite import Store, Transact

    Progress = Callable[[int, int], None]

T = TypeVar("T")

EVERY_S: Final = 3600.0
"""How often a server prunes."""
MOST_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class Pruned:
    """``rows`` that were deleted, or would be; all are from before ``before_ms`` (UTC epoch ms)."""

    rows: int
    before_ms: int


@dataclass(frozen=True, slots=True)
class Restored:
    """``store`` has the content of the backup; what it was is ``kept``, None when there was none."""

    store: Path
    kept: Path | None
    held: Figures
    findings: Findings


class Pruning:
    """Prunes an open store now and then while it is used; there is no task to start or to end.

    Args:
        files: say how many days rows are kept.
        now_ms: the clock.
    """

    def __init__(self, files: ConfigFile, now_ms: Callable[[], int]) -> None:
        self._files = files
        self._now_ms = now_ms
        self._due: tuple[Store | None, float] = None, 0.0

    def __call__(self, store: Store) -> None:
        """Ask the store's writer thread for a round when one is due; costs a comparison when none is."""
        now = time.monotonic()
        if store.read_only or (self._due[0] is store and now < self._due[1]):
            return
        self._due = store, now + EVERY_S
        try:
            days = self._files.load().settings.cost_tracking.retention_days
        except ConfigInvalid:
            return
        if days is not None:
            store.keep_running(partial(_prune_some, retention.horizon_for(days, self._now_ms())))


def _prune_some(before_ms: int, transact: Transact) -> bool:
    """Delete a batch and return whether there may be another one."""
    return transact(partial(retention.prune_batch, before_ms=before_ms)) == retention.BATCH_ROWS


async def prune(gateway: Gateway, *, older_than: int | None, dry_run: bool, progress: Progress) -> Pruned:
    """Delete rows of the request log that are older than so many days.

    Args:
        gateway: whose store.
        older_than: days; None for ``cost_tracking.retention_days``.
        dry_run: only count them.
        progress: called with rows deleted and rows there were.

    Raises:
        InvalidInput: neither says how many days.
        StoreUnavailable, ConfigInvalid: the store is not there, or cannot be used.
    """
    days = older_than if older_than is not None else gateway.catalog().settings.cost_tracking.retention_days
    if days is None:
        raise InvalidInput(
            "There is no cost_tracking.retention_days in the file: rows are kept for ever.",
            field="older_than",
            hint="Say how many days to keep with --older-than.",
        )
    before_ms = retention.horizon_for(days, gateway.now_ms())
    store = await _existing(gateway)
    old = await store.write(partial(retention.count_old, before_ms=before_ms))
    done = 0
    progress(0, old)
    while not dry_run:
        count = await store.write(partial(retention.prune_batch, before_ms=before_ms))
        done += count
        progress(done, max(done, old))
        if count < retention.BATCH_ROWS:
            return Pruned(done, before_ms)
    return Pruned(old, before_ms)


async def compact(gateway: Gateway) -> tuple[int, int]:
    """Give free pages of the store back to the disk; return its bytes before and after.

    Raises:
        StoreUnavailable: locked, full, damaged.
    """
    store = await gateway.store()
    before = store.stamp().size_bytes()
    await _in_thread(partial(backup.compact, store.path))
    return before, store.stamp().size_bytes()


async def back_up(gateway: Gateway, file: Path, *, force: bool, progress: Progress) -> Figures:
    """Copy the store into ``file`` while others may write, and verify the copy; see ``store.backup.back_up``."""
    store = await _existing(gateway)
    return await _in_thread(partial(backup.back_up, store.path, file, force=force, progress=progress))


async def restore(gateway: Gateway, file: Path, *, force: bool, progress: Progress) -> Restored:
    """Verify a backup and let it take the place of the store, which stays beside it.

    Args:
        gateway: whose store; nobody may have it open.
        file: the backup.
        force: also when its sums and rows contradict each other.
        progress: called with spans of eight days compared, and spans in all.

    Raises:
        InvalidInput: ``file`` is no store of ours, is damaged, or newer than this program.
        Conflict: it contradicts itself.
        StoreUnavailable: another process has the store open, or the disk refuses.
    """
    wanted = await _path(gateway)
    stamp = _stamp(gateway)
    kept = wanted.with_name(f"{wanted.name}.before-restore-{stamp}")

    def work() -> Restored:
        there = wanted.exists()
        if there and file.exists() and file.samefile(wanted):
            raise InvalidInput(f"{file} is the store itself.", field="file", hint="Name a backup.")
        wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy = wanted.with_name(f"{wanted.name}.restoring-{stamp}")
        try:
            backup.copy_file(file, copy)
            held, findings = backup.verify(copy, file, progress)
            if not findings.is_clean() and not force:
                count = len(findings.differences) + len(findings.strays) + len(findings.nameless)
                raise Conflict(
                    f"{file} contradicts itself in {count} places: its rows and sums are not those it was made with.",
                    hint="Use another backup, or pass --force and then run `voicegw repair`. Nothing was changed.",
                    details={"contradictions": count},
                )
            backup.put_back(copy, wanted, kept)
        finally:
            repair.remove(copy)
        return Restored(wanted, kept if there else None, held, findings)

    with translated(wanted):
        return await _in_thread(work)


async def mend(gateway: Gateway, *, dry_run: bool, progress: Progress) -> tuple[Path, Path, Repair]:
    """Look for damage in the store and mend what can be; see ``store.repair.repair_store``.

    Returns:
        The store, where rows of a damaged one were saved (if any were), and what was found and done.

    Raises:
        StoreUnavailable: there is no store, or nothing of it can be read.
    """
    wanted = await _path(gateway)
    into = wanted.with_name(f"{wanted.name}.saved-{_stamp(gateway)}")
    return (
        wanted,
        into,
        await _in_thread(partial(repair.repair_store, wanted, into, dry_run=dry_run, progress=progress)),
    )


async def _existing(gateway: Gateway) -> Store:
    """Return the store; one that is not there is not made: a backup of nothing would be taken for one of the store."""
    path = await _path(gateway)
    if not await _in_thread(partial(os.path.exists, path)):
        raise missing(path)
    return await gateway.store()


async def _path(gateway: Gateway) -> Path:
    return await anyio.to_thread.run_sync(choose_path, gateway.store_handle.wanted_path())


def _stamp(gateway: Gateway) -> str:
    moment = iso(gateway.now_ms(), "UTC", milliseconds=True)[:23]  # without its offset
    return moment.replace("-", "").replace(":", "")


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)
