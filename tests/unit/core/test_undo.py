"""Undo and redo: what they bring back byte for byte."""

import pytest
from tests.protocol.agents import FILE
from tests.unit.core.conftest import ADD_MODEL, ADD_PROJECT, ADD_PROVIDER, refused

from voicegw_mcp.config import disk
from voicegw_mcp.errors import InvalidInput, ReadOnly
from voicegw_mcp.store import changes as journal

CHANGES = [
    ADD_PROVIDER,
    ADD_MODEL,
    ADD_PROJECT,
    ("add_provider", {"provider_id": "deepgram", "provider_type": "deepgram", "base_url": "https://api.deepgram.com/v2", "on_conflict": "update"}),
    ("add_provider", {"provider_id": "ollama", "provider_type": "openai", "on_conflict": "update"}),
    ("register_model", {"modality": "stt", "provider_id": "deepgram", "model_name": "nova-3", "default_language": "de", "on_conflict": "update"}),
    ("create_project", {"project_id": "support-line", "name": "Renamed", "tags": [], "on_conflict": "update"}),
    ("delete_provider", {"provider_id": "deepgram", "confirm": True, "cascade": True}),
    ("delete_provider", {"provider_id": "openai", "confirm": True, "cascade": True}),
    ("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True}),
    ("delete_model", {"model_id": "openai/tts-1", "confirm": True, "cascade": True}),
    ("delete_project", {"project_id": "support-line", "confirm": True}),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: " ".join(map(str, change[1].values())))
async def test_undo_and_redo_bring_the_very_bytes_back(path, call, undo, change):
    path.write_text(FILE)
    change_id = await call(*change)
    after = path.read_text()
    assert after != FILE
    for _ in range(3):
        undone = await undo()
        assert path.read_text() == FILE
        await undo(undone)
        assert path.read_text() == after
    assert (await undo(change_id)) is not None
    assert path.read_text() == FILE


@pytest.mark.parametrize("start", [None, "", "{}\n", "# later\n", "\ufeff", "providers: {}\n", "providers:", "---\n...\n"])  # fmt: skip
@pytest.mark.parametrize("change", [ADD_PROVIDER, ADD_PROJECT], ids=["provider", "project"])
async def test_the_first_change_of_a_file_is_taken_back(path, call, undo, start, change):
    if start is not None:
        path.write_text(start)
    await call(*change)
    after = path.read_text()
    undone = await undo()
    assert path.read_text() == (start or "")
    await undo(undone)
    assert path.read_text() == after


async def test_changes_are_taken_back_one_after_another_without_naming_them(gateway, path, call, undo):
    path.write_text(FILE)
    states = []
    for change in (ADD_PROVIDER, ADD_MODEL, ADD_PROJECT):
        states.append(path.read_text())
        await call(*change)
    for state in reversed(states):
        await undo()
        assert path.read_text() == state
    error = await refused(undo, path, error=InvalidInput)
    assert "no change to undo" in error.message
    rows = await (await gateway.store()).ask(journal.list_changes, limit=50)
    assert [row.summary for row in rows][:3] == ["Undo: Add provider groq", "Undo: Register llm model ollama/phi", "Undo: Create project new"]  # fmt: skip
    await undo(rows[0].id)
    rows = await (await gateway.store()).ask(journal.list_changes, limit=1)
    assert rows[0].summary == "Redo: Add provider groq"


async def test_a_redone_change_is_the_newest_again(path, call, undo):
    path.write_text(FILE)
    await call(*ADD_PROVIDER)
    middle = path.read_text()
    await call(*ADD_MODEL)
    await undo(await undo())
    await undo()
    assert path.read_text() == middle


async def test_a_change_that_was_redone_in_other_surroundings_is_taken_back_by_any_of_its_names(
    path, call, undo
):
    path.write_text("# only a comment")
    change_id = await call(*ADD_PROVIDER)
    undone = await undo()
    by_hand = "# by hand\n\n# only a comment"
    path.write_text(by_hand)
    redone = await undo(undone)
    assert path.read_text().startswith(by_hand)
    error = await refused(undo, path, undone)
    assert error.details["undone_by"] == redone
    await undo(change_id)
    assert path.read_text() == by_hand
    for taken_back in (change_id, redone):
        assert "was taken back already" in (await refused(undo, path, taken_back)).message


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
async def test_a_last_line_that_got_an_end_by_what_follows_is_no_change_of_its_entry(
    path, call, undo, ending
):
    text = FILE.rstrip().replace("\n", ending)
    path.write_text(text, newline="")
    change_id = await call("create_project", {"project_id": "outbound", "name": "X", "on_conflict": "update"})
    await call(*ADD_PROJECT)
    await undo(change_id)
    await undo()
    assert path.read_bytes().decode() == text


async def test_what_was_written_elsewhere_since_stays(path, call, undo):
    path.write_text(FILE)
    await call("delete_project", {"project_id": "support-line", "confirm": True})
    by_hand = path.read_text().replace("end at midnight", "end at midnight, always") + "\n# more\n"
    path.write_text(by_hand)
    await call(*ADD_PROVIDER)
    await undo()
    await undo()
    assert path.read_text() == FILE.replace("end at midnight", "end at midnight, always") + "\n# more\n"


async def test_an_entry_in_braces_gets_its_bytes_back_beside_others_that_changed(path, call, undo):
    path.write_text(
        "providers: {a: {type: openai},  b: {type:  'openai', base_url: \"https://b.example.com\"},   c: {type: openai}}\n"
    )
    deleted = await call("delete_provider", {"provider_id": "b", "confirm": True})
    await call("add_provider", {"provider_id": "a", "provider_type": "openai", "base_url": "https://a.example.com", "on_conflict": "update"})  # fmt: skip
    await undo(deleted)
    assert "b: {type:  'openai', base_url: \"https://b.example.com\"}" in path.read_text()
    updated = await call("add_provider", {"provider_id": "b", "provider_type": "openai", "base_url": "https://b2.example.com", "on_conflict": "update"})  # fmt: skip
    await call("delete_provider", {"provider_id": "a", "confirm": True})
    await undo(updated)
    assert "b: {type:  'openai', base_url: \"https://b.example.com\"}" in path.read_text()


@pytest.fixture
def mounted(monkeypatch, tmp_path, path):
    """Makes the file one that was mounted by itself, or an ordinary one again."""
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(disk, "MOUNTS", mounts)
    monkeypatch.setattr(disk, "MOUNTS_S", 0.0)

    def set_to(state):
        mounts.write_text(f"37 36 98:0 /x {path} rw - ext4 /dev/root rw\n" if state else "")

    set_to(True)
    return set_to


@pytest.mark.usefixtures("mounted")
async def test_changes_of_the_overlay_are_taken_back_there(gateway, path, call, undo):
    path.write_text(FILE)
    overlay = gateway.store_handle.wanted_path().with_name("voicegw.overlay.yaml")
    states = [""]
    for change in (ADD_PROVIDER, ADD_PROJECT):
        await call(*change)
        states.append(overlay.read_text())
    undone = []
    for state in reversed(states[:-1]):
        undone.append(await undo())
        assert overlay.read_text() == state
    for state, change_id in zip(states[1:], reversed(undone), strict=True):
        await undo(change_id)
        assert overlay.read_text() == state
    assert path.read_text() == FILE


@pytest.mark.usefixtures("mounted")
async def test_the_first_change_of_the_overlay_is_taken_back_without_the_later_ones(
    gateway, path, call, undo
):
    path.write_text(FILE)
    first = await call(*ADD_PROVIDER)
    await call(*ADD_PROJECT)
    undone = await undo(first)
    await gateway.close()
    assert {"new"} < set(gateway.catalog().projects)
    assert "groq" not in gateway.catalog().providers
    await undo(undone)
    assert {"new"} < set(gateway.catalog().projects)
    assert "groq" in gateway.catalog().providers


async def test_a_change_of_a_file_that_became_read_only_stays(path, call, undo, mounted):
    path.write_text(FILE)
    mounted(False)
    change_id = await call(*ADD_PROJECT)
    mounted(True)
    error = await refused(undo, path, change_id, error=ReadOnly)
    assert "mounted by itself" in error.message
    mounted(False)
    await undo(change_id)
    assert path.read_text() == FILE


async def test_blank_lines_that_were_inside_a_section_that_was_emptied_are_there_again(path, call, undo):
    text = "providers: {b: {type: openai}}\nmodels:\n  stt:\n    # all\n\n    a:\n# of a\n      provider: b\n  llm: {}\n"
    path.write_text(text)
    await call("delete_model", {"model_id": "a", "confirm": True})
    await undo()
    assert path.read_text() == text
