"""What a gateway does when it opens its store: it finishes what a crash left, judging by the file."""

import itertools
import json
from functools import partial

import filelock
import pytest
from tests.factories import NOW

from voicegw_mcp.config.disk import DiskFile, version_of
from voicegw_mcp.core import recovery
from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.health import health
from voicegw_mcp.errors import GatewayError
from voicegw_mcp.store import changes as journal
from voicegw_mcp.store.sqlite import Store

BEFORE = b"# top\nprojects:\n  a: {name: A}  # first\n"
AFTER = BEFORE + b"  b: {name: B}\n"
EDITS = json.dumps([{"before": {"path": ["projects", "b"]}, "after": "  b: {name: B}\n"}])
SAVED = b"# saved by an editor\n" + BEFORE
BOTH = b"# saved by an editor\n" + AFTER


@pytest.fixture
def file(tmp_path):
    return tmp_path / "voicegw.yaml"


@pytest.fixture
def open_gateway(tmp_path, file):
    """Makes gateways on one file and store, as servers that start do."""

    def make(**environment):
        named = {"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db"), **environment}
        return Gateway.open(str(file), door="test", environment=named, now_ms=lambda: NOW)

    return make


@pytest.fixture
def leave(tmp_path, file):
    """Writes a row as a crash between the two rows of a change leaves it."""

    async def pend(before=BEFORE, after=AFTER, *, edits=EDITS, change_id="c1", path=None, state="pending"):
        record = journal.ChangeRecord(
            id=change_id, created_ms=NOW, applied_ms=None, state="pending", actor="a", door="d", tool="t",
            summary="s", file=str(path or file), version_before=version_of(before), version_after=version_of(after),
            diff="", edits=edits, undoes=None,
        )  # fmt: skip
        store = await Store.open(tmp_path / "voicegw.db")
        try:
            await store.write(partial(journal.insert_pending, change=record))
            if state == "applied":
                await store.write(partial(journal.mark_applied, change_id=change_id, applied_ms=NOW))
        finally:
            await store.close()

    return pend


async def states(gateway):
    """Open the gateway's store and return the states of its changes by id."""
    try:
        store = await gateway.store()
        return {
            row.id: (row.state, row.applied_ms) for row in await store.ask(journal.list_changes, limit=50)
        }
    finally:
        await gateway.close()


def others(file):
    """Return the names beside the file, without the store's and the locks'."""
    names = {path.name for path in file.parent.iterdir()} - {file.name}
    return {name for name in names if not name.startswith("voicegw.db") and not name.endswith(".lock")}


@pytest.mark.parametrize(
    ("content", "state"),
    [(AFTER, "applied"), (BEFORE, "failed"), (BOTH, "applied"), (SAVED, "failed"), (b"", "failed")],
    ids=[
        "the file has the change",
        "the file is as it was",
        "edited since, with the change in it",
        "edited since, without it",
        "emptied since",
    ],
)
async def test_a_pending_change_is_settled_by_the_file_when_the_store_is_opened(
    file, open_gateway, leave, content, state
):
    file.write_bytes(content)
    await leave()
    assert await states(open_gateway()) == {"c1": (state, None)}
    assert file.read_bytes() == content


async def test_a_file_that_is_gone_leaves_the_change_pending_until_it_is_back(file, open_gateway, leave):
    await leave()
    assert await states(open_gateway()) == {"c1": ("pending", None)}
    file.write_bytes(AFTER)
    assert await states(open_gateway()) == {"c1": ("applied", None)}


async def test_a_first_change_that_never_made_the_file_is_failed(open_gateway, leave):
    await leave(before=b"")
    assert await states(open_gateway()) == {"c1": ("failed", None)}


async def test_a_file_that_became_a_folder_leaves_the_change_pending_until_it_is_back(
    file, open_gateway, leave
):
    await leave()
    file.mkdir()
    assert await states(open_gateway()) == {"c1": ("pending", None)}
    file.rmdir()
    file.write_bytes(BEFORE)
    assert await states(open_gateway()) == {"c1": ("failed", None)}


async def test_a_change_whose_file_is_locked_stays_pending_and_the_store_opens_all_the_same(
    file, open_gateway, leave, monkeypatch
):
    monkeypatch.setattr(recovery, "PATIENCE_S", 0)
    file.write_bytes(AFTER)
    await leave()
    with filelock.FileLock(file.with_name(".voicegw.yaml.lock")):
        assert await states(open_gateway()) == {"c1": ("pending", None)}
    assert await states(open_gateway()) == {"c1": ("applied", None)}


async def test_several_pending_changes_are_settled_each_for_itself(file, open_gateway, leave):
    file.write_bytes(AFTER)
    await leave(BEFORE + b"x: 1\n", BEFORE + b"x: 2\n", edits="[]", change_id="c0")
    await leave(change_id="c1")
    elsewhere = file.with_name("other.yaml")
    await leave(change_id="c2", path=elsewhere)
    found = await states(open_gateway())
    assert found["c1"] == ("applied", None)
    assert found["c2"] == ("pending", None), "it is a change of another file, which its own gateway settles"


async def test_what_is_settled_stays_as_it_is(file, open_gateway, leave):
    file.write_bytes(SAVED)
    await leave(state="applied")
    assert await states(open_gateway()) == {"c1": ("applied", NOW)}


async def test_opening_a_store_with_nothing_pending_takes_no_lock(file, open_gateway, leave):
    file.write_bytes(AFTER)
    await leave(state="applied")
    with filelock.FileLock(file.with_name(".voicegw.yaml.lock")):
        assert await states(open_gateway()) == {"c1": ("applied", NOW)}


@pytest.mark.parametrize(
    "left", [AFTER, AFTER[:7], b"", BEFORE], ids=["whole", "half", "empty", "the old bytes"]
)
@pytest.mark.parametrize(("content", "state"), [(BEFORE, "failed"), (AFTER, "applied")], ids=["old", "new"])
async def test_a_temporary_file_that_a_crash_left_is_removed(file, open_gateway, leave, content, state, left):
    file.write_bytes(content)
    await leave()
    whole = left in {AFTER, BEFORE}  # a file changes its name, and then its place, only when it is whole
    file.with_name(".voicegw.yaml.c1.tmp" if whole else ".voicegw.yaml.c1.draft.tmp").write_bytes(left)
    assert await states(open_gateway()) == {"c1": (state, None)}
    assert file.read_bytes() == content
    assert others(file) == set()


async def test_what_an_editor_saved_is_put_back_when_a_crash_left_it_displaced(file, open_gateway, leave):
    file.write_bytes(AFTER)
    file.with_name(".voicegw.yaml.c1.tmp").write_bytes(SAVED)
    await leave()
    assert await states(open_gateway()) == {"c1": ("failed", None)}
    assert file.read_bytes() == SAVED
    assert others(file) == set()


async def test_what_an_editor_saved_over_a_displaced_file_stays_and_so_does_that(file, open_gateway, leave):
    newest = b"# saved once more\n" + BEFORE
    file.write_bytes(newest)
    file.with_name(".voicegw.yaml.c1.tmp").write_bytes(SAVED)
    await leave()
    gateway = open_gateway()
    assert await states(gateway) == {"c1": ("failed", None)}
    assert file.read_bytes() == newest
    assert others(file) == {"voicegw.yaml.saved-c1"}
    assert file.with_name("voicegw.yaml.saved-c1").read_bytes() == SAVED
    (warning,) = [text for text in (await health(gateway)).warnings if "saved-c1" in text]
    assert "Compare it with the file" in warning


async def test_a_temporary_file_of_no_pending_change_is_left_alone(file, open_gateway, leave):
    file.write_bytes(AFTER)
    await leave()
    file.with_name(".voicegw.yaml.c9.tmp").write_bytes(b"whose is it?")
    await states(open_gateway())
    assert others(file) == {".voicegw.yaml.c9.tmp"}


async def test_a_temporary_file_that_cannot_be_removed_leaves_the_change_pending(file, open_gateway, leave):
    file.write_bytes(AFTER)
    temporary = file.with_name(".voicegw.yaml.c1.tmp")
    temporary.mkdir()
    await leave()
    assert await states(open_gateway()) == {"c1": ("pending", None)}
    temporary.rmdir()
    assert await states(open_gateway()) == {"c1": ("applied", None)}


async def test_a_change_of_a_file_behind_a_symlink_is_settled_there(tmp_path, file, open_gateway, leave):
    real = tmp_path / "real" / "config.yaml"
    real.parent.mkdir()
    real.write_bytes(AFTER)
    file.symlink_to(real)
    real.with_name(".config.yaml.c1.tmp").write_bytes(BEFORE)
    await leave(path=real)
    assert await states(open_gateway()) == {"c1": ("applied", None)}
    assert not real.with_name(".config.yaml.c1.tmp").exists()
    assert file.is_symlink()


async def test_a_change_of_the_overlay_is_settled_too(tmp_path, file, open_gateway, leave):
    file.write_bytes(BEFORE)
    overlay = tmp_path / "over.yaml"
    after = f"overlay_of: {file}\nprojects:\n  b: {{name: B}}\n".encode()
    overlay.write_bytes(after)
    await leave(b"", after, path=overlay)
    assert await states(open_gateway(VOICEGW_OVERLAY=str(overlay))) == {"c1": ("applied", None)}


async def test_recovery_makes_nothing_for_an_overlay_that_there_is_not(tmp_path, file, open_gateway, leave):
    file.write_bytes(AFTER)
    await leave()
    overlay = tmp_path / "missing" / "over.yaml"
    assert await states(open_gateway(VOICEGW_OVERLAY=str(overlay))) == {"c1": ("applied", None)}
    assert not overlay.parent.exists()
    await leave(change_id="c2")
    await states(open_gateway())
    assert [path.name for path in tmp_path.iterdir() if "overlay" in path.name] == []


async def test_a_file_that_is_broken_otherwise_does_not_keep_the_store_from_opening(
    file, open_gateway, leave
):
    file.write_bytes(AFTER)
    gateway = open_gateway()
    gateway.catalog()
    file.write_bytes(b"projects: [")
    await leave()
    assert (await states(gateway))["c1"][0] in {"pending", "failed"}
    assert file.read_bytes() == b"projects: ["


@pytest.fixture
async def drift(tmp_path, file):
    """Says how the file differs from what the journal knows."""
    store = await Store.open(tmp_path / "voicegw.db")

    async def text():
        return (await store.ask(recovery.describe_drift, [DiskFile(file)], None, None)).text

    yield text
    await store.close()


async def test_a_file_as_the_last_change_left_it_has_not_drifted(file, leave, drift):
    assert await drift() == ""
    file.write_bytes(AFTER)
    assert await drift() == "", "with no journal there is nothing to differ from"
    await leave(state="applied")
    assert await drift() == ""


async def test_a_file_that_was_restored_is_told_by_its_change_and_how_many_are_not_in_it(file, leave, drift):
    texts = [BEFORE + b"# %d\n" % number for number in range(4)]
    for number, (old, new) in enumerate(itertools.pairwise(texts)):
        await leave(old, new, change_id=f"c{number}", state="applied")
    await leave(texts[3], BEFORE, change_id="c3")
    file.write_bytes(texts[1])
    told = await drift()
    assert "as change c0 left it" in told
    assert "2 later changes of the journal are not in it" in told
    file.write_bytes(texts[2])
    told = await drift()
    assert "as change c1 left it" in told
    assert "1 later change of the journal is not in it" in told


async def test_a_file_that_was_edited_by_hand_is_told_by_the_last_change_of_the_journal(file, leave, drift):
    await leave(state="applied")
    file.write_bytes(BOTH)
    assert "edited since change c1, the last one in the journal" in await drift()


async def test_a_file_that_cannot_be_read_has_no_drift_to_tell(file, leave, drift):
    await leave(state="applied")
    file.mkdir()
    assert await drift() == ""


async def test_errors_of_recovery_do_not_reach_whoever_opens_the_store(
    file, open_gateway, leave, monkeypatch
):
    file.write_bytes(AFTER)
    await leave()

    def refuse(*_):
        raise GatewayError("no")

    monkeypatch.setattr(DiskFile, "recover", refuse)
    assert await states(open_gateway()) == {"c1": ("pending", None)}
