"""Takes a change back: puts its own entries back byte for byte, and only while nobody changed them since.

An undo is a change like any other; taking it back in turn is redo. May import ``config``, ``store``, ``errors``, ``core``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voicegw_mcp.config.disk import version_of
from voicegw_mcp.config.document import entry_text
from voicegw_mcp.config.excerpt import Excerpt, apply_steps
from voicegw_mcp.config.overlay import BASE_KEY
from voicegw_mcp.config.parse import dotted, parse
from voicegw_mcp.config.redaction import shown
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.drafts import Plan
from voicegw_mcp.core.periods import iso
from voicegw_mcp.errors import Conflict, InvalidInput, ReadOnly, quote
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from voicegw_mcp.config.file import Configuration
    from voicegw_mcp.config.parse import ParsedFile, Problem
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.changes import Receipt
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.changes import ChangeRecord
    from voicegw_mcp.store.sqlite import Reads

UNDO: Final = "Undo: "
REDO: Final = "Redo: "
AT_ONCE: Final = 50
"""Rows of the journal that are read at a time, on the way back to the one that is looked for."""

NO_REFERENCE: Final = ("unknown provider type", "holds a key itself")
"""Warnings about an entry alone: nothing that refers to it, or that it refers to, has to do with them."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken back, and the change that did it."""

    change: ChangeRecord
    receipt: Receipt


class _ChangedSince(Conflict):
    """An entry is not as the change left it; ``visible`` is the file as it may be shown."""

    def __init__(self, path: tuple[str, ...], visible: ParsedFile) -> None:
        super().__init__(f"{dotted(path)} was changed since.")
        self.path = path
        self.visible = visible


async def undo_change(
    gateway: Gateway,
    change_id: str | None = None,
    *,
    tool: str,
    if_version: str | None = None,
    dry_run: bool = False,
) -> Undone:
    """Take a change back.

    Args:
        gateway: whose file and journal.
        change_id: which; None for the newest one in force that is no undo itself.
        tool: the tool or command that asks, for the journal.
        if_version: refuse at any other version.
        dry_run: return the diff, write nothing.

    Raises:
        InvalidInput: there is no such change, or none at all.
        Conflict: it was not applied, was taken back already, its entries were changed since, others need them now or
            took their place, or one of them held a key that is nowhere any more.
        ConfigInvalid, ReadOnly, StoreUnavailable: as ``apply_change``.
    """
    store = await gateway.store()
    if change_id is None:
        change = await _newest(store, gateway)
    else:
        change = await require_change(store, change_id)
    made = await _require_in_force(store, change)
    plan = partial(_plan, gateway=gateway, change=change, made=made)
    try:
        receipt = await apply_change(gateway, plan, tool=tool, if_version=if_version, dry_run=dry_run)
    except _ChangedSince as found:
        await _require_in_force(store, change)  # another process may have taken it back a moment ago
        raise await _blame(store, made, found) from None
    except InvalidInput as error:  # the file as it would be does not hold together
        details = {**error.details, "change_id": change.id}
        raise Conflict(
            f"Change {change.id} is not taken back. {error.message}", hint=error.hint, details=details
        ) from None
    return Undone(change, receipt)


async def require_change(reads: Reads, change_id: str) -> ChangeRecord:
    """Return the change with this id.

    Raises:
        InvalidInput: there is none.
    """
    # Ids are ASCII; text that is no Unicode is nothing SQLite can be asked for.
    change = await journal.get_change(reads, change_id) if change_id.isascii() else None
    if change is None:
        raise InvalidInput(
            f"There is no change {quote(change_id)}.",
            field="change_id",
            hint="`voicegw changes`, list_changes or voicegw://changes list them.",
        )
    return change


async def find_undoing(reads: Reads, changes: Sequence[ChangeRecord]) -> dict[str, str]:
    """Return for the changes that are taken back the id of the change that did it."""
    found = {
        change.id: await _taken_back_by(reads, change.id) for change in changes if change.state == "applied"
    }
    return {change_id: back.id for change_id, back in found.items() if back is not None}


async def _find_back(
    reads: Reads,
    is_it: Callable[[ChangeRecord], Awaitable[bool]],
    *,
    after: str | None = None,
    file: str | None = None,
) -> ChangeRecord | None:
    """Return the newest applied change that is the one looked for."""
    before = None
    while rows := await journal.list_changes(reads, limit=AT_ONCE, before=before, after=after, file=file):
        for row in rows:
            if row.state == "applied" and await is_it(row):
                return row
        before = rows[-1].id
    return None


async def _newest(reads: Reads, gateway: Gateway) -> ChangeRecord:
    gateway.catalog()  # tells where the overlay is
    files = {str(disk.target()) for disk in gateway.config_file.disks()}

    async def is_it(change: ChangeRecord) -> bool:
        return change.file in files and change.undoes is None and not await _taken_back_by(reads, change.id)

    found = await _find_back(reads, is_it)
    if found is None:
        raise InvalidInput(
            "There is no change to undo.",
            field="change_id",
            hint="`voicegw changes` lists what was changed.",
        )
    return found


async def _require_in_force(reads: Reads, change: ChangeRecord) -> ChangeRecord:
    """Return the change that put into the file what is there: the last redo, or itself."""
    if change.state == "pending":
        raise Conflict(
            f"Change {change.id} is being written, or was interrupted and is not settled yet.",
            hint="Repeat the call in a moment; the next change settles what was interrupted.",
            details={"change_id": change.id, "state": change.state},
        )
    if change.state != "applied":
        raise Conflict(
            f"Change {change.id} failed: it never came into the file.",
            hint="`voicegw changes` lists those that did.",
            details={"change_id": change.id, "state": change.state},
        )
    last, takes_back = await _family(reads, change.id)
    if last is not None and takes_back:
        raise Conflict(
            f"Change {change.id} was taken back already {_by(last)}.",
            hint=f"To have it again, undo that one: {last.id}.",
            details={"change_id": change.id, "undone_by": last.id},
        )
    return last or change


async def _taken_back_by(reads: Reads, change_id: str) -> ChangeRecord | None:
    """Return the undo of a change that is in force."""
    last, takes_back = await _family(reads, change_id)
    return last if takes_back else None


async def _family(reads: Reads, change_id: str) -> tuple[ChangeRecord | None, bool]:
    """Return the newest of all undos of a change, redos of those and so on, and whether it takes the change back.

    Each had the last word when it was made: it was made only because the entries were as the one before had left them.
    """
    last, takes_back = None, False
    found = [(change_id, True)]
    for undone, takes in found:
        for undo in await journal.undoing(reads, undone):
            found.append((undo.id, not takes))
            if last is None or undo.id > last.id:
                last, takes_back = undo, takes
    return last, takes_back


def _plan(catalog: Catalog, *, gateway: Gateway, change: ChangeRecord, made: ChangeRecord) -> Plan:
    parsed = _require_file(gateway, catalog.configuration, change)
    version, visible = version_of(parsed.text.encode()), shown(parsed)
    # A redo may have found other bytes around its entries. The way back from the very file is the best one.
    ways = sorted((change, made), key=lambda way: way.version_after != version)
    changed = [_changed_entry(way, visible) for way in ways]
    if None not in changed:
        raise _ChangedSince(changed[-1] or (), visible)
    way = ways[changed.index(None)]
    excerpts = [Excerpt.from_dict(edit["before"]) for edit in reversed(json.loads(way.edits))]
    # Whose overlay it is belongs to nobody's change: it stays as long as there is an entry.
    entries = [excerpt for excerpt in excerpts if excerpt.path != (BASE_KEY,)]
    if len(entries) < len(excerpts) and set(apply_steps(parsed, entries)[-1].data) - {BASE_KEY}:
        excerpts = entries
    untouched = way.version_after == version and catalog.configuration.overlay is None
    return Plan(
        _summary(change),
        excerpts,
        file=change.file,
        undoes=made.id,
        # In a file that nobody touched since, nothing can have come to need it: it becomes what it was.
        accept=None if untouched else partial(_accept, before=catalog, change=change, entries=entries),
    )


def _changed_entry(change: ChangeRecord, visible: ParsedFile) -> tuple[str, ...] | None:
    """Return the path of an entry that is not as the change left it."""
    for edit in json.loads(change.edits):
        path = tuple(edit["before"]["path"])
        if path != (BASE_KEY,) and not _is_as_left(visible, path, edit["after"]):
            return path
    return None


def _is_as_left(visible: ParsedFile, path: tuple[str, ...], left: str | None) -> bool:
    """Say whether an entry has the text a change left; a last line without an end has one as soon as more follows."""
    now = entry_text(visible, path)
    return now == left if now is None or left is None else now.rstrip("\r\n") == left.rstrip("\r\n")


def _require_file(gateway: Gateway, configuration: Configuration, change: ChangeRecord) -> ParsedFile:
    """Return the file that a change was made to, as it is now."""
    files = gateway.config_file
    if str(files.base.target()) == change.file:
        if obstacle := files.base.obstacle():
            raise ReadOnly(
                f"Change {change.id} was made to {files.path.name}, which cannot be changed here: {obstacle}.",
                hint=f"Change it in {files.path} where that comes from (a ConfigMap, an image, its owner).",
                details={"file": change.file, "change_id": change.id},
            )
        return configuration.parsed
    if files.overlay is not None and str(files.overlay.target()) == change.file:
        return configuration.overlay or parse("")
    raise Conflict(
        f"Change {change.id} was made to {change.file}, which is not the file in force now.",
        hint=f"Undo it with that file: voicegw undo {change.id} --config {change.file}",
        details={"change_id": change.id, "file": change.file},
    )


def _summary(change: ChangeRecord) -> str:
    """Name an undo by what was done at first: ``Undo: Add provider x``, and ``Redo: ...`` for the next one."""
    if change.undoes is None:
        return UNDO + change.summary
    undo = change.summary.startswith(UNDO)
    return (REDO if undo else UNDO) + change.summary.removeprefix(UNDO if undo else REDO)


async def _blame(reads: Reads, change: ChangeRecord, found: _ChangedSince) -> Conflict:
    """Return the refusal that names who changed the entry: the last change there, if it is as that one left it."""
    path, field = found.path, dotted(found.path)

    def left_by(other: ChangeRecord) -> dict[tuple[str, ...], str | None]:
        left = {tuple(edit["before"]["path"]): edit["after"] for edit in json.loads(other.edits)}
        return {at: text for at, text in left.items() if path[: len(at)] == at or at[: len(path)] == path}

    async def was_there(other: ChangeRecord) -> bool:
        return bool(left_by(other))

    other = await _find_back(reads, was_there, after=change.id, file=change.file)
    if other is not None and all(_is_as_left(found.visible, at, text) for at, text in left_by(other).items()):
        return Conflict(
            f"{field} was changed since change {change.id} {_by(other)}.",
            hint=f"Undo that one first: {other.id}. Or change the entry itself.",
            details={"change_id": change.id, "field": field, "changed_by": other.id},
        )
    when = _saved(Path(change.file))
    return Conflict(
        f"{field} was changed since change {change.id} by someone outside of voicegw"
        f"{f'; the file was last saved at {when}' if when else ''}.",
        hint="Look at the entry in the file and change it there, or with the tool of its kind.",
        details={"change_id": change.id, "field": field},
    )


def _accept(after: Catalog, *, before: Catalog, change: ChangeRecord, entries: Sequence[Excerpt]) -> None:
    """Refuse an undo after which something refers to what is no more."""
    fresh = Counter(map(_identity, after.warnings)) - Counter(map(_identity, before.warnings))
    for problem in after.warnings:
        if _identity(problem) in fresh and not problem.message.startswith(NO_REFERENCE):
            own = any(f"{problem.path}.".startswith(f"{dotted(entry.path)}.") for entry in entries)
            raise Conflict(
                f"With change {change.id} taken back, {problem.path} {problem.message}.",
                hint="Bring back what it names first, or undo the change that deleted it."
                if own
                else f"Change {problem.path} first, or undo the change that made it.",
                details={"change_id": change.id, "field": problem.path},
            )


def _identity(problem: Problem) -> tuple[str, str]:
    """Say which problem it is, wherever in its list it stands now."""
    return re.sub(r"\.\d+$", "", problem.path), problem.message


def _by(change: ChangeRecord) -> str:
    return f"by {change.actor} ({change.door}, {change.tool}) at {iso(change.created_ms, 'UTC')}, change {change.id}"


def _saved(file: Path) -> str:
    try:
        return iso(int(file.stat().st_mtime * 1000), "UTC")
    except OSError:
        return ""
