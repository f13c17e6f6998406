"""What brings file and journal together again: after a crash, and after one of them was restored from a backup.

May import ``config``, ``store``, ``errors`` and ``core.drafts``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from voicegw_mcp.config.disk import version_of
from voicegw_mcp.config.lock import Patience
from voicegw_mcp.config.parse import decode, parse
from voicegw_mcp.core.drafts import holds
from voicegw_mcp.errors import ConfigInvalid, GatewayError
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voicegw_mcp.config.disk import DiskFile
    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.store.reader import Reads
    from voicegw_mcp.store.sqlite import Connection, Store, Transact

PATIENCE_S: Final = 1.0
"""How long opening the store waits for another process that changes the file: it settles what it does itself."""

EMPTY: Final = version_of(b"")


async def recover(files: ConfigFile, store: Store) -> None:
    """Finish what crashes left pending. What cannot be told now stays pending until the next change or start."""
    if store.read_only:
        return
    pending = await store.ask(journal.pending_files)
    if pending:
        with contextlib.suppress(GatewayError):
            files.load()  # tells where the overlay is
        await store.run(partial(_recover, files, pending))


def _recover(files: ConfigFile, pending: Sequence[str], transact: Transact) -> None:
    for disk in files.disks():
        with contextlib.suppress(GatewayError):
            if str(disk.target()) in pending:
                with disk.locked(Patience.of(PATIENCE_S)) as target:
                    transact(partial(settle, disk=disk, target=target))


def settle(connection: Connection, disk: DiskFile, target: Path) -> None:
    """Finish the rows that a crash left pending for ``target``, judging by the file. The caller holds its lock.

    A row becomes ``applied`` when the file is at its version or holds its entries, else ``failed``. While the file is
    gone, broken or unreadable it stays pending: nothing else can change meanwhile.
    """
    for change in journal.pending_changes(connection, str(target)):
        try:
            disk.recover(target, change.id, change.version_before, change.version_after)
            raw = disk.read()
            if raw is None and change.version_before != EMPTY:
                return
            version = version_of(raw or b"")
            applied = version == change.version_after or (
                version != change.version_before and holds(parse(decode(raw or b"")), change.edits)
            )
        except ConfigInvalid:
            return
        (journal.mark_applied if applied else journal.mark_failed)(connection, change.id)


@dataclass(frozen=True, slots=True)
class Drift:
    """How the files differ from what the journal knows: ``text`` is "" when they are as the last changes left them.

    ``key`` tells the state of all of them it was worked out at, ``facts`` what it was worked out from.
    """

    key: object
    facts: tuple[tuple[str, str], ...]
    text: str


def describe_drift(reads: Reads, disks: Sequence[DiskFile], key: object, before: Drift | None) -> Drift:
    """Return how the files differ from the journal; ``before`` is the answer of the last look."""
    facts: list[tuple[str, str]] = []
    drifted: list[tuple[DiskFile, str, str]] = []
    for disk in disks:
        try:
            version, target = version_of(disk.read() or b""), str(disk.target())
        except GatewayError:
            continue
        last = journal.last_applied(reads, target)
        if last is not None and last.version_after != version:
            facts.append((last.id, version))
            drifted.append((disk, version, last.id))
    if before is not None and before.facts == tuple(facts):
        return replace(before, key=key)
    texts = [_describe(reads, *found) for found in drifted]
    return Drift(key, tuple(facts), " ".join(texts))


def _describe(reads: Reads, disk: DiskFile, version: str, last: str) -> str:
    name, target = disk.path.name, str(disk.target())
    known = journal.last_applied(reads, target, version=version)
    before = None if known else journal.first_applied(reads, target, version=version)
    if known is None and before is None:
        return (
            f"{name} was edited since change {last}, the last one in the journal "
            "(or the store was restored from an older backup)."
        )
    count = journal.count_applied(reads, target, after=known.id if known else "")
    where = (
        f"as change {known.id} left it" if known else f"as it was before change {before.id if before else ''}"
    )
    return (
        f"{name} is {where}: it was restored or put back by hand. "
        f"{count} later change{'s' if count != 1 else ''} of the journal {'are' if count != 1 else 'is'} not in it; "
        "`voicegw changes` lists them."
    )
