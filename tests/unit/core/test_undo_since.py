"""Whose an entry is by now: undo looks at what came later, and finds its way through a long journal in few queries."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from tests.factories import NOW
from tests.protocol.agents import FILE
from tests.unit.core.conftest import ADD_PROJECT, refused

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.lineage import find_undoing, newest_left, newest_there
from voicegw_mcp.store import changes as journal

DELETE = ("delete_project", {"project_id": "new", "confirm": True})
UPDATE = ("create_project", {"project_id": "new", "name": "N2", "on_conflict": "update"})
BACK = ("create_project", {**ADD_PROJECT[1], "on_conflict": "update"})


@pytest.mark.parametrize("way", [(DELETE, ADD_PROJECT), (UPDATE, BACK)], ids=["made anew", "changed back"])
async def test_an_entry_that_others_left_with_the_same_bytes_is_theirs(gateway, path, call, undo, way):
    path.write_text(FILE)
    mine = await call(*ADD_PROJECT)
    after = path.read_text()
    bob = gateway.as_caller("bob")
    away, back = [await call(*change, bob) for change in way]
    assert path.read_text() == after
    error = await refused(undo, path, mine)
    assert error.message.startswith(
        f"projects.new was changed since change {mine} by bob (test, create_project)"
    )
    assert error.details == {"change_id": mine, "field": "projects.new", "changed_by": back}
    assert back in error.hint
    await undo(back)
    await refused(undo, path, mine)
    await undo(away)
    assert path.read_text() == after
    await undo(mine)
    assert path.read_text() == FILE


async def test_what_others_did_and_took_back_again_stands_in_nobodys_way(path, call, undo):
    path.write_text(FILE)
    mine = await call(*ADD_PROJECT)
    after = path.read_text()
    for change in (UPDATE, DELETE):
        theirs = await call(*change)
        for _ in range(3):
            undone = await undo(theirs)
            await undo(undone)
        await refused(undo, path, mine)
        await undo(theirs)
    assert path.read_text() == after
    undone = await undo(mine)
    await call(*ADD_PROJECT)
    await undo()
    redone = await undo(undone)
    assert path.read_text() == after
    await undo(redone)
    assert path.read_text() == FILE


async def test_a_redo_does_not_go_over_what_came_and_went_meanwhile(path, call, undo):
    path.write_text(FILE)
    await call(*ADD_PROJECT)
    undone = await undo()
    await call(*ADD_PROJECT)
    gone = await call(*DELETE)
    assert (await refused(undo, path, undone)).details["changed_by"] == gone


async def test_a_redo_of_what_was_there_before_is_a_change_of_someone_else(path, call, undo):
    path.write_text(FILE)
    first = await call(*ADD_PROJECT)
    taken = await undo()
    second = await call(*ADD_PROJECT)
    await undo(second)
    await undo(taken)  # the first one's entry is there again, with the bytes of the second
    error = await refused(undo, path, second)
    assert "was taken back already" in error.message
    await undo(first)
    assert path.read_text() == FILE


def row(number, *paths, undoes=None, state="applied", file="/f.yaml", left="x\n"):
    before = {"present": False, "text": "", "blank": 0, "trail": 0}
    edits = [{"before": {"path": path, **before}, "after": left} for path in paths]
    return journal.ChangeRecord(
        id=f"{number:020}", created_ms=NOW, applied_ms=None, state=state, actor="me", door="test", tool="t", summary="s",
        file=file, version_before="a", version_after="b", diff="+x" * 500, edits=json.dumps(edits, ensure_ascii=False),
        undoes=None if undoes is None else f"{undoes:020}",
    )  # fmt: skip


@pytest.fixture
async def write(gateway):
    """Writes rows to the journal, settled."""
    store = await gateway.store()

    def insert(connection, rows):
        for record in rows:
            journal.insert_pending(connection, record)
            if record.state != "pending":
                settle = journal.mark_applied if record.state == "applied" else journal.mark_failed
                settle(connection, record.id)

    async def write(*rows):
        await store.write(partial(insert, rows=rows))
        return store

    return write


class Counted:
    """Reads of a store, counted."""

    def __init__(self, store):
        self.store, self.asked = store, []

    async def ask(self, work, *args):
        def counting(reads):
            counted = SimpleNamespace(
                read=lambda sql, params=(): self.asked.append(sql) or reads.read(sql, params)
            )
            return work(counted, *args)

        return await self.store.ask(counting)


async def test_a_page_of_the_journal_asks_once_which_of_its_changes_are_undone(write):
    chain = [row(number, ["projects", "q"], undoes=number - 1 if number else None) for number in range(301)]
    other = [row(400, ["a"]), row(401, ["a"], undoes=400), row(402, ["a"], undoes=401, state="failed")]
    reads = Counted(await write(*chain, *other))
    found = await reads.ask(find_undoing, [*chain, *other])
    assert len(reads.asked) == 1
    undone = {record.id: chain[-1].id for record in chain[1::2]}
    assert found == {**undone, other[0].id: other[1].id}
    assert await reads.ask(find_undoing, []) == {}


async def test_the_newest_in_force_is_found_by_one_query_behind_many_that_were_taken_back(write):
    rows = [row(1, ["a"]), row(2, ["b"]), row(3, undoes=2), row(4, undoes=3)]
    for number in range(10, 400, 4):
        rows += [row(number, ["c"]), row(number + 1, undoes=number), row(number + 2, undoes=number + 1)]
        rows.append(row(number + 3, undoes=number + 2))
    rows += [row(500, ["d"], state="failed"), row(501, ["d"], state="pending"), row(502, file="/other.yaml")]
    reads = Counted(await write(*rows))
    assert await reads.ask(journal.newest_in_force, ["/f.yaml"]) == rows[1]
    assert len(reads.asked) == 1
    assert (await reads.ask(journal.newest_in_force, ["/other.yaml", "/f.yaml"])).id == rows[-1].id
    assert await reads.ask(journal.newest_in_force, ["/none.yaml"]) is None


@pytest.mark.parametrize("there", [["projects", "q"], ["projects", "q", "tags"], ["projects"]])
async def test_a_later_change_of_an_entry_of_a_part_or_of_what_is_around_it_is_found(write, there):
    beside = [row(2, ["projects", "qq"], ["a", "q"]), row(3, ["projects", 'q", "x'], ["proj"])]
    mine = [("projects", "q"), ("a",)]
    store = await write(row(1, *mine), *beside[1:], row(4, there), row(5, there, file="/g"), row(6, ["b"]))
    for find in (newest_left, newest_there):
        assert (await store.ask(find, "/f.yaml", mine, after=row(1).id)).id == row(4).id
        assert await store.ask(find, "/f.yaml", mine, after=row(4).id) is None
    await write(row(7, there, undoes=4))
    assert (await store.ask(newest_there, "/f.yaml", mine, after=row(1).id)).id == row(7).id
    assert await store.ask(newest_left, "/f.yaml", mine, after=row(1).id) is None
    assert (await store.ask(newest_left, "/f.yaml", mine, after=row(4).id)).id == row(7).id
    many = [*mine, *(("projects", f"é{number}") for number in range(40))]
    await write(row(8, ["projects", "é7"], left="y\n"))
    assert (await store.ask(newest_left, "/f.yaml", many, after=row(1).id)).id == row(8).id
    assert (await store.ask(newest_left, "/f.yaml", [("projects", "é7")], after=row(1).id)).id == row(8).id


async def test_a_change_that_left_an_entry_as_it_was_does_not_count(write):
    mine = [("projects", "q")]
    idle = {"path": ["projects", "q"], "present": True, "text": "\nsame\n", "blank": 1, "trail": 0}
    edits = json.dumps([{"before": idle, "after": "same"}, json.loads(row(2, ["a"]).edits)[0]])
    store = await write(row(1, *mine), replace(row(2), edits=edits))
    assert await store.ask(newest_left, "/f.yaml", mine, after=row(1).id) is None
    assert (await store.ask(newest_left, "/f.yaml", [("a",)], after=row(1).id)).id == row(2).id


async def test_a_pending_change_of_a_file_that_is_not_in_force_names_that_file(path, undo, write):
    path.write_text(FILE)
    await write(row(1, ["projects", "q"], state="pending", file="/elsewhere/voicegw.yaml"))
    error = await refused(undo, path, row(1).id)
    assert "The file it belongs to, /elsewhere/voicegw.yaml, is not the one in force now." in error.message
    assert error.hint.endswith(f"voicegw undo {row(1).id} --config /elsewhere/voicegw.yaml")
    assert error.details["file"] == "/elsewhere/voicegw.yaml"


async def test_a_pending_change_of_a_file_whose_link_was_moved_is_settled_with_the_file_it_names(
    gateway, path, undo, write, tmp_path
):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(FILE)
    new.write_text(FILE)
    path.symlink_to(old)
    gateway.catalog()
    await write(replace(row(1, ["projects", "q"], state="pending"), file=str(old)))
    path.unlink()
    path.symlink_to(new)
    error = await refused(undo, path, row(1).id)
    assert f"The file it belongs to, {old}, is not the one in force now." in error.message
    theirs = Gateway.open(
        str(old),
        door="test",
        environment={"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")},
        now_ms=lambda: NOW,
    )
    try:
        assert (await (await theirs.store()).ask(journal.get_change, row(1).id)).state == "failed"
    finally:
        await theirs.close()
    assert "never came into the file" in (await refused(undo, path, row(1).id)).message
