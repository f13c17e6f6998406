"""What happens between the steps of a change: crashes, editors, keys in the file."""

import asyncio
import threading
from functools import partial

import anyio
import pytest
from tests.factories import NOW

from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.config.file import version_of
from voicegw_mcp.core.changes import Plan, apply_change, settle
from voicegw_mcp.errors import Conflict, InvalidInput, StoreUnavailable
from voicegw_mcp.store import changes as journal

FILE = "# top\nprojects:\n  a: {name: A}  # first\n"


def adding(project_id, **fields):
    entry = {"name": project_id.upper(), **fields}
    return lambda _catalog: Plan(f"Create {project_id}", [Edit(("projects", project_id), entry)])


async def rows(gateway):
    return await journal.list_changes(await gateway.store(), limit=50)


async def settled(gateway):
    return await (await gateway.store()).write(
        partial(settle, file=gateway.config_file, target=str(gateway.config_file.target()))
    )


async def pend(gateway, before, after, edits="[]", change_id="c1"):
    """Leave the journal as a crash between its two rows would."""
    record = journal.ChangeRecord(
        id=change_id, created_ms=NOW, applied_ms=None, state="pending", actor="a", door="d", tool="t",
        summary="s", file=str(gateway.config_file.target()), version_before=version_of(before.encode()),
        version_after=version_of(after.encode()), diff="", edits=edits, undoes=None,
    )  # fmt: skip
    await (await gateway.store()).write(lambda connection: journal.insert_pending(connection, record))


async def test_a_change_is_journaled_with_versions_diff_and_edits(gateway):
    gateway.config_file.path.write_text(FILE)
    receipt = await apply_change(gateway, adding("b"), tool="create_project")
    (row,) = await rows(gateway)
    assert (row.id, row.state, row.applied_ms) == (receipt.change_id, "applied", NOW)
    assert (row.version_before, row.version_after) == (version_of(FILE.encode()), receipt.config_version)
    assert row.diff == receipt.diff
    assert '"after": "  b:' in row.edits
    assert receipt.catalog.project("b").settings.name == "B"


async def test_a_plan_that_changes_nothing_writes_nothing(gateway):
    gateway.config_file.path.write_text(FILE)
    receipt = await apply_change(gateway, adding("a"), tool="t")
    assert (receipt.change_id, receipt.diff) == (None, "")
    assert await rows(gateway) == []


async def test_a_change_that_would_break_the_file_is_the_caller_s_mistake(gateway):
    gateway.config_file.path.write_text(FILE)
    with pytest.raises(InvalidInput, match=r"With this change voicegw\.yaml") as caught:
        await apply_change(gateway, adding("b", daily_budget=-1), tool="t")
    assert caught.value.details["problems"]
    assert await rows(gateway) == []
    assert gateway.config_file.path.read_text() == FILE


@pytest.mark.parametrize(
    ("on_disk", "state"),
    [("after\n", "applied"), ("before\n", "failed"), ("other\n", "failed")],
)
async def test_what_a_crash_left_pending_is_settled_by_the_file(gateway, on_disk, state):
    texts = {"after\n": FILE + "  b: {name: B}\n", "before\n": FILE, "other\n": "timezone: CET\n"}
    gateway.config_file.path.write_text(texts[on_disk])
    edits = '[{"before": {"path": ["projects", "b"]}, "after": "  b: {name: B}\\n"}]'
    await pend(gateway, texts["before\n"], texts["after\n"], edits)
    assert (
        await (await gateway.store()).write(
            partial(settle, file=gateway.config_file, target=str(gateway.config_file.target()))
        )
        == 1
    )
    (row,) = await rows(gateway)
    assert row.state == state


async def test_a_pending_change_that_someone_edited_around_counts_as_applied(gateway):
    gateway.config_file.path.write_text(FILE + "  b: {name: B}\n# an editor was here\n")
    edits = '[{"before": {"path": ["projects", "b"]}, "after": "  b: {name: B}\\n"}]'
    await pend(gateway, FILE, FILE + "  b: {name: B}\n", edits)
    await (await gateway.store()).write(
        partial(settle, file=gateway.config_file, target=str(gateway.config_file.target()))
    )
    assert [row.state for row in await rows(gateway)] == ["applied"]


async def test_a_pending_change_of_a_broken_file_is_failed(gateway):
    gateway.config_file.path.write_text(FILE)
    gateway.catalog()
    gateway.config_file.path.write_text("projects: [")
    await pend(gateway, FILE, FILE + "x", '[{"before": {"path": ["projects", "b"]}, "after": null}]')
    await (await gateway.store()).write(
        partial(settle, file=gateway.config_file, target=str(gateway.config_file.target()))
    )
    assert [row.state for row in await rows(gateway)] == ["failed"]


async def test_the_next_change_settles_what_a_crash_left(gateway):
    gateway.config_file.path.write_text(FILE)
    await pend(gateway, "x", FILE)
    await apply_change(gateway, adding("b"), tool="t")
    assert sorted(row.state for row in await rows(gateway)) == ["applied", "applied"]


async def test_an_editor_that_saves_between_plan_and_rename_wins(gateway, monkeypatch):
    gateway.config_file.path.write_text(FILE)
    write = gateway.config_file._write_like

    def and_save(*arguments):
        write(*arguments)
        gateway.config_file.path.write_text("# saved by hand\n" + FILE)

    monkeypatch.setattr(gateway.config_file, "_write_like", and_save)
    with pytest.raises(Conflict, match="changed by someone else"):
        await apply_change(gateway, adding("b"), tool="t")
    assert gateway.config_file.path.read_text() == "# saved by hand\n" + FILE
    assert [row.state for row in await rows(gateway)] == ["failed"]


async def test_a_journal_that_cannot_be_settled_afterwards_does_not_undo_the_change(gateway, monkeypatch):
    gateway.config_file.path.write_text(FILE)

    def refuse(*_, **__):
        raise StoreUnavailable("The disk is full.")

    monkeypatch.setattr(journal, "mark_applied", refuse)
    receipt = await apply_change(gateway, adding("b"), tool="t")
    monkeypatch.undo()
    assert receipt.change_id
    assert [row.state for row in await rows(gateway)] == ["pending"]
    await apply_change(gateway, adding("c"), tool="t")
    assert {row.state for row in await rows(gateway)} == {"applied"}


async def test_a_caller_that_goes_away_leaves_a_whole_change(gateway):
    gateway.config_file.path.write_text(FILE)
    await gateway.store()
    begun = threading.Event()
    loop = asyncio.get_running_loop()

    def plan(catalog):
        loop.call_soon_threadsafe(begun.set)
        return adding("b")(catalog)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: apply_change(gateway, plan, tool="t"))
        assert await anyio.to_thread.run_sync(begun.wait, 10)
        tasks.cancel_scope.cancel()
    assert "  b:" in gateway.config_file.path.read_text()
    assert [row.state for row in await rows(gateway)] == ["applied"]


async def test_a_refused_plan_lets_the_next_change_in(gateway):
    gateway.config_file.path.write_text(FILE)

    def refuse(_):
        raise InvalidInput("no")

    with pytest.raises(InvalidInput):
        await apply_change(gateway, refuse, tool="t")
    with anyio.fail_after(4):
        await apply_change(gateway, adding("b"), tool="t")


async def test_keys_that_stand_in_the_file_are_neither_in_the_diff_nor_in_the_journal(gateway):
    gateway.config_file.path.write_text(
        "providers:\n  a:\n    api_key: 'fake-\"key\"-0001'\n    options: {x: 1}\nprojects: {}\n"
    )
    receipt = await apply_change(gateway, lambda _: Plan("s", [Edit(("providers", "a"), DELETE)]), tool="t")
    (row,) = await rows(gateway)
    assert "***" in receipt.diff
    assert "0001" not in receipt.diff + row.diff + row.edits
