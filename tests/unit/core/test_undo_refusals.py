"""What undo refuses, whom it names, and that nothing is written then."""

from dataclasses import replace

import anyio
import pytest
from tests.factories import NOW
from tests.protocol.agents import FILE
from tests.unit.core.conftest import ADD_PROJECT, ADD_PROVIDER, refused

from voicegw_mcp.core.gateway import Gateway
from voicegw_mcp.core.undo import undo_change
from voicegw_mcp.errors import Conflict, GatewayError, InvalidInput
from voicegw_mcp.store import changes as journal


async def test_a_change_is_not_taken_back_twice_and_the_one_that_did_it_is_named(path, call, undo):
    path.write_text(FILE)
    change_id = await call(*ADD_PROJECT)
    by = await undo()
    error = await refused(undo, path, change_id)
    assert "was taken back already by" in error.message
    assert "(test, undo) at 2026-11-18T" in error.message
    assert error.details == {"change_id": change_id, "undone_by": by}
    assert by in error.hint


@pytest.mark.parametrize("before", [1, 60])
async def test_who_changed_the_entry_since_is_named(gateway, path, call, undo, before):
    path.write_text(FILE)
    change_id = await call(*ADD_PROJECT)
    other = gateway.as_caller("claude-code")
    by = await call("create_project", {"project_id": "new", "name": "N2", "on_conflict": "update"}, other)
    for number in range(before):
        await call("create_project", {"project_id": f"p{number}", "name": "P"})
    error = await refused(undo, path, change_id)
    assert f"projects.new was changed since change {change_id} by claude-code (test, create_project) at" in error.message  # fmt: skip
    assert error.message.endswith(f"change {by}.")
    assert error.details == {"change_id": change_id, "field": "projects.new", "changed_by": by}
    await undo(by)
    await undo(change_id)
    assert "new:" not in path.read_text()


@pytest.mark.parametrize("also_by_tool", [False, True])
async def test_an_entry_that_someone_changed_outside_is_left_to_him(path, call, undo, also_by_tool):
    path.write_text(FILE)
    change_id = await call(*ADD_PROJECT)
    if also_by_tool:
        await call("create_project", {"project_id": "new", "name": "N2", "on_conflict": "update"})
    path.write_text(path.read_text().replace("  new:", "  # mine now\n  new:"))
    error = await refused(undo, path, change_id)
    assert "by someone outside of voicegw; the file was last saved at 20" in error.message
    assert error.details == {"change_id": change_id, "field": "projects.new"}


async def test_a_part_of_a_deleted_provider_that_came_back_stands_in_the_way(path, call, undo):
    path.write_text(FILE)
    change_id = await call("delete_provider", {"provider_id": "ollama", "confirm": True, "cascade": True})
    await call("add_provider", {"provider_id": "ollama", "provider_type": "ollama"})
    error = await refused(undo, path, change_id)
    assert error.details["field"] == "providers.ollama"


async def test_what_others_need_by_now_is_not_taken_away(path, call, undo):
    path.write_text(FILE)
    change_id = await call(*ADD_PROVIDER)
    await call("register_model", {"modality": "llm", "provider_id": "groq", "model_name": "llama"})
    error = await refused(undo, path, change_id)
    assert error.message == (
        f"With change {change_id} taken back, models.llm.groq/llama.provider names the provider 'groq', "
        "which does not exist."
    )
    assert "undo the change that made it" in error.hint
    await undo()
    await undo()
    assert path.read_text() == FILE


async def test_what_names_an_entry_that_is_gone_does_not_come_back(path, call, undo):
    path.write_text(FILE)
    change_id = await call("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True})
    await call("delete_provider", {"provider_id": "ollama", "confirm": True})
    error = await refused(undo, path, change_id)
    assert error.details["field"] == "models.llm.ollama/qwen3.provider"
    assert error.hint.startswith("Bring back what it names first")


async def test_an_entry_whose_id_is_taken_elsewhere_by_now_does_not_come_back(path, call, undo):
    path.write_text(FILE)
    change_id = await call("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True})
    await call("register_model", {"modality": "tts", "provider_id": "ollama", "model_name": "qwen3"})
    error = await refused(undo, path, change_id)
    assert error.message.startswith(f"Change {change_id} is not taken back. With this change voicegw.yaml:")
    assert "is a model of" in error.message
    assert error.details["change_id"] == change_id


async def test_blank_lines_between_neighbours_are_as_before_when_an_undo_is_taken_back(path, call, undo):
    path.write_text("projects:\n  a:\n    name: A\n\n  b:\n    name: B\n\n  c:\n    name: C\n")
    change_id = await call("delete_project", {"project_id": "b", "confirm": True})
    path.write_text(path.read_text().replace("\n\n", "\n"))
    before = path.read_text()
    undone = await undo(change_id)
    assert "  b:\n" in path.read_text()
    await undo(undone)
    assert path.read_text() == before


async def test_a_reference_that_led_nowhere_before_is_no_reason_to_refuse(path, call, undo):
    text = FILE.replace("llm: [openai/gpt-4.1-mini, ollama/qwen3]", "llm: [ollama/qwen3, gone/away]")
    text = text.replace("  ollama: {", "  odd: {type: odd}\n  ollama: {")
    path.write_text(text)
    for change in (
        ("delete_provider", {"provider_id": "ollama", "confirm": True, "cascade": True}),
        ("delete_provider", {"provider_id": "odd", "confirm": True}),
    ):
        change_id = await call(*change)
        path.write_text(path.read_text() + "\n# elsewhere\n")
        await undo(change_id)
        assert path.read_text() == text + "\n# elsewhere\n"
        path.write_text(text)


async def test_a_model_whose_provider_was_missing_already_comes_back_to_an_untouched_file(path, call, undo):
    text = FILE.replace("  ollama: {base_url", "  llama: {type: ollama, base_url")
    path.write_text(text)
    await call("delete_model", {"model_id": "ollama/qwen3", "confirm": True, "cascade": True})
    await undo()
    assert path.read_text() == text


async def test_a_dry_run_shows_the_diff_and_writes_nothing(gateway, path, call):
    path.write_text(FILE)
    await call(*ADD_PROJECT)
    before, rows = path.read_bytes(), await (await gateway.store()).ask(journal.list_changes, limit=9)
    found = await undo_change(gateway, tool="undo", dry_run=True)
    assert "-  new:" in found.receipt.diff
    assert found.receipt.change_id is None
    assert (path.read_bytes(), await (await gateway.store()).ask(journal.list_changes, limit=9)) == (
        before,
        rows,
    )


async def test_another_version_than_the_one_planned_on_refuses(gateway, path, call, undo):
    path.write_text(FILE)
    await call(*ADD_PROJECT)
    with pytest.raises(Conflict, match="The configuration is at version"):
        await undo(if_version="0" * 12)
    await undo(if_version=gateway.catalog().configuration.version)
    assert path.read_text() == FILE


@pytest.mark.parametrize("wrong", ["nothing", "\ud800", "ü", ""])
async def test_a_change_that_nobody_made_is_refused(path, undo, wrong):
    path.write_text(FILE)
    error = await refused(undo, path, wrong, error=InvalidInput)
    assert error.details["field"] == "change_id"


@pytest.mark.parametrize(("state", "words"), [("pending", "not settled yet"), ("failed", "never came into")])
async def test_a_change_that_is_not_in_the_file_is_not_taken_back(gateway, path, call, undo, state, words):
    path.write_text(FILE)
    (row,) = [await (await gateway.store()).ask(journal.get_change, await call(*ADD_PROJECT))]
    made = journal.new_id(NOW + 9)

    def insert(connection):
        journal.insert_pending(connection, replace(row, id=made))
        if state == "failed":
            journal.mark_failed(connection, made)

    await (await gateway.store()).write(insert)
    error = await refused(undo, path, made)
    assert words in error.message
    assert error.details == {"change_id": made, "state": state}
    await undo()  # the newest in force is the one before
    assert path.read_text() == FILE


async def test_changes_of_another_file_are_left_alone(path, call, undo, tmp_path):
    path.write_text(FILE)
    other = tmp_path / "other.yaml"
    other.write_text(FILE)
    environment = {"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")}
    theirs = Gateway.open(str(other), door="test", environment=environment, now_ms=lambda: NOW)
    try:
        await call(*ADD_PROVIDER)
        change_id = await call(*ADD_PROJECT, theirs)
        error = await refused(undo, path, change_id)
        assert f"was made to {other}, which is not the file in force now" in error.message
        assert error.hint.endswith(f"voicegw undo {change_id} --config {other}")
        await undo()
        assert path.read_text() == FILE
        assert "new:" in other.read_text()
    finally:
        await theirs.close()


@pytest.mark.parametrize("named", [False, True])
async def test_of_several_undos_of_one_change_at_once_exactly_one_succeeds(path, call, tmp_path, named):
    path.write_text(FILE)
    change_id = await call(*ADD_PROJECT)
    environment = {"VOICEGW_DB_PATH": str(tmp_path / "voicegw.db")}
    gateways = [
        Gateway.open(str(path), door="test", environment=environment, now_ms=lambda: NOW + 1) for _ in range(4)
    ]  # fmt: skip
    done, errors = [], []

    async def work(gateway):
        try:
            done.append(await undo_change(gateway, change_id if named else None, tool="undo"))
        except GatewayError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for gateway in gateways:
            tasks.start_soon(work, gateway)
    for gateway in gateways:
        await gateway.close()
    assert len(done) == 1
    assert path.read_text() == FILE
    for error in errors:
        if named or isinstance(error, Conflict):
            assert isinstance(error, Conflict), error.message
            assert "was taken back already by" in error.message
        else:
            assert "no change to undo" in error.message
