"""A change to ``voicegw.yaml`` as one transaction over the file and the journal.

lock -> settle what a crash left -> read -> plan -> edit -> verify -> journal row ``pending`` (durable) -> compare and
replace the file (durable) -> journal row ``applied``. A crash between the last two leaves a pending row that the next
change settles by the file's version. May import ``config``, ``store``, ``domain``, ``errors`` and ``core``.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from voicegw_mcp.config.document import DELETE, Edit, entry_text, stages, unified_diff
from voicegw_mcp.config.excerpt import record_edits
from voicegw_mcp.config.file import version_of
from voicegw_mcp.config.secrets import literal_secrets
from voicegw_mcp.core.catalog import Catalog
from voicegw_mcp.errors import Conflict, GatewayError, quote
from voicegw_mcp.store import changes as journal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence

    from voicegw_mcp.config.file import ConfigFile, Configuration
    from voicegw_mcp.core.gateway import Gateway
    from voicegw_mcp.store.sqlite import Store


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
        ReadOnly: the file takes no changes.
        StoreUnavailable: the journal or the file cannot be written.
    """
    file = gateway.config_file
    if dry_run:
        return _receipt(gateway, await anyio.to_thread.run_sync(_draft, file, plan, if_version), None)
    store = await gateway.store()
    # Once begun, a change runs to its end even when the caller goes away: half a change is what recovery is for.
    async with gateway.changing, _shielded():
        return await _write(gateway, store, plan, tool, if_version)


async def settle(store: Store, file: ConfigFile) -> int:
    """Finish the journal rows that a crash left pending, judging by the file; return how many there were."""
    pending = await journal.pending_changes(store, str(file.target()))
    for change in pending:
        version = version_of(await anyio.to_thread.run_sync(file.read_bytes))
        applied = version == change.version_after or (
            version != change.version_before and _holds(file, change.edits)
        )
        mark = journal.mark_applied if applied else journal.mark_failed
        await store.write(lambda connection, mark=mark, id_=change.id: mark(connection, id_))
    return len(pending)


@contextlib.asynccontextmanager
async def _shielded() -> AsyncGenerator[None]:
    with anyio.CancelScope(shield=True):
        yield


async def _write(
    gateway: Gateway, store: Store, plan: Callable[[Catalog], Plan], tool: str, if_version: str | None
) -> Receipt:
    file = gateway.config_file
    locked = file.locked()
    await anyio.to_thread.run_sync(locked.__enter__)
    try:
        await settle(store, file)
        draft = await anyio.to_thread.run_sync(_draft, file, plan, if_version)
        if draft.after == draft.before:
            return _receipt(gateway, draft, None)
        change = journal.ChangeRecord(
            id=journal.new_id(gateway.now_ms()),
            created_ms=gateway.now_ms(),
            applied_ms=None,
            state="pending",
            actor=gateway.caller.actor,
            door=gateway.caller.door,
            tool=tool,
            summary=draft.plan.summary,
            file=str(file.target()),
            version_before=version_of(draft.before),
            version_after=version_of(draft.after),
            diff=draft.diff,
            edits=draft.edits,
            undoes=None,
        )
        await store.write(lambda connection: journal.insert_pending(connection, change), durable=True)
        try:
            await anyio.to_thread.run_sync(file.replace, draft.before, draft.after, draft.configuration)
        except GatewayError:
            await store.write(lambda connection: journal.mark_failed(connection, change.id))
            raise
        # If this row cannot be written now, the file still holds the change and the next one settles the row.
        with contextlib.suppress(GatewayError):
            await store.write(
                lambda connection: journal.mark_applied(connection, change.id, gateway.now_ms())
            )
        return _receipt(gateway, draft, change)
    finally:
        await anyio.to_thread.run_sync(locked.__exit__, None, None, None)


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
    changed = file.interpret(after)
    hidden = {*literal_secrets(current.parsed.data), *literal_secrets(after.data)}
    edits = [
        {"before": excerpt.as_dict(), "after": None if edit.value is DELETE else entry_text(after, edit.path)}
        for edit, excerpt in zip(planned.edits, record_edits(steps, planned.edits), strict=True)
    ]
    diff = _redact(unified_diff(current.text, after.text, file.path.name), hidden)
    kept = _redact(json.dumps(edits, ensure_ascii=False), hidden)
    return _Draft(planned, before, after.text.encode(), changed, diff, kept)


def _redact(text: str, hidden: Collection[str]) -> str:
    """Replace keys that someone wrote into the file by hand: neither a diff nor the journal may show them."""
    for secret in sorted(hidden, key=len, reverse=True):
        for form in {secret, json.dumps(secret, ensure_ascii=False)[1:-1]}:
            text = text.replace(form, "***")
    return text


def _holds(file: ConfigFile, edits: str) -> bool:
    """Say whether the file's entries are the ones a change would have left."""
    with contextlib.suppress(GatewayError):
        parsed = file.load_unbroken().parsed
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
