"""What happens between the steps of a change: crashes, editors, keys in the file."""

import asyncio
import errno
import threading
from dataclasses import replace

import anyio
import filelock
import pytest
from tests.factories import NOW

from voicegw_mcp.config import replacement
from voicegw_mcp.config.disk import DiskFile, version_of
from voicegw_mcp.config.document import DELETE, Edit
from voicegw_mcp.core.changes import apply_change
from voicegw_mcp.core.drafts import Plan, make_draft
from voicegw_mcp.errors import Conflict, InvalidInput, StoreUnavailable
from voicegw_mcp.store import changes as journal

FILE = "# top\nprojects:\n  a: {name: A}  # first\n"


def adding(project_id, **fields):
    entry = {"name": project_id.upper(), **fields}
    return lambda _catalog: Plan(f"Create {project_id}", [Edit(("projects", project_id), entry)])


async def rows(gateway):
    return await (await gateway.store()).ask(journal.list_changes, limit=50)


async def pend(gateway, before, after, edits="[]"):
    """Leave the journal as a crash between its two rows would."""
    record = journal.ChangeRecord(
        id=journal.new_id(NOW - 1), created_ms=NOW, applied_ms=None, state="pending", actor="a", door="d", tool="t",
        summary="s", file=str(gateway.config_file.base.target()), version_before=version_of(before.encode()),
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


async def test_the_next_change_settles_what_a_crash_left(gateway):
    gateway.config_file.path.write_text(FILE)
    await pend(gateway, "x", FILE)
    await apply_change(gateway, adding("b"), tool="t")
    assert sorted(row.state for row in await rows(gateway)) == ["applied", "applied"]


@pytest.fixture
def editor(monkeypatch):
    """Return what makes an editor save something right before the two files change places, any number of times."""

    def save_before_the_exchange(*saves):
        waiting = list(saves)
        put = replacement._put

        def after_saving(temporary, target, expected):
            rename = replacement._renameat2

            def late(*arguments):
                if waiting:
                    waiting.pop(0)()
                return rename(*arguments)

            monkeypatch.setattr(replacement, "_renameat2", late)
            try:
                return put(temporary, target, expected)
            finally:
                monkeypatch.setattr(replacement, "_renameat2", rename)

        monkeypatch.setattr(replacement, "_put", after_saving)

    return save_before_the_exchange


def save(path, text, *, in_place=False):
    def act():
        if in_place:
            path.write_text(text)
        else:
            beside = path.with_suffix(".swp")
            beside.write_text(text)
            beside.replace(path)

    return act


@pytest.mark.parametrize("in_place", [True, False])
async def test_a_change_is_planned_anew_when_an_editor_saves_something_else_meanwhile(
    gateway, editor, in_place
):
    path = gateway.config_file.path
    path.write_text(FILE)
    editor(save(path, "# saved by hand\n" + FILE, in_place=in_place))
    receipt = await apply_change(gateway, adding("b"), tool="t")
    assert path.read_text().startswith("# saved by hand\n# top\n")
    assert "  b:" in path.read_text()
    assert "@@ -2,3 +2,4 @@" in receipt.diff
    assert [row.state for row in await rows(gateway)] == ["applied", "failed"]


async def test_an_editor_that_changes_the_same_entry_meanwhile_wins(gateway, editor):
    path = gateway.config_file.path
    path.write_text(FILE)
    by_hand = FILE + "  b: {name: By hand}\n"
    editor(save(path, by_hand))
    with pytest.raises(Conflict, match=r"projects\.b was changed by someone else") as caught:
        await apply_change(gateway, adding("b"), tool="t")
    assert caught.value.details["config_version"] == version_of(by_hand.encode())
    assert path.read_text() == by_hand
    assert [row.state for row in await rows(gateway)] == ["failed"]


async def test_an_editor_that_saves_again_and_again_gets_his_way(gateway, editor):
    path = gateway.config_file.path
    path.write_text(FILE)
    editor(*(save(path, f"# save {number}\n{FILE}") for number in range(9)))
    with pytest.raises(Conflict, match="edited again and again") as caught:
        await apply_change(gateway, adding("b"), tool="t")
    assert caught.value.details["retry_after_ms"] > 0
    assert path.read_text().startswith("# save ")
    assert "  b:" not in path.read_text()
    assert {row.state for row in await rows(gateway)} == {"failed"}


async def test_a_file_that_an_editor_makes_first_is_not_overwritten(gateway, editor):
    path = gateway.config_file.path
    path.unlink(missing_ok=True)
    editor(save(path, "timezone: CET\n"))
    await apply_change(gateway, adding("b"), tool="t")
    assert path.read_text().startswith("timezone: CET\n")
    assert "  b:" in path.read_text()


@pytest.mark.parametrize(
    ("call", "words", "state", "written"),
    [
        ("_sync_folder", "was written, but the disk did not confirm", "applied", True),
        ("_displaced", "was written, but the disk did not confirm", "applied", True),
        ("_put", "could not be written", "failed", False),
    ],
)
async def test_after_an_error_of_the_disk_the_answer_is_what_the_file_says(
    gateway, monkeypatch, call, words, state, written
):
    gateway.config_file.path.write_text(FILE)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(replacement, call, fail)
    with pytest.raises(StoreUnavailable, match=words):
        await apply_change(gateway, adding("b"), tool="t")
    assert ("  b:" in gateway.config_file.path.read_text()) is written
    assert [row.state for row in await rows(gateway)] == [state]
    monkeypatch.undo()
    await apply_change(gateway, adding("c"), tool="t")
    assert not list(gateway.config_file.path.parent.glob(".*.tmp"))


async def test_an_editor_that_was_displaced_when_the_disk_failed_gets_his_save_back(
    gateway, editor, monkeypatch
):
    path = gateway.config_file.path
    path.write_text(FILE)
    editor(save(path, "# saved by hand\n" + FILE))

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(replacement, "_displaced", fail)
    with pytest.raises(StoreUnavailable, match="it is as it was") as caught:
        await apply_change(gateway, adding("b"), tool="t")
    assert caught.value.details["state"] == "failed"
    assert path.read_text() == "# saved by hand\n" + FILE


async def test_when_neither_file_nor_journal_can_tell_the_answer_says_so(gateway, monkeypatch):
    gateway.config_file.path.write_text(FILE)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(replacement, "_sync_folder", fail)
    monkeypatch.setattr(journal, "state_of", refuse_all)
    with pytest.raises(StoreUnavailable, match="may have been written or not") as caught:
        await apply_change(gateway, adding("b"), tool="t")
    assert caught.value.details["state"] == "pending"


async def test_a_file_that_becomes_read_only_between_two_looks_is_left_alone(gateway, monkeypatch):
    gateway.config_file.path.write_text(FILE)
    monkeypatch.setattr(
        "voicegw_mcp.core.changes.make_draft",
        lambda *given: replace(
            make_draft(*given), disk=DiskFile(gateway.config_file.path.with_name("other"))
        ),
    )
    with pytest.raises(Conflict, match="other came into use a moment ago"):
        await apply_change(gateway, adding("b"), tool="t")
    assert await rows(gateway) == []
    assert gateway.config_file.path.read_text() == FILE


async def test_changes_that_stand_in_line_wait_for_a_lock_together_not_one_after_the_other(
    gateway, monkeypatch
):
    gateway.config_file.path.write_text(FILE)
    await apply_change(gateway, adding("b"), tool="t")
    monkeypatch.setattr("voicegw_mcp.core.changes.LOCK_TIMEOUT_S", 0.2)
    refused = []

    async def one(number):
        with pytest.raises(Conflict, match="another process") as caught:
            await apply_change(gateway, adding(f"c{number}"), tool="t")
        refused.append(caught.value.details["retry_after_ms"])

    with filelock.FileLock(gateway.config_file.path.with_name(".voicegw.yaml.lock")), anyio.fail_after(8):
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(one, number)
    assert len(refused) == 60


async def test_a_store_that_is_closed_ends_the_waiting_for_a_lock(gateway):
    gateway.config_file.path.write_text(FILE)
    await apply_change(gateway, adding("b"), tool="t")
    with filelock.FileLock(gateway.config_file.path.with_name(".voicegw.yaml.lock")), anyio.fail_after(4):
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(_refused, gateway, f"c{number}")
            await anyio.wait_all_tasks_blocked()
            await gateway.close()


async def _refused(gateway, name):
    with pytest.raises((Conflict, StoreUnavailable)):
        await apply_change(gateway, adding(name), tool="t")


def refuse_all(*_, **__):
    raise StoreUnavailable("The disk is full.")


async def test_changes_of_one_millisecond_are_listed_in_their_order(gateway):
    for name in "bcdef":
        await apply_change(gateway, adding(name), tool="t")
    assert [row.summary[-1] for row in await rows(gateway)] == list("fedcb")


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
