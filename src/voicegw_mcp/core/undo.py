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
from voicegw_mcp.config.excerpt import Excerpt, apply_steps
from voicegw_mcp.config.overlay import BASE_KEY
from voicegw_mcp.config.parse import dotted, parse
from voicegw_mcp.config.redaction import shown
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.drafts import Plan, is_as_left
from voicegw_mcp.core.lineage import last_words, left_by, meet, newest_left, newest_there
from voicegw_mcp.core.periods import iso
from voicegw_mcp.errors import Conflict, InvalidInput, ReadOnly, quote
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.config.disk import DiskFile
    from voicegw_mcp.config.file import Configuration
    from voicegw_mcp.config.parse import ParsedFile, Problem
    from voicegw_mcp.core.catalog import Catalog
    from voicegw_mcp.core.changes import Receipt
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.changes import ChangeRecord
    from voicegw_mcp.store.reader import Reads

UNDO: Final = "Undo: "
REDO: Final = "Redo: "

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
        change = await store.ask(_newest, _files(gateway))
    else:
        change = await store.ask(require_change, change_id)
    made = await store.ask(_require_in_force, _files(gateway), change)
    # A file that was put back by hand, or an entry that was made anew, may have the very bytes and yet be another's.
    since = await store.ask(newest_left, change.file, list(left_by(made)), after=made.id)
    plan = partial(_plan, gateway=gateway, change=change, made=made, since=since)
    try:
        receipt = await apply_change(gateway, plan, tool=tool, if_version=if_version, dry_run=dry_run)
    except _ChangedSince as found:
        # Another process may have taken it back a moment ago.
        await store.ask(_require_in_force, _files(gateway), change)
        raise await store.ask(_blame, made, found) from None
    except InvalidInput as error:  # the file as it would be does not hold together
        details = {**error.details, "change_id": change.id}
        raise Conflict(
            f"Change {change.id} is not taken back. {error.message}", hint=error.hint, details=details
        ) from None
    return Undone(change, receipt)


def require_change(reads: Reads, change_id: str) -> ChangeRecord:
    """Return the change with this id.

    Raises:
        InvalidInput: there is none.
    """
    # Ids are ASCII; text that is no Unicode is nothing SQLite can be asked for.
    change = journal.get_change(reads, change_id) if change_id.isascii() else None
    if change is None:
        raise InvalidInput(
            f"There is no change {quote(change_id)}.",
            field="change_id",
            hint="`voicegw changes`, list_changes or voicegw://changes list them.",
        )
    return change


def _newest(reads: Reads, files: Sequence[str]) -> ChangeRecord:
    found = journal.newest_in_force(reads, files)
    if found is None:
        raise InvalidInput(
            "There is no change to undo.",
            field="change_id",
            hint="`voicegw changes` lists what was changed.",
        )
    return found


def _files(gateway: Gateway) -> list[str]:
    """Return the files that are in force now."""
    gateway.catalog()  # tells where the overlay is
    return [str(disk.target()) for disk in gateway.config_file.disks()]


def _require_in_force(reads: Reads, files: Sequence[str], change: ChangeRecord) -> ChangeRecord:
    """Return the change that put into the file what is there: the last redo, or itself."""
    if change.state == "pending":
        if change.file not in files:
            raise Conflict(
                f"Change {change.id} is being written, or was interrupted and is not settled yet. The file it belongs "
                f"to, {change.file}, is not the one in force now.",
                hint=f"Settle and undo it with that file: voicegw undo {change.id} --config {change.file}",
                details={"change_id": change.id, "state": change.state, "file": change.file},
            )
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
    words = last_words(reads, [change.id])
    if change.id not in words:
        return change
    last_id, takes_back = words[change.id]
    last = require_change(reads, last_id)
    if takes_back:
        raise Conflict(
            f"Change {change.id} was taken back already {_by(last)}.",
            hint=f"To have it again, undo that one: {last.id}.",
            details={"change_id": change.id, "undone_by": last.id},
        )
    return last


def _plan(
    catalog: Catalog,
    *,
    gateway: Gateway,
    change: ChangeRecord,
    made: ChangeRecord,
    since: ChangeRecord | None,
) -> Plan:
    disk, parsed = _require_file(gateway, catalog.configuration, change)
    version, visible = version_of(parsed.text.encode()), shown(parsed)
    # A redo may have found other bytes around its entries. The way back from the very file is the best one.
    ways = sorted((change, made), key=lambda way: way.version_after != version)
    changed = [_changed_entry(way, visible) for way in ways]
    if None not in changed:
        raise _ChangedSince(changed[-1] or (), visible)
    if since is not None:
        raise _changed_by(since, made, _first_meeting(made, since))
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
        file=disk,
        undoes=made.id,
        # In a file that nobody touched since, nothing can have come to need it: it becomes what it was.
        accept=None if untouched else partial(_accept, before=catalog, change=change, entries=entries),
    )


def _changed_entry(change: ChangeRecord, visible: ParsedFile) -> tuple[str, ...] | None:
    """Return the path of an entry that is not as the change left it."""
    for edit in json.loads(change.edits):
        path = tuple(edit["before"]["path"])
        if path != (BASE_KEY,) and not is_as_left(visible, path, edit["after"]):
            return path
    return None


def _require_file(
    gateway: Gateway, configuration: Configuration, change: ChangeRecord
) -> tuple[DiskFile, ParsedFile]:
    """Return the file that a change was made to, and what is in it now."""
    files = gateway.config_file
    if str(files.base.target()) == change.file:
        if obstacle := files.base.obstacle():
            raise ReadOnly(
                f"Change {change.id} was made to {files.path.name}, which cannot be changed here: {obstacle}.",
                hint=f"Change it in {files.path} where that comes from (a ConfigMap, an image, its owner).",
                details={"file": change.file, "change_id": change.id},
            )
        return files.base, configuration.parsed
    if files.overlay is not None and str(files.overlay.target()) == change.file:
        return files.overlay, configuration.overlay or parse("")
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


def _blame(reads: Reads, change: ChangeRecord, found: _ChangedSince) -> Conflict:
    """Return the refusal that names who changed the entry: the last change there, if it is as that one left it."""
    field = dotted(found.path)
    other = newest_there(reads, change.file, [found.path], after=change.id)
    if other is not None:
        left = {at: text for at, text in left_by(other).items() if meet(at, found.path)}
        if all(is_as_left(found.visible, at, text) for at, text in left.items()):
            return _changed_by(other, change, found.path)
    when = _saved(Path(change.file))
    return Conflict(
        f"{field} was changed since change {change.id} by someone outside of voicegw"
        f"{f'; the file was last saved at {when}' if when else ''}.",
        hint="Look at the entry in the file and change it there, or with the tool of its kind.",
        details={"change_id": change.id, "field": field},
    )


def _changed_by(other: ChangeRecord, change: ChangeRecord, path: tuple[str, ...]) -> Conflict:
    field = dotted(path)
    return Conflict(
        f"{field} was changed since change {change.id} {_by(other)}.",
        hint=f"Undo that one first: {other.id}. Or change the entry itself.",
        details={"change_id": change.id, "field": field, "changed_by": other.id},
    )


def _first_meeting(change: ChangeRecord, other: ChangeRecord) -> tuple[str, ...]:
    """Return the first entry of a change at which another one was."""
    theirs = left_by(other)
    return next((path for path in left_by(change) if any(meet(path, at) for at in theirs)), ())


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
