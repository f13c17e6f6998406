"""A change of the configuration as one transaction over a file and the journal.

lock -> read -> plan -> edit -> verify -> settle what a crash left, journal row ``pending`` (durable) -> compare and
replace the file (durable) -> journal row ``applied``. A crash in between leaves a pending row, which is settled by the
file when the store is opened, and before the next change. May import ``config``, ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from voicegw_mcp.config.disk import RETRY_AFTER_MS, version_of
from voicegw_mcp.config.document import DELETE
from voicegw_mcp.config.excerpt import Excerpt
from voicegw_mcp.config.lock import LOCK_TIMEOUT_S, Patience
from voicegw_mcp.config.parse import dotted
from voicegw_mcp.config.replacement import Superseded, Unconfirmed
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.core.drafts import Draft, Plan, entries_diff, make_draft, require_untouched
from voicegw_mcp.core.recovery import settle
from voicegw_mcp.domain import Role
from voicegw_mcp.errors import ConfigInvalid, Conflict, GatewayError, StoreUnavailable
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from voicegw_mcp.config.disk import DiskFile
    from voicegw_mcp.config.file import ConfigFile
    from voicegw_mcp.core.access import Access
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.sqlite import Connection, Transact

ATTEMPTS: Final = 5
"""How often a change is planned anew because an editor saved the file while it was written."""


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
        plan: makes the edits from the catalog; its errors are the caller's answers. Called again when an editor saves
            something else meanwhile.
        tool: the tool or command that asks, for the journal.
        if_version: the version the caller planned on; any other refuses.
        dry_run: verify and return the diff, write nothing.

    Raises:
        Forbidden: the caller's role does not allow it.
        Conflict: ``if_version`` does not match, an editor changed the same entry meanwhile, or another process holds
            the file for too long.
        ConfigInvalid: the file is broken, or cannot be edited without harm.
        InvalidInput: with this change the file would be broken.
        ReadOnly: the file takes no changes.
        StoreUnavailable: the journal or the file cannot be written.
    """
    access = gateway.caller.access
    access.require(Role.OPERATOR, "A change")
    plan = partial(_allowed, plan=plan, access=access)
    try:
        if dry_run:
            draft = await anyio.to_thread.run_sync(make_draft, gateway.config_file, plan, if_version)
            return _receipt(gateway, draft, None)
        store = await gateway.store_handle.get()
        # Counted from now: changes stand in line for the writer thread, and each would wait its own span otherwise.
        patience = Patience.of(LOCK_TIMEOUT_S, lambda: store.closed)
        # The store runs it to its end even when the caller goes away: half a change is what recovery is for.
        return await store.run(partial(_write, gateway, _Order(plan, tool, if_version, patience)))
    except ConfigInvalid as error:
        raise gateway.told(error) from error


def _allowed(catalog: Catalog, *, plan: Callable[[Catalog], Plan], access: Access) -> Plan:
    """Plan on what the caller may see, and refuse who may not do that.

    Deleting, and putting back what was, are for administrators; who is bound to projects changes their entries only.
    """
    planned = plan(catalog.narrowed(access.projects))
    for edit in planned.edits:
        if len(edit.path) > 1 and edit.path[0] == "projects":
            access.require_project(edit.path[1])
        else:
            access.require_all_projects(dotted(edit.path))
    if any(isinstance(edit, Excerpt) or edit.value is DELETE for edit in planned.edits):
        access.require(Role.ADMIN, "Deleting and undoing")
    return planned


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for."""

    plan: Callable[[Catalog], Plan]
    tool: str
    if_version: str | None
    patience: Patience


def _write(gateway: Gateway, order: _Order, transact: Transact) -> Receipt:
    files = gateway.config_file
    with _locked(files, order.patience) as (targets, obstacle):
        draft = make_draft(files, order.plan, order.if_version, obstacle)
        for _ in range(ATTEMPTS):
            if draft.after == draft.before:
                return _receipt(gateway, draft, None)
            if draft.disk.path not in targets:
                raise _met_another(f"{draft.disk.path.name} came into use a moment ago.", files)
            try:
                change = _replace(gateway, draft, order.tool, targets[draft.disk.path], transact)
            except Superseded:
                require_untouched(draft, files)
                draft = make_draft(files, order.plan, order.if_version, obstacle)
            else:
                return _receipt(gateway, draft, change)
    raise _met_another(f"{files.path.name} is being edited again and again by another program.", files)


def _met_another(message: str, files: ConfigFile) -> Conflict:
    return Conflict(
        message,
        hint=f"Nothing was written. Repeat the call in {RETRY_AFTER_MS} ms.",
        details={"file": str(files.path), "retry_after_ms": RETRY_AFTER_MS},
    )


def _replace(
    gateway: Gateway, draft: Draft, tool: str, target: Path, transact: Transact
) -> journal.ChangeRecord:
    """Write the draft between the two journal rows."""
    begin = partial(_begin, gateway=gateway, draft=draft, tool=tool, target=target)
    change = transact(begin, durable=True)
    try:
        clean = draft.disk.replace(target, change.id, draft.before, draft.after)
    except Superseded:
        transact(partial(journal.mark_failed, change_id=change.id))
        raise
    except GatewayError:
        # Nothing was changed; should this row not be written now, the next one finds that out from the file.
        with contextlib.suppress(GatewayError):
            transact(partial(journal.mark_failed, change_id=change.id))
        raise
    except Unconfirmed as error:
        raise _read_off(draft, change, target, transact, error) from error
    gateway.config_file.accept(draft.configuration)
    # If this row is not written now, the file still holds the change and the next one settles the row.
    if clean:
        with contextlib.suppress(GatewayError):
            applied = partial(journal.mark_applied, change_id=change.id, applied_ms=gateway.now_ms())
            transact(applied)
    return change


def _read_off(
    draft: Draft, change: journal.ChangeRecord, target: Path, transact: Transact, error: Unconfirmed
) -> StoreUnavailable:
    """Return the answer after the disk failed in the middle: what it came to is read off the file."""
    state = ""
    with contextlib.suppress(GatewayError):
        transact(partial(settle, disk=draft.disk, target=target))
        state = transact(partial(journal.state_of, change_id=change.id))
    outcome = {
        "applied": "was written, but the disk did not confirm that it will stay",
        "failed": "could not be written; it is as it was",
    }.get(state, "may have been written or not: the disk failed")
    return StoreUnavailable(
        f"{draft.disk.path.name} {outcome} ({error}).",
        hint="Check the disk, then read the configuration again.",
        details={"file": str(draft.disk.path), "change_id": change.id, "state": state or "pending"},
    )


@contextlib.contextmanager
def _locked(files: ConfigFile, patience: Patience) -> Generator[tuple[Mapping[Path, Path], str]]:
    """Hold the locks of the files that may take a change; give what each path leads to, and what the base's obstacle is."""
    overlaid = files.load().overlay is not None
    if files.error is not None:
        raise files.error  # a broken file takes no change, so no lock either
    obstacle = files.base.obstacle() if files.overlay is not None else ""
    wanted: list[DiskFile] = [] if obstacle else [files.base]
    if files.overlay is not None and (obstacle or overlaid):
        wanted.append(files.overlay)
    with ExitStack() as locks:
        yield {disk.path: locks.enter_context(disk.locked(patience)) for disk in wanted}, obstacle


def _begin(
    connection: Connection, gateway: Gateway, draft: Draft, tool: str, target: Path
) -> journal.ChangeRecord:
    settle(connection, draft.disk, target)
    now_ms = gateway.now_ms()
    change = journal.ChangeRecord(
        id=journal.next_id(connection, now_ms),
        created_ms=now_ms,
        applied_ms=None,
        state="pending",
        actor=gateway.caller.actor,
        door=gateway.caller.door,
        tool=tool,
        summary=draft.plan.summary,
        file=str(target),
        version_before=version_of(draft.before),
        version_after=version_of(draft.after),
        diff=draft.diff,
        edits=draft.edits,
        undoes=draft.plan.undoes,
    )
    journal.insert_pending(connection, change)
    return change


def _receipt(gateway: Gateway, draft: Draft, change: journal.ChangeRecord | None) -> Receipt:
    only = gateway.caller.access.projects
    return Receipt(
        change_id=change.id if change else None,
        config_version=(draft.configuration if change else draft.was).version,
        # The lines around a change, and what else stands on its lines, may be another project's.
        diff=draft.diff if only is None else entries_diff(draft.edits, draft.disk.path.name),
        file=str(draft.disk.path),
        created_ms=change.created_ms if change else gateway.now_ms(),
        plan=draft.plan,
        catalog=Catalog(draft.configuration, only),
    )
