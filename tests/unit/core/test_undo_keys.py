"""Undo of entries that hold keys: the journal keeps none, the file keeps its own."""

import pytest
from tests.unit.core.conftest import KEY, refused

from voicegw_mcp.store import changes as journal

WITH_KEYS = f"""\
# once {KEY}
providers:
  # before: sk-fake-before-0123456789
  a:
    # ours: {KEY}
    type: openai
    api_key: '{KEY}'   # to be moved
    base_url: https://user:fake-password@a.example.com/v1
    note: "*** very important ***"
  # between: sk-fake-between-0123456789

  b: {{type: openai, api_key: 'fake-key-0001'}}
  c: {{type: openai}}
"""
KEEP = {"provider_type": "openai", "on_conflict": "update"}


@pytest.mark.parametrize(
    "change",
    [
        ("add_provider", {"provider_id": "a", "options": {"note": "less", "more": 1}, **KEEP}),
        ("add_provider", {"provider_id": "b", "options": {"more": 1}, **KEEP}),
        ("add_provider", {"provider_id": "c", "options": {"more": 1}, **KEEP}),
        ("delete_provider", {"provider_id": "c", "confirm": True}),
        ("add_provider", {"provider_id": "d", "provider_type": "openai"}),
    ],
    ids=lambda change: f"{change[0]} {change[1]['provider_id']}",
)
@pytest.mark.parametrize("elsewhere", ["", "timezone: UTC\n"])
async def test_keys_that_stand_in_the_file_stay_there_while_a_change_is_taken_back(
    gateway, path, call, undo, change, elsewhere
):
    path.write_text(WITH_KEYS)
    await call(*change)
    after = path.read_text()
    path.write_text(after + elsewhere)
    undone = await undo()
    assert path.read_text() == WITH_KEYS + elsewhere
    await undo(undone)
    assert path.read_text() == after + elsewhere
    for row in await (await gateway.store()).ask(journal.list_changes, limit=50):
        assert "fake-" not in row.edits + row.diff + row.summary


@pytest.mark.parametrize("provider_id", ["a", "b"])
@pytest.mark.parametrize("alone", [False, True])
async def test_an_entry_deleted_with_its_key_does_not_come_back_without_it(
    path, call, undo, provider_id, alone
):
    text = WITH_KEYS
    if alone:  # no other key in the file, which then holds nothing that has to be hidden
        text = "providers:\n  b: {type: openai, api_key: 'fake-key-0001'}\n  a: {type: openai, api_key: 'fake-key-0001'}\n  c: {type: openai}\n"
        other = "a" if provider_id == "b" else "b"
        text = "".join(line for line in text.splitlines(True) if not line.startswith(f"  {other}:"))
    path.write_text(text)
    await call("delete_provider", {"provider_id": provider_id, "confirm": True})
    error = await refused(undo, path)
    assert "held a key that stood in the file itself" in error.message
    assert "voicegw secrets set" in error.hint
    assert error.details["field"].startswith(f"providers.{provider_id}")
    assert "***" not in path.read_text().replace("*** very important ***", "")


async def test_a_key_that_moved_out_of_the_file_does_not_come_back(path, call, undo):
    path.write_text(WITH_KEYS)
    await call("add_provider", {"provider_id": "b", "api_key": "${B_KEY}", **KEEP})
    assert (await refused(undo, path)).details["field"] == "providers.b.api_key"


async def test_asterisks_that_someone_wrote_come_back(path, call, undo):
    text = "projects:\n  # *** VIP ***\n  a:\n    name: A\n    description: '*** VIP ***'\n  b: {name: B}\n"
    for start in (text, f"{text}providers: {{x: {{type: openai, api_key: 'fake-key-0001'}}}}\n"):
        path.write_text(start)
        await call("delete_project", {"project_id": "a", "confirm": True})
        await undo()
        assert path.read_text() == start


COMMENTED = """\
providers:
  # api_key: hunter2hunter2
  a:
    type: openai
    api_key: ${A_KEY}   # was AIzaSyA1234567890abcdefghijk
    # token = "hunter2"
    # -----BEGIN PRIVATE KEY-----
    # MIIhunter2
    # -----END PRIVATE KEY-----
  # between, password: hunter2

  b: {type: openai, api_key_2: hunter2}
"""


@pytest.mark.parametrize("provider_id", ["a", "b", "c"])
async def test_keys_in_comments_are_in_no_journal_and_come_back_with_an_update(
    gateway, path, call, undo, provider_id
):
    path.write_text(COMMENTED)
    await call("add_provider", {"provider_id": provider_id, "options": {"more": 1}, **KEEP})
    after = path.read_text()
    undone = await undo()
    assert path.read_text() == COMMENTED
    await undo(undone)
    assert path.read_text() == after
    for row in await (await gateway.store()).ask(journal.list_changes, limit=50):
        kept = row.edits + row.diff + row.summary
        assert "hunter2" not in kept
        assert "AIza" not in kept


async def test_an_entry_deleted_with_a_key_in_its_comment_does_not_come_back_without_it(path, call, undo):
    path.write_text(COMMENTED)
    await call("delete_provider", {"provider_id": "a", "confirm": True})
    await refused(undo, path)
    assert "***" not in path.read_text()
    assert "AIza" not in path.read_text()
