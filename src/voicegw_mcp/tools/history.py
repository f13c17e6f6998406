"""The toolset ``history``: the journal of changes, and undo. May import ``core``, ``store`` and ``tools.define``.

What is shown of a change is made here, for tools, resources and commands alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from voicegw_mcp.core import undo
from voicegw_mcp.core.answer_size import MOST_BYTES, json_bytes
from voicegw_mcp.core.answers import Answer, Written
from voicegw_mcp.core.cursors import decode_cursor, encode_cursor
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.lineage import find_undoing
from voicegw_mcp.core.paging import fit_page
from voicegw_mcp.core.periods import iso
from voicegw_mcp.core.untrusted import escape_untrusted
from voicegw_mcp.store import changes as journal
from voicegw_mcp.tools.define import PageInput, WriteInput, tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicegw_mcp.store.reader import Reads

QUERY: Final = {"tool": "list_changes"}
AT_ONCE: Final = 50
"""Rows that are read at a time: each brings its diff along, and most of a thousand would not fit into an answer."""

NAME_CHARACTERS: Final = 200


class ChangeView(Answer):
    """One change. Times are ISO 8601 in UTC; ``diff`` is there in detail only.

    ``state`` is applied, pending (being written, or interrupted) or failed; an applied one with ``undone_by`` is in the
    file no more. ``config_version`` is that of ``file`` after it.
    """

    id: str
    created: str
    applied: str | None = None
    state: str
    undone_by: str | None = None
    undoes: str | None = None
    tool: str
    summary: str
    actor: str
    door: str
    file: str
    config_version: str
    diff: str | None = None


def view_changes(
    reads: Reads, rows: Sequence[journal.ChangeRecord], *, full: bool = False
) -> list[ChangeView]:
    """Return what is shown of changes, with ``full`` their diffs as well."""
    undone = find_undoing(reads, rows)
    return [
        ChangeView(
            id=row.id,
            created=iso(row.created_ms, "UTC"),
            applied=None if row.applied_ms is None else iso(row.applied_ms, "UTC"),
            state=row.state,
            undone_by=undone.get(row.id),
            undoes=row.undoes,
            tool=row.tool,
            summary=escape_untrusted(row.summary, NAME_CHARACTERS),
            actor=escape_untrusted(row.actor, NAME_CHARACTERS),
            door=row.door,
            file=row.file,
            config_version=row.version_after,
            diff=row.diff if full else None,
        )
        for row in rows
    ]


async def view_change(gateway: Gateway, change_id: str) -> ChangeView:
    """Return one change with its diff.

    Raises:
        InvalidInput: there is no such change.
    """
    store = await gateway.store()
    return await store.ask(_view, change_id)


def _view(reads: Reads, change_id: str) -> ChangeView:
    (view,) = view_changes(reads, [undo.require_change(reads, change_id)], full=True)
    return view


def newest_views(
    reads: Reads, *, limit: int, before: str | None = None, full: bool = False
) -> list[ChangeView]:
    """Return what is shown of up to ``limit`` changes, newest first, beginning behind ``before``."""
    return view_changes(reads, journal.list_changes(reads, limit=limit, before=before), full=full)


def cursor_behind(change_id: str) -> str:
    """Return the cursor of the page that begins with the change before this one."""
    return encode_cursor(QUERY, [change_id])


class ListChanges(PageInput):
    """Arguments of list_changes."""

    detail: Literal["concise", "full"] = Field(default="concise", description="full adds diffs")


class ChangePage(Answer):
    """Answer of list_changes."""

    changes: list[ChangeView]
    count: int
    next_cursor: str | None = None


@tool("List changes", read_only=True)
async def list_changes(gateway: Gateway, args: ListChanges) -> ChangePage:
    """List changes of voicegw.yaml, newest first: who, when, what, and what is undone.

    Use when asked who changed something, or for the change_id to undo.
    """
    store = await gateway.store()
    before = "".join(map(ascii_only, decode_cursor(args.cursor, QUERY))) if args.cursor else None
    views: list[ChangeView] = []
    size = 0
    # One more than asked for tells whether there is a next page.
    while len(views) <= args.limit and size <= MOST_BYTES:
        limit = min(AT_ONCE, args.limit + 1 - len(views))
        found = await store.ask(newest_views, limit=limit, before=before, full=args.detail == "full")
        if not found:
            break
        views += found
        size += sum(map(json_bytes, found))
        before = found[-1].id
    kept, cursor = fit_page(
        views[: args.limit], QUERY, id_of=lambda view: view.id, more=len(views) > args.limit
    )
    return ChangePage(changes=kept, count=len(kept), next_cursor=cursor)


def ascii_only(part: str | int) -> str:
    """Return a part of a cursor as what may be a change's id; ids are ASCII, and SQLite takes Unicode only."""
    return ascii(part)[1:-1] if isinstance(part, str) else str(part)


class UndoChange(WriteInput):
    """Arguments of undo_change."""

    change_id: str | None = Field(default=None, description="Default: the newest in force")


class ChangeUndone(Written):
    """Answer of undo_change; ``change_id`` is the undo, by which it can be taken back in turn."""

    action: Literal["undone"] = "undone"
    undone: str
    summary: str


@tool("Undo a change", read_only=False, destructive=True, idempotent=False)
async def undo_change(gateway: Gateway, args: UndoChange) -> ChangeUndone:
    """Take a change of voicegw.yaml back: its entries get their old bytes again.

    Use when a change was wrong. Refused when an entry was changed since. To redo, undo the undo.
    """
    found = await undo.undo_change(
        gateway, args.change_id, tool="undo_change", if_version=args.if_version, dry_run=args.dry_run
    )
    return answer_of(found)


def answer_of(found: undo.Undone) -> ChangeUndone:
    """Return what is told of an undo."""
    summary = escape_untrusted(found.change.summary, NAME_CHARACTERS)
    return ChangeUndone.from_receipt(found.receipt, undone=found.change.id, summary=summary)
