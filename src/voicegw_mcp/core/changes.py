"""A change to ``voicegw.yaml`` as one transaction over the file and the journal.

lock -> read -> plan -> edit -> verify -> settle what a crash left, journal row ``pending`` (durable) -> compare and
replace the file (durable) -> journal row ``applied``. A crash between the last two leaves a pending row that the next
change settles by the file's version. May import ``config``, ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from voicegw_mcp.config.document import DELETE, Edit, entry_text, stages, unified_diff
from voicegw_mcp.config.excerpt import record_edits
from voicegw_mcp.config.file import version_of
from voicegw_mcp.config.redaction import shown
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.errors import ConfigInvalid, Conflict, GatewayError, InvalidInput, quote
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voicegw_mcp.config.file import ConfigFile, Configuration
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.sqlite import Connection, Transact


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change means to do.

    ``summary`` is a sentence for the journal, ``updates`` tells that the entry exists already, ``impact`` what a delete
    takes along, as the keys of its answer.
    """

    summary: str
    edits: Sequence[Edit]
    updates: bool = False
    impact: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a change did, or in a dry run would do.

    ``change_id`` is None when nothing was written (dry run, or nothing to change); ``catalog`` is the planned outcome.
    """

    change_id: str | None
    config_version: str
    diff: str
    file: str
    created_ms: int
    plan: Plan
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class _Draft:
    """A planned and verified change: bytes before and after, and what the journal keeps of it."""

    plan: Plan
    before: bytes
    after: bytes
    configuration: Configuration
    diff: str
    edits: str


async def apply_change(
    gateway: Gateway,
    plan: Callable[[Catalog], Plan],
    *,
    tool: str,
    if_version: str | None = None,
    dry_run: bool = False,
) -> Receipt:
    """Plan a change on the file as it is now, verify it, and write it to file and journal.

    Args:
        gateway: whose file and store.
        plan: makes the edits from the catalog; its errors are the caller's answers.
        tool: the tool or command that asks, for the journal.
        if_version: the version the caller planned on; any other refuses.
        dry_run: verify and return the diff, write nothing.

    Raises:
        Conflict: ``if_version`` does not match, or an editor saved meanwhile.
        ConfigInvalid: the file is broken, or cannot be edited without harm.
        InvalidInput: with this change the file would be broken.
        ReadOnly: the file takes no changes.
        StoreUnavailable: the journal or the file cannot be written.
    """
    file = gateway.config_file
    if dry_run:
        return _receipt(gateway, await anyio.to_thread.run_sync(_draft, file, plan, if_version), None)
    # The store runs it to its end even when the caller goes away: half a change is what recovery is for.
    return await (await gateway.store()).run(partial(_write, gateway, plan, tool, if_version))


def _write(
    gateway: Gateway,
    plan: Callable[[Catalog], Plan],
    tool: str,
    if_version: str | None,
    transact: Transact,
) -> Receipt:
    file = gateway.config_file
    with file.locked() as target:
        draft = _draft(file, plan, if_version)
        if draft.after == draft.before:
            return _receipt(gateway, draft, None)
        change = _journal_row(gateway, draft, tool, str(target))
        transact(partial(_begin, file=file, change=change), durable=True)
        try:
            file.replace(target, draft.before, draft.after, draft.configuration)
        except GatewayError:
            transact(partial(journal.mark_failed, change_id=change.id))
            raise
        # If this row cannot be written now, the file still holds the change and the next one settles the row.
        with contextlib.suppress(GatewayError):
            transact(partial(journal.mark_applied, change_id=change.id, applied_ms=gateway.now_ms()))
        return _receipt(gateway, draft, change)


def settle(connection: Connection, file: ConfigFile, target: str) -> int:
    """Finish the rows that a crash left pending for ``target``, judging by the file; return how many there were."""
    pending = journal.pending_changes(connection, target)
    for change in pending:
        version = version_of(file.read_bytes())
        applied = version == change.version_after or (
            version != change.version_before and _holds(file, change.edits)
        )
        (journal.mark_applied if applied else journal.mark_failed)(connection, change.id)
    return len(pending)


def _begin(connection: Connection, file: ConfigFile, change: journal.ChangeRecord) -> None:
    settle(connection, file, change.file)
    journal.insert_pending(connection, change)


def _journal_row(gateway: Gateway, draft: _Draft, tool: str, file: str) -> journal.ChangeRecord:
    return journal.ChangeRecord(
        id=journal.new_id(gateway.now_ms()),
        created_ms=gateway.now_ms(),
        applied_ms=None,
        state="pending",
        actor=gateway.caller.actor,
        door=gateway.caller.door,
        tool=tool,
        summary=draft.plan.summary,
        file=file,
        version_before=version_of(draft.before),
        version_after=version_of(draft.after),
        diff=draft.diff,
        edits=draft.edits,
        undoes=None,
    )


def _draft(file: ConfigFile, plan: Callable[[Catalog], Plan], if_version: str | None) -> _Draft:
    current = file.load_unbroken()
    before = current.text.encode()
    if if_version and if_version != current.version:
        raise Conflict(
            f"The configuration is at version {current.version}, not {quote(if_version)}.",
            hint="Read it again, check that the change still fits, and pass the new version.",
            details={"field": "if_version", "config_version": current.version},
        )
    planned = plan(Catalog(current))
    steps = stages(current.parsed, planned.edits)
    after = steps[-1]
    if after.text == current.text:
        return _Draft(planned, before, before, current, "", "[]")
    try:
        changed = file.interpret(after)
    except ConfigInvalid as error:
        raise InvalidInput(
            f"With this change {error.message.rstrip('.')}; nothing was written.",
            hint=error.hint,
            details=error.details,
        ) from None
    visible = [shown(step) for step in steps]
    edits = [
        {
            "before": excerpt.as_dict(),
            "after": None if edit.value is DELETE else entry_text(visible[-1], edit.path),
        }
        for edit, excerpt in zip(planned.edits, record_edits(visible, planned.edits), strict=True)
    ]
    diff = unified_diff(visible[0].text, visible[-1].text, file.path.name)
    return _Draft(planned, before, after.text.encode(), changed, diff, json.dumps(edits, ensure_ascii=False))


def _holds(file: ConfigFile, edits: str) -> bool:
    """Say whether the file's entries are the ones a change would have left."""
    with contextlib.suppress(GatewayError, ValueError, KeyError, TypeError):
        parsed = shown(file.load_unbroken().parsed)
        wanted: list[dict[str, Any]] = json.loads(edits)
        return all(entry_text(parsed, edit["before"]["path"]) == edit["after"] for edit in wanted)
    return False


def _receipt(gateway: Gateway, draft: _Draft, change: journal.ChangeRecord | None) -> Receipt:
    return Receipt(
        change_id=change.id if change else None,
        config_version=version_of(draft.after if change else draft.before),
        diff=draft.diff,
        file=str(gateway.config_file.path),
        created_ms=change.created_ms if change else gateway.now_ms(),
        plan=draft.plan,
        catalog=Catalog(draft.configuration),
    )
